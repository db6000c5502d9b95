"""Any module on any torch device, one perturbed forward pass at a time: the definition of the truth."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..search import Queries, RaySearch, SearchSettings
from ..search.radii import Guess, Radii
from ..search.recording import Recording
from ..search.targets import Targets
from .problem import RayProblem, Resources

# The vectors of directions that are materialized at a time stay below this many bytes.
_BYTES_IN_FLIGHT = 512 * 2**20


class ReferenceBackend:
    """The torch implementation that every other backend is tested against."""

    name = "reference"
    precisions: tuple[str, ...] = ("fp32",)
    direction_kinds: tuple[str, ...] = ()  # it takes their vectors

    def unusable(self, device: torch.device) -> str | None:
        """Returns None for every device, because it runs wherever torch does."""
        return None

    def unsupported(self, problem: RayProblem) -> str | None:
        """Returns None for every problem, because it takes any model and any search."""
        return None

    def prepare(self, problem: RayProblem, resources: Resources) -> ReferenceEngine:
        """Evaluates the center, and returns the engine."""
        return ReferenceEngine(problem, resources.num_threads)


class ReferenceEngine:
    """Solves rays with `Landscape.evaluate`, direction by direction in each round of the search."""

    step = 8  # directions between two updates of the progress bar, or two chances to interrupt

    def __init__(self, problem: RayProblem, num_threads: int) -> None:
        self._problem = problem
        self._num_threads = num_threads
        self._scale = problem.scale.vector()
        self.levels = problem.landscape.levels
        with problem.landscape.measuring():
            self.center_losses = problem.landscape.evaluate(self._parameters(problem.center)).cpu()

    @property
    def description(self) -> str:
        """The version of torch and the device, in a few words."""
        return f"torch {torch.__version__} on {self._problem.landscape.device}"

    def solve(self, indices: Sequence[int], guess: Guess, negligible: Tensor | None = None) -> Radii:
        """See `Engine.solve`."""
        parts = []
        for block in self._blocks(indices):
            search = self._start(block, guess, self._problem.settings, self._problem.settings.rtol)
            with self._measuring():
                moves, seen = self._moves(block), Recording(len(self.levels))
                if negligible is not None:
                    self._prove(search, moves, seen, negligible.reshape(-1))
                self._run(search, moves, seen)
            parts.append(dataclasses.replace(search.radii(), trace=seen.trace()))
        return Radii.concatenate(parts)

    def refine(self, indices: Sequence[int], known: Radii, rtol: float) -> Radii:
        """See `Engine.refine`."""
        guess = Guess.generic(len(self.levels), len(self._problem.cutoffs), 1.0)  # not used: brackets are known
        parts = []
        for position, block in zip(self._blocks(range(len(indices))), self._blocks(indices), strict=True):
            search = self._start(block, guess, self._problem.settings.for_refinement(), rtol)
            search.restore(known.take(torch.tensor(position)))
            seen = Recording(len(self.levels))
            with self._measuring():
                self._run(search, self._moves(block), seen)
            parts.append(dataclasses.replace(search.radii(), trace=seen.trace()))
        return Radii.concatenate(parts)

    def learn_order(self, indices: Sequence[int], radii: Sequence[float]) -> None:
        """Does nothing: a user's loss may be negative, and then a partial sum proves nothing."""

    def _start(self, block: Sequence[int], guess: Guess, settings: SearchSettings, rtol: float) -> RaySearch:
        problem = self._problem
        targets = Targets.of(self.center_losses, problem.cutoffs, self.levels, guess, rtol)
        unit = problem.directions.norms(block) if settings.method == "grid" else None
        return RaySearch(targets, settings, len(block), unit)

    def _prove(self, search: RaySearch, moves: Tensor, seen: Recording, negligible: Tensor) -> None:
        """Evaluates each ray once, where it would begin to matter; rays outside there are not solved."""
        targets = search.targets
        for target in targets.order.tolist():
            level = int(targets.level[target])
            running, radius = search.candidates(target, float(negligible[target]))
            if len(running) == 0:
                continue
            queries = Queries(running, radius, torch.full_like(running, level))
            losses = self._losses(queries, moves)
            seen.add(queries, losses)
            search.settle(queries, target, losses[:, level])

    def _run(self, search: RaySearch, moves: Tensor, seen: Recording) -> None:
        while (queries := search.ask()) is not None:
            losses = self._losses(queries, moves)
            seen.add(queries, losses)
            search.tell(queries, losses)

    def _losses(self, queries: Queries, moves: Tensor) -> Tensor:
        landscape = self._problem.landscape
        losses = torch.full((len(queries.rays), len(landscape.levels)), torch.nan, dtype=torch.float64)
        for row, (ray, radius, level) in enumerate(
            zip(queries.rays.tolist(), queries.radius.tolist(), queries.level.tolist(), strict=True)
        ):
            perturbed = self._problem.center + radius * moves[ray]
            losses[row, : level + 1] = landscape.evaluate(self._parameters(perturbed), level + 1).cpu()
        return losses

    def _moves(self, block: Sequence[int]) -> Tensor:
        center = self._problem.center
        return self._problem.directions.materialize(block, center.dtype, center.device) * self._scale

    def _blocks(self, indices: Sequence[int]) -> list[Sequence[int]]:
        bytes_each = self._problem.center.numel() * self._problem.center.element_size()
        step = max(1, _BYTES_IN_FLIGHT // bytes_each)
        return [indices[i : i + step] for i in range(0, len(indices), step)]

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        threads = torch.get_num_threads()
        torch.set_num_threads(self._num_threads)
        try:
            with self._problem.landscape.measuring():
                yield
        finally:
            torch.set_num_threads(threads)

    def _parameters(self, vector: Tensor) -> dict[str, Tensor]:
        return self._problem.directions.space.unflatten(vector)
