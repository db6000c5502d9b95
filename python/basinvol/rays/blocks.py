"""Blocks of directions on an executor: workers make the problem's engine once, and search what they are given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..backends import Backend, BackendUnavailable, Engine, RayProblem, Resources
from ..executors import Placed, num_workers, spread
from ..model.portable import PortableLandscape
from ..search.radii import Guess, Radii

# Blocks for each worker: fewer leave some idle at the end, more make them wait for the driver.
_BLOCKS_PER_WORKER = 8


@dataclass(frozen=True)
class Order:
    """What `Engine.learn_order` was told: along which rays, and how far."""

    rays: tuple[int, ...]
    radii: tuple[float, ...]


@dataclass(frozen=True)
class Block:
    """The search along some directions: from a guess, or to narrow what is known.

    Attributes:
        indices: which directions.
        guess, negligible: see `Engine.solve`.
        known, rtol: see `Engine.refine`; `known` is None for a search from a guess.
        order: what the engine has learned about the examples, if it has.
    """

    indices: range | tuple[int, ...]
    guess: Guess | None = None
    negligible: Tensor | None = None
    known: Radii | None = None
    rtol: float = 0.0
    order: Order | None = None

    @property
    def name(self) -> str:
        """The block in words, for messages."""
        verb = "the search along" if self.known is None else "the refinement of"
        return f"{verb} directions {self.indices[0]} to {self.indices[-1]}"


class Ready:
    """A problem in the form in which it travels, and its engine, which a worker makes when it is first asked for.

    Args:
        problem: what is searched.
        backend: what searches it, on every worker.
        resources: of every worker.
    """

    def __init__(self, problem: RayProblem, backend: Backend, resources: Resources) -> None:
        self._landscape = PortableLandscape(problem.landscape)
        self._scale = problem.scale.to(torch.device("cpu"))
        self._rest: dict[str, Any] = {
            "directions": problem.directions,
            "cutoffs": problem.cutoffs,
            "settings": problem.settings,
            "precision": problem.precision,
            "compile": problem.compile,
        }
        self._backend, self._resources = backend, resources
        self._order: Order | None = None

    @functools.cached_property
    def engine(self) -> Engine:
        """The problem made ready on this worker.

        Raises:
            BackendUnavailable: the backend cannot run here.
        """
        refusal = self._backend.unusable(self._landscape.device)
        if refusal is not None:
            raise BackendUnavailable(f"backend {self._backend.name!r} cannot be used on this worker: {refusal}.")
        landscape = self._landscape.make()
        problem = RayProblem(landscape=landscape, scale=self._scale.to(landscape.device), **self._rest)
        return self._backend.prepare(problem, self._resources)

    def learn(self, order: Order | None) -> None:
        """Tells the engine what it has not heard yet."""
        if order is not None and order != self._order:
            self.engine.learn_order(list(order.rays), list(order.radii))
            self._order = order


def search_block(ready: Ready, block: Block) -> Radii:
    """The radii of one block, in a worker. [L, C, len(block.indices)]"""
    ready.learn(block.order)
    indices = list(block.indices)
    if block.known is not None:
        return ready.engine.refine(indices, block.known, block.rtol)
    if block.guess is None:
        raise ValueError("a block needs a guess, or brackets that are known.")
    return ready.engine.solve(indices, block.guess, block.negligible)


class SpreadRays:
    """The search of one problem on an executor.

    Args:
        problem: what is searched.
        backend: what searches it.
        resources: of every worker.
        executor: where.
    """

    def __init__(self, problem: RayProblem, backend: Backend, resources: Resources, executor: Executor) -> None:
        ready = Ready(problem, backend, resources)
        self._ready = Placed(ready, executor, "the model, its loss or its data")
        self._executor = executor

    def search(
        self, block: Block, least: int = 1, on_done: Callable[[Radii], object] = lambda _: None
    ) -> Iterator[tuple[range, Radii]]:
        """The radii of parts of a block, with their positions in it, in the order in which they end.

        Args:
            block: all directions that are to be searched.
            least: directions that keep one worker's engine busy.
            on_done: called with every part.

        Raises:
            ValueError, OSError, TaskFailed: see `spread`.
        """
        parts = self._ranges(len(block.indices), least)
        blocks = (
            replace(
                block,
                indices=block.indices[part.start : part.stop],
                known=None if block.known is None else block.known.between(part.start, part.stop),
            )
            for part in parts
        )
        for number, radii in spread(search_block, self._ready, blocks, self._executor, lambda b: b.name):
            on_done(radii)
            yield parts[number], radii

    def _ranges(self, count: int, least: int) -> Sequence[range]:
        size = max(least, -(-count // (_BLOCKS_PER_WORKER * num_workers(self._executor))))
        return [range(start, min(start + size, count)) for start in range(0, count, size)]
