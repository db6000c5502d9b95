"""The task that every method is given, and the outcome that it returns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..backends.unit_vector import unit_vectors
from ..model.directions import Directions
from ..model.landscape import Landscape
from ..model.parameters import ParameterSpace
from ..model.stretch import Stretch, StretchedDirections
from ..rays import DEFAULTS, RaySolver, SearchOptions
from ..search.radii import Radii
from ..storage.journal import Journal
from ..trust.chains import ChainSamples
from ..trust.curve import Curve
from ..trust.measures import LEBESGUE, Measure
from ..trust.result import Volume
from .batched import BatchedLoss
from .stages import Stage, stage_seed

_BYTES_IN_FLIGHT = 256 * 2**20


class CenterOutsideError(ValueError):
    """The error for a center that is in no basin: its loss, `center_loss`, is not below the cutoff."""

    def __init__(self, message: str, center_loss: float) -> None:
        super().__init__(message)
        self.center_loss = center_loss


@dataclass(frozen=True)
class Task:
    """A basin to be measured, and how rays are to be searched.

    Attributes:
        landscape: the loss; it counts every evaluation.
        space: which parameters are perturbed.
        scale: the positive factor of each parameter. [P]
        cutoff: loss that bounds the basin.
        num_directions: D, the number of rays of a plain estimate.
        seed: seed of all random numbers, see `stage_seed`.
        measure: what is measured.
        options: how rays are searched, and where.
        on_censored: what to do with rays that never cross, see `Volume.of`.
        progress: whether to show a bar.
        generator: generator of the directions, see `Directions`.
        shared: rays that are shared with tasks of other cutoffs, or None.
        journal: where finished parts are kept, and taken from, so that the task can go on after a kill; or None.
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
    shared: SharedRays | None = None
    journal: Journal | None = None

    def check_gaussian(self, method: str) -> None:
        """Refuses other measures than a Gaussian, for a method of this name.

        Raises:
            ValueError: the measure is another one.
        """
        if not self.measure.is_gaussian:
            raise ValueError(
                f"method={method!r} measures a Gaussian mass, got measure={self.measure.name!r}; pass "
                "measure='gaussian' and `sigma`."
            )

    def directions(self, count: int, stage: Stage = Stage.RAYS, round_: int = 0) -> Directions:
        """The directions of one round of one stage, independent of those of all others.

        Args:
            count: number of directions.
            stage: what they are for.
            round_: number of the round, from 0 on.
        """
        return Directions(self.space, count, stage_seed(self.seed, stage, round_), generator=self.generator)

    def stretched(self, count: int, stretch: Stretch, stage: Stage, round_: int = 0) -> StretchedDirections:
        """The directions of one round of one stage, stretched along axes.

        Args:
            count: number of directions.
            stretch: the map that stretches them.
            stage: what they are for.
            round_: number of the round, from 0 on.
        """
        return StretchedDirections(self.space, count, stage_seed(self.seed, stage, round_), stretch=stretch)

    def generator_of(self, stage: Stage) -> torch.Generator:
        """A torch generator for one stage, on the CPU."""
        return torch.Generator().manual_seed(stage_seed(self.seed, stage) % 2**63)

    def batched_loss(self, center: Tensor) -> BatchedLoss:
        """The loss at many points around the trained parameters [P], evaluated where the options say."""
        options = self.options
        return BatchedLoss(self.landscape, self.space, center, self.scale, options.num_threads, options.executor)

    def energy(self, center: Tensor, reduces: bool = False) -> BatchedLoss:
        """The loss at many points, for chains.

        Args:
            center, reduces: see `BatchedLoss`.
        """
        options = self.options
        return BatchedLoss(
            self.landscape, self.space, center, self.scale, options.num_threads, options.executor, reduces
        )

    def solver(self, directions: Directions, stretch: Tensor | None = None, rtol: float | None = None) -> RaySolver:
        """A solver for directions whose coordinates are stretched by positive factors.

        Args:
            directions: which directions.
            stretch: positive factors of the coordinates; default 1. [P]
            rtol: relative width of the brackets, instead of that of the options.

        Raises:
            CenterOutsideError: the loss at the center is not below the cutoff.
        """
        return self._solver(directions, [self.cutoff], stretch, rtol)

    def _solver(
        self, directions: Directions, cutoffs: Sequence[float], stretch: Tensor | None, rtol: float | None
    ) -> RaySolver:
        scale = self.scale if stretch is None else (self.scale.double() * stretch.to(self.scale.device)).to(self.scale)
        reach = self.measure.radius_max(self.space.dim) if self.measure.is_finite else self.options.radius_max
        if reach is not None and stretch is not None:  # a stretched ray is that much shorter in its own coordinates
            reach = reach / float(stretch.min())
        options = dataclasses.replace(self.options, radius_max=reach, rtol=self.options.rtol if rtol is None else rtol)
        solver = RaySolver(self.landscape, directions, cutoffs, scaling=scale, options=options, journal=self.journal)
        center_loss = float(solver.center_losses[0])
        if not min(cutoffs) > center_loss:
            raise CenterOutsideError(
                f"`cutoff` must be above the loss at the center, got cutoff={min(cutoffs):g} and "
                f"loss={center_loss:.6g}; train longer or raise `cutoff`.",
                center_loss,
            )
        return solver

    def uniform_rays(self, most: int | None = None, progress: bool | None = None) -> UniformRays:
        """The solved rays of a plain estimate with this seed.

        Args:
            most: most rays, where a method needs fewer than `num_directions`.
            progress: whether to show a bar; default as the task says.
        """
        progress = self.progress if progress is None else progress
        count = self.num_directions if most is None else min(self.num_directions, most)
        directions = self.directions(count)
        if self.shared is None:
            solver = self.solver(directions)
            return UniformRays(directions, solver, solver.solve_all(progress).at())
        if count not in self.shared.solved:
            solver = self._solver(directions, self.shared.cutoffs, None, None)
            self.shared.solved[count] = solver, solver.solve_all(progress)
        solver, radii = self.shared.solved[count]
        return UniformRays(directions, solver, radii.at(cutoff=self.cutoff))


