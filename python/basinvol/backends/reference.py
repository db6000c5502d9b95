"""Any module on any torch device, one perturbed forward pass at a time: the definition of the truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..radii import Guess, Radii
from ..search import Probes, RaySearch
from ..targets import Targets
from . import RayProblem

# Directions materialized at a time: their float32 vectors stay below this many bytes.
_BYTES_IN_FLIGHT = 512 * 2**20


class ReferenceBackend:
    """The torch implementation that every other backend is tested against."""

    name = "reference"

    def unusable(self, device: torch.device) -> str | None:
        """It runs wherever torch does."""
        return None

    def unsupported(self, problem: RayProblem) -> str | None:
        """It takes any model and any search."""
        return None

    def prepare(self, problem: RayProblem, num_threads: int) -> ReferenceEngine:
        """Evaluate the center."""
        return ReferenceEngine(problem, num_threads)


class ReferenceEngine:
    """Solves rays with `Landscape.evaluate`, direction by direction in each round of the search."""

    def __init__(self, problem: RayProblem, num_threads: int) -> None:
        self._problem = problem
        self._num_threads = num_threads
        self.center_losses = problem.landscape.losses(self._parameters(problem.center)).cpu()

    def solve(self, indices: Sequence[int], guess: Guess) -> Radii:
        """The radii of these directions. [L, C, len(indices)]"""
        bytes_each = self._problem.center.numel() * self._problem.center.element_size()
        step = max(1, _BYTES_IN_FLIGHT // bytes_each)
        parts = [self._solve_block(indices[i : i + step], guess) for i in range(0, len(indices), step)]
        return Radii.concatenate(parts)

    def _solve_block(self, indices: Sequence[int], guess: Guess) -> Radii:
        problem = self._problem
        landscape, center = problem.landscape, problem.center
        targets = Targets.of(self.center_losses, problem.cutoffs, landscape.levels, guess)
        unit = problem.directions.norms(indices) if problem.settings.method == "grid" else None
        search = RaySearch(targets, problem.settings, len(indices), unit)
        moves = problem.directions.materialize(indices, center.dtype, center.device) * problem.scale
        threads = torch.get_num_threads()
        torch.set_num_threads(self._num_threads)
        try:
            with landscape.measuring():
                while (probes := search.ask()) is not None:
                    search.tell(probes, self._losses(probes, moves))
        finally:
            torch.set_num_threads(threads)
        return search.radii()

    def _losses(self, probes: Probes, moves: Tensor) -> Tensor:
        landscape = self._problem.landscape
        losses = torch.full((len(probes.rays), len(landscape.levels)), torch.nan, dtype=torch.float64)
        for row, (ray, radius, level) in enumerate(
            zip(probes.rays.tolist(), probes.radius.tolist(), probes.level.tolist(), strict=True)
        ):
            perturbed = self._problem.center + radius * moves[ray]
            losses[row, : level + 1] = landscape.evaluate(self._parameters(perturbed), level + 1).cpu()
        return losses

    def _parameters(self, vector: Tensor) -> dict[str, Tensor]:
        return self._problem.directions.space.unflatten(vector)
