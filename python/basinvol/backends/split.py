"""Several devices of one machine: each has the whole problem and solves its own range of directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ..model.landscape import Landscape
from ..search.radii import Guess, Radii
from .problem import Engine, RayProblem

_Result = TypeVar("_Result")


class SplitEngine:
    """See `Engine`. A block of directions is a pure function of the problem, so the parts are those of one device.

    Args:
        engines: the same problem on each device.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines
        self.levels = engines[0].levels
        self.center_losses = engines[0].center_losses

    @property
    def description(self) -> str:
        """The description of the first device, and the number of devices."""
        return f"{len(self._engines)} x {self._engines[0].description}"

    @property
    def step(self) -> int:
        """The number of directions that keep every device busy."""
        return sum(engine.step for engine in self._engines)

    def solve(self, indices: Sequence[int], guess: Guess, negligible: Tensor | None = None) -> Radii:
        """See `Engine.solve`."""
        ranges = self._ranges(len(indices))
        return Radii.concatenate(
            self._each(lambda engine, part: engine.solve([indices[i] for i in part], guess, negligible), ranges)
        )

    def refine(self, indices: Sequence[int], known: Radii, rtol: float) -> Radii:
        """See `Engine.refine`."""
        ranges = self._ranges(len(indices))
        return Radii.concatenate(
            self._each(
                lambda engine, part: engine.refine(
                    [indices[i] for i in part], known.between(part.start, part.stop), rtol
                ),
                ranges,
            )
        )

    def learn_order(self, indices: Sequence[int], radii: Sequence[float]) -> None:
        """See `Engine.learn_order`."""
        for engine in self._engines:
            engine.learn_order(indices, radii)

    def _ranges(self, count: int) -> list[range]:
        share = -(-count // len(self._engines))
        return [range(start, min(start + share, count)) for start in range(0, count, share)]

    def _each(self, work: Callable[[Engine, range], _Result], ranges: list[range]) -> list[_Result]:
        with ThreadPoolExecutor(len(ranges)) as pool:
            return list(pool.map(work, self._engines, ranges))


def on_device(problem: RayProblem, device: torch.device) -> RayProblem:
    """The same problem with its tensors on another device."""
    landscape = problem.landscape
    if device == landscape.device:
        return problem
    moved = Landscape(
        landscape.model, landscape.loss_fn, (landscape.inputs, landscape.targets), landscape.levels, device=device
    )
    return dataclasses.replace(problem, landscape=moved, scale=problem.scale.to(device))


def devices_of(device: torch.device, count: int) -> list[torch.device]:
    """The devices to use: one that has a number alone, and for "cuda" without a number all `count` of them."""
    if str(device) != "cuda" or count == 1:  # "cuda:0" names one device
        return [device]
    return [torch.device("cuda", index) for index in range(count)]


def split(engines: Sequence[Engine]) -> Engine:
    """The engine itself if there is one, or else an engine that divides the directions among several."""
    return engines[0] if len(engines) == 1 else SplitEngine(engines)
