"""What every estimator is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..model.directions import Directions
from ..model.landscape import Landscape
from ..model.parameters import ParameterSpace
from ..rays import RaySolver
from ..search.radii import Radii
from ..trust.measures import LEBESGUE, Measure
from ..trust.result import Volume

# Directions of different stages of one estimate share no seed: the golden ratio's digits, as SplitMix64 steps.
_STAGE = 0x9E3779B97F4A7C15
_BYTES_IN_FLIGHT = 256 * 2**20


@dataclass(frozen=True)
class Task:
    """A basin to be measured, and how rays are to be searched.

    Attributes:
        scale: of every parameter. [P]
        generator: of the directions, see `Directions`.
    """

    landscape: Landscape
    space: ParameterSpace
    scale: Tensor
    cutoff: float
    num_directions: int
    seed: int
    measure: Measure = LEBESGUE
    search: str = "interpolate"
    rtol: float = 1e-4
    resolve: str = "all"
    radius_max: float | None = None
    max_steps: int = 100
    on_censored: str = "raise"
    backend: str = "auto"
    num_threads: int | None = None
    progress: bool = False
    precision: str | None = None
    generator: str = "philox"

    def directions(self, count: int, stage: int = 0) -> Directions:
        """Directions of one stage, independent of those of other stages."""
        seed = (self.seed + stage * _STAGE) % 2**64 if stage else self.seed
        return Directions(self.space, count, seed, generator=self.generator)

    def solver(self, directions: Directions, stretch: Tensor | None = None, rtol: float | None = None) -> RaySolver:
        """Ready to find the radii along directions whose coordinates are stretched by positive factors [P].

        Raises:
            ValueError: the loss at the center is not below the cutoff.
        """
        scale = self.scale if stretch is None else (self.scale.double() * stretch.to(self.scale.device)).to(self.scale)
        reach = self.measure.radius_max(self.space.dim) if self.measure.is_finite else self.radius_max
        if reach is not None and stretch is not None:  # a stretched ray is that much shorter in its own coordinates
            reach = reach / float(stretch.min())
        solver = RaySolver(
            self.landscape,
            directions,
            [self.cutoff],
            scaling=scale,
            search=self.search,
            rtol=self.rtol if rtol is None else rtol,
            resolve=self.resolve,
            radius_max=reach,
            max_steps=self.max_steps,
            backend=self.backend,
            num_threads=self.num_threads,
            precision=self.precision,
        )
        center_loss = float(solver.center_losses[0])
        if not self.cutoff > center_loss:
            raise ValueError(
                f"`cutoff` must be above the loss at the center, got cutoff={self.cutoff:g} and "
                f"loss={center_loss:.6g}; train longer or raise `cutoff`."
            )
        return solver


@dataclass(frozen=True)
class Outcome:
    """A volume, the rays behind it and the solver that found them.

    Attributes:
        radii: of all rays that were averaged, in the measure's coordinates. [D]
        uniform_directions, uniform_radii: rays along uniform directions, for probes.
        details: what the method says about itself.
        beyond_star: the method measures the whole set {loss <= cutoff}, not only what is visible from the center.
        num_evaluations: of the loss.
    """

    volume: Volume
    radii: Radii
    solver: RaySolver
    uniform_directions: Directions
    uniform_radii: Radii
    num_evaluations: int
    details: Mapping[str, Any] = field(default_factory=dict)
    beyond_star: bool = False


def in_chunks(directions: Directions, indices: range) -> list[tuple[range, Tensor]]:
    """Unit vectors of a range of directions, some hundred megabytes at a time. [n, P] float64 each"""
    step = max(1, _BYTES_IN_FLIGHT // (8 * directions.space.dim))
    ranges = [range(i, min(i + step, indices.stop)) for i in range(indices.start, indices.stop, step)]
    return [(part, directions.materialize(part, torch.float64)) for part in ranges]