@dataclass(frozen=True)
class SharedRays:
    """Rays that are solved once for tasks that differ in their cutoff alone.

    Attributes:
        cutoffs: the cutoffs of all these tasks.
        solved: solver and radii of a plain estimate, by the number of directions. [1, C, D]
    """

    cutoffs: tuple[float, ...]
    solved: dict[int, tuple[RaySolver, Radii]] = field(default_factory=dict)


@dataclass(frozen=True)
class UniformRays:
    """The rays of a plain estimate: their directions, the solver that has them, and their radii. [D]"""

    directions: Directions
    solver: RaySolver
    radii: Radii

    @property
    def center_loss(self) -> float:
        """The loss at radius 0, in the backend's arithmetic."""
        return float(self.solver.center_losses[0])

    @property
    def center(self) -> Tensor:
        """The trained parameters as one vector. [P]"""
        return self.solver.problem.center


@dataclass(frozen=True)
class Outcome:
    """A volume, the rays behind it and the solver that found them.

    Attributes:
        volume: the number, with its verdict.
        radii: radii of all rays that were averaged, in the measure's coordinates. [D]
        solver: the solver that found them.
        uniform_directions, uniform_radii: rays along uniform directions, for probes.
        details: what the method reports about itself, by name.
        beyond_star: whether the method measures the whole set {loss <= cutoff}, not only what is visible from the
            center.
        sees_all: whether the points are independent draws from the whole measure, so that no part of the set is met
            less often than its mass says.
        at_most: with 95 % confidence the log of the measure is no larger, where that is all that a method can tell.
        curve: the log mass at every cutoff that chains passed, or None.
        samples: what chains looked like at the end, or None.
    """

    volume: Volume
    radii: Radii
    solver: RaySolver
    uniform_directions: Directions
    uniform_radii: Radii
    details: Mapping[str, Any] = field(default_factory=dict)
    beyond_star: bool = False
    curve: Curve | None = None
    samples: ChainSamples | None = None
    sees_all: bool = False
    at_most: float = math.inf

    @classmethod
    def of_rays(
        cls,
        volume: Volume,
        rays: UniformRays,
        details: Mapping[str, Any] | None = None,
        beyond_star: bool = False,
        curve: Curve | None = None,
        samples: ChainSamples | None = None,
        sees_all: bool = False,
    ) -> Outcome:
        """The outcome of a method whose rays are uniform: those that it averages, or those that it begins with.

        Args:
            volume: the number, with its verdict.
            rays: the rays.
            details, beyond_star, curve, samples, sees_all: see the class.
        """
        uniform = rays.directions, rays.radii
        return cls(volume, rays.radii, rays.solver, *uniform, details or {}, beyond_star, curve, samples, sees_all)


def in_chunks(directions: Directions, indices: range) -> Iterator[tuple[range, Tensor]]:
    """Unit vectors of a range of directions, some hundred megabytes at a time. [n, P] float64 each"""
    step = max(1, _BYTES_IN_FLIGHT // (8 * directions.space.dim))
    for first in range(indices.start, indices.stop, step):
        part = range(first, min(first + step, indices.stop))
        yield part, unit_vectors(directions, part)
