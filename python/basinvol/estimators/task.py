"""What every method is given, and what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..model.directions import Directions
from ..model.landscape import Landscape
from ..model.parameters import ParameterSpace
from ..model.stretch import Stretch, StretchedDirections
from ..rays import DEFAULTS, RaySolver, SearchOptions
from ..search.radii import Radii
from ..trust.measures import LEBESGUE, Measure
from ..trust.result import Volume
from .stages import Stage, stage_seed

_BYTES_IN_FLIGHT = 256 * 2**20


@dataclass(frozen=True)
class Task:
    """A basin to be measured, and how rays are to be searched.

    Attributes:
        landscape: the loss; it counts every evaluation.
        space: which parameters are perturbed.
        scale: of every parameter. [P]
        cutoff: loss that bounds the basin.
        num_directions, seed: of the rays.
        measure: what is measured.
        options: of the search.
        on_censored: what to do with rays that never cross.
        progress: show a bar.
        generator: of the directions, see `Directions`.
    """

    landscape: Landscape
    space: ParameterSpace
    scale: Tensor
    cutoff: float
    num_directions: int
    seed: int
    measure: Measure = LEBESGUE
    options: SearchOptions = DEFAULTS
    on_censored: str = "raise"
    progress: bool = False
    generator: str = "philox"

    def directions(self, count: int, stage: Stage = Stage.RAYS, round_: int = 0) -> Directions:
        """Directions of one round of one stage, independent of those of all others."""
        return Directions(self.space, count, stage_seed(self.seed, stage, round_), generator=self.generator)

    def stretched(self, count: int, stretch: Stretch, stage: Stage, round_: int = 0) -> StretchedDirections:
        """The same, stretched along axes."""
        return StretchedDirections(self.space, count, stage_seed(self.seed, stage, round_), stretch=stretch)

    def generator_of(self, stage: Stage) -> torch.Generator:
        """Torch's generator of one stage, on the CPU."""
        return torch.Generator().manual_seed(stage_seed(self.seed, stage) % 2**63)

    def solver(self, directions: Directions, stretch: Tensor | None = None, rtol: float | None = None) -> RaySolver:
        """Ready to find the radii along directions whose coordinates are stretched by positive factors [P].

        Args:
            directions: which.
            stretch: positive factors of the coordinates. [P]
            rtol: instead of that of the options.

        Raises:
            ValueError: the loss at the center is not below the cutoff.
        """
        scale = self.scale if stretch is None else (self.scale.double() * stretch.to(self.scale.device)).to(self.scale)
        reach = self.measure.radius_max(self.space.dim) if self.measure.is_finite else self.options.radius_max
        if reach is not None and stretch is not None:  # a stretched ray is that much shorter in its own coordinates
            reach = reach / float(stretch.min())
        options = dataclasses.replace(self.options, radius_max=reach, rtol=self.options.rtol if rtol is None else rtol)
        solver = RaySolver(self.landscape, directions, [self.cutoff], scaling=scale, options=options)
        center_loss = float(solver.center_losses[0])
        if not self.cutoff > center_loss:
            raise ValueError(
                f"`cutoff` must be above the loss at the center, got cutoff={self.cutoff:g} and "
                f"loss={center_loss:.6g}; train longer or raise `cutoff`."
            )
        return solver

    def uniform_rays(self, most: int | None = None, progress: bool = False) -> UniformRays:
        """Solved rays of a plain estimate with this seed.

        Args:
            most: fewer than `num_directions` where a method needs no more.
            progress: show a bar.
        """
        count = self.num_directions if most is None else min(self.num_directions, most)
        directions = self.directions(count)
        solver = self.solver(directions)
        return UniformRays(directions, solver, solver.solve_all(progress).at())


@dataclass(frozen=True)
class UniformRays:
    """Directions, the solver that has them, and their radii. [D]"""

    directions: Directions
    solver: RaySolver
    radii: Radii

    @property
    def center_loss(self) -> float:
        """The loss at radius 0, in the backend's arithmetic."""
        return float(self.solver.center_losses[0])

    @property
    def center(self) -> Tensor:
        """The trained parameters. [P]"""
        return self.solver.problem.center


@dataclass(frozen=True)
class Outcome:
    """A volume, the rays behind it and the solver that found them.

    Attributes:
        radii: of all rays that were averaged, in the measure's coordinates. [D]
        uniform_directions, uniform_radii: rays along uniform directions, for probes.
        details: what the method says about itself.
        beyond_star: the method measures the whole set {loss <= cutoff}, not only what is visible from the center.
    """

    volume: Volume
    radii: Radii
    solver: RaySolver
    uniform_directions: Directions
    uniform_radii: Radii
    details: Mapping[str, Any] = field(default_factory=dict)
    beyond_star: bool = False

    @classmethod
    def of_rays(
        cls, volume: Volume, rays: UniformRays, details: Mapping[str, Any] | None = None, beyond_star: bool = False
    ) -> Outcome:
        """A volume beside the uniform rays that it was measured with, or that a method began with.

        Args:
            volume: the number, with its verdict.
            rays: the rays.
            details, beyond_star: see the class.
        """
        return cls(volume, rays.radii, rays.solver, rays.directions, rays.radii, details or {}, beyond_star)


def in_chunks(directions: Directions, indices: range) -> list[tuple[range, Tensor]]:
    """Unit vectors of a range of directions, some hundred megabytes at a time. [n, P] float64 each"""
    step = max(1, _BYTES_IN_FLIGHT // (8 * directions.space.dim))
    ranges = [range(i, min(i + step, indices.stop)) for i in range(indices.start, indices.stop, step)]
    return [(part, directions.materialize(part, torch.float64)) for part in ranges]
