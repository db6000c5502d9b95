"""Directions stretched along the soft axes of the basin, each weighted by the exact ratio of densities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends.unit_vector import unit_vectors
from ..inputs.arguments import one_of, whole_number
from ..model.stretch import Stretch
from ..progress import progress_bar
from ..rays import RaySolver
from ..search.radii import Radii
from ..trust.result import Volume
from .curvature import as_curvature, feature_groups, fit_radii, fit_secants, group_sums, hessian_diagonal
from .proposal import log_norms, solve_stretched
from .spiked import Spiked, fit_normals, undo_stretch
from .stages import Stage
from .task import Outcome, Task, in_chunks
from .tilt import Tilt

FITS = ("auto", "diagonal", "grouped", "gradients", "secant", "ggn", "hessian")
_MOST_DIAGONAL = 2000  # parameters: one coefficient each, and twice as many rays
_MOST_SECANT = 2000  # parameters: a dense matrix
_MOST_AXIS_VALUES = 2**25  # numbers in all axes together, 256 MiB in float64
_MOST_ROUNDS = 100
_FIT_RTOL = 1e-6  # a fit to P coefficients asks more of a radius than an average does


@dataclass(frozen=True)
class Options:
    """How the proposal is fitted, and how much of it stays uniform.

    Attributes:
        fit: "diagonal" or "grouped" (rows of weights), by regression of 1/r^2 on the pilot's squared coordinates;
            "gradients", a few stiff axes from the normals of the boundary; "secant", a full matrix from gradients
            there; "ggn" or "hessian", diagonals at the center; "auto": "diagonal" up to 2,000 parameters, then
            "gradients", or "grouped" on the native engine.
        curvature: second derivatives of the loss, up to a factor, instead of a fit; for example from
            `adam_curvature`. [P]
        num_pilot: rays of each round of the fit; default 2 for each coefficient, between 200 and 4,000, and for
            "secant" 1.5 for each parameter.
        rounds: number of rounds of "diagonal", "grouped" and "gradients"; every round corrects the one before in its
            coordinates.
        defensive: share of the final rays that stay uniform; the largest weight is then at most 1/defensive times that
            of the plain estimate.
    """

    fit: str = "auto"
    curvature: Tensor | None = None
    num_pilot: int | None = None
    rounds: int = 2
    defensive: float = 0.1

    def __post_init__(self) -> None:
        one_of("fit", self.fit, FITS)
        if not 0.0 < self.defensive < 1.0:
            raise ValueError(f"`defensive` must be between 0 and 1, got {self.defensive}.")
        if whole_number("rounds", self.rounds, least=1) > _MOST_ROUNDS:
            raise ValueError(
                f"`rounds` must be at most {_MOST_ROUNDS}, got {self.rounds}: each corrects the one before."
            )
        if self.num_pilot is not None:
            whole_number("num_pilot", self.num_pilot, least=2)


def estimate(task: Task, options: Options) -> Outcome:
    """The volume from log E_q[w(r(v)) / q(v)], with v from a mixture of uniform and stretched directions.

    The stretched directions have the density of an angular central Gaussian.

    The Gaussian's axes are those of an ellipsoid that is fitted to a pilot. The pilot's directions are independent of
    the final ones, so that the estimate is unbiased whatever the fit.

    Bias: on the log scale the number is too low where the fit misses the shape: an error of 0.05 in the logs of 1,000
    semi-axes costs 0.1 nats, 0.2 costs 9; the mixture bounds the harm, and k-hat shows it. Bodies that are not
    ellipsoids (|w|^4, a spike) stay out of reach in many dimensions. Cost: the pilot, and five evaluations a direction.
    Source: importance sampling with a defensive component (Hesterberg 1995; Owen and Zhou 2000), the density of Tyler
    (1987).
    """
    if task.options.search == "grid":
        raise ValueError("method='preconditioned' needs exact radii; use search='interpolate' or 'bisect'.")
    fitted = _Fit(task, options)
    stretch = fitted.run()
    num_uniform = max(1, math.ceil(options.defensive * task.num_directions))
    num_stretched = max(1, task.num_directions - num_uniform)
    share = num_uniform / (num_uniform + num_stretched)

    uniform = task.directions(num_uniform, Stage.UNIFORM)
    plain = task.solver(uniform).solve_all(task.progress, "uniform rays").at()
    log_norm = torch.cat([log_norms(stretch.solve(part)) for _, part in in_chunks(uniform, range(num_uniform))])
    solver, found, found_norm = solve_stretched(task, num_stretched, stretch)

    radii = Radii.concatenate([plain, found])
    log_density = stretch.log_density(torch.cat([log_norm, found_norm]))
    # Each ray is divided by the density of the whole mixture, whichever part it came from.
    log_mixture = torch.logaddexp(torch.tensor(math.log(share)), log_density + math.log1p(-share))
    is_stretched = torch.arange(len(radii)) >= num_uniform
    volume = Volume.of(radii, task.space, task.scale, task.on_censored, task.measure, -log_mixture, is_stretched)
    details = {
        "fit": fitted.name,
        "pilot_rays": fitted.num_rays,
        "uniform_share": share,
        "log_axis_spread": fitted.log_axis_spread,
    }
    return Outcome(volume, radii, solver, fitted.pilot_directions, fitted.pilot, details)


class _Fit:
    """Finds the stretch, and keeps the first pilot, the number of rays and the spread of the axes."""

    def __init__(self, task: Task, options: Options) -> None:
        self.task, self.options = task, options
        self.name = "given" if options.curvature is not None else options.fit
        if self.name == "auto":
            many = "grouped" if task.options.backend == "native" else "gradients"
            self.name = "diagonal" if task.space.dim <= _MOST_DIAGONAL else many
        if self.name == "secant" and task.space.dim > _MOST_SECANT:
            raise ValueError(
                f"fit='secant' is for at most {_MOST_SECANT} parameters, got {task.space.dim}; use 'grouped'."
            )
        self.num_rays = 0
        self.log_axis_spread = 0.0

    def run(self) -> Stretch:
        """The stretch of the best ellipsoid."""
        task, space = self.task, self.task.space
        grouping = self.name if self.name in ("diagonal", "grouped") else "grouped"
        groups, num_groups = feature_groups(space, grouping)
        count = self.options.num_pilot or min(max(2 * num_groups, 200), 4000)
        if self.name == "secant":
            count = self.options.num_pilot or max(math.ceil(1.5 * space.dim), 20)
        elif self.name == "gradients":
            count = self.options.num_pilot or min(300, max(_MOST_AXIS_VALUES // space.dim, 20))
        elif self.name not in ("diagonal", "grouped"):
            count = self.options.num_pilot or 200
        self.pilot_directions = task.directions(count, Stage.PILOT)
        solver = task.solver(self.pilot_directions, rtol=min(task.options.rtol, _FIT_RTOL))
        self.pilot = self._spend(solver.solve_all(self.task.progress, "pilot").at())
        radius = self.pilot.entering

        if self.name == "secant":
            return self._secant(solver, radius)
        if self.name == "gradients":
            return self._normals(count, solver, radius)
        if self.name in ("diagonal", "grouped"):
            curvature = self._regress(groups, num_groups, count, radius)
        else:
            given = self.options.curvature
            if given is None:
                probes = 32
                given = hessian_diagonal(task.landscape, space, solver.problem.center, self.name, probes, task.seed)
            elif given.shape != (space.dim,):
                raise ValueError(f"`curvature` must have shape [{space.dim}], got {list(given.shape)}.")
            curvature = as_curvature(given, task.scale, radius)
        return Stretch.along_coordinates(self._lengths(curvature))

    def _regress(self, groups: Tensor, num_groups: int, count: int, radius: Tensor) -> Tensor:
        """The curvature by regression, corrected round by round in the coordinates of the round before. [P]"""
        directions, curvature = self.pilot_directions, torch.ones(len(groups), dtype=torch.float64)
        for round_ in range(self.options.rounds):
            if round_ > 0:
                directions = self.task.directions(count, Stage.PILOT, round_)
                stretch = curvature.rsqrt().to(self.task.scale).double()
                solver = self.task.solver(directions, stretch, rtol=min(self.task.options.rtol, _FIT_RTOL))
                radius = self._spend(solver.solve_all(self.task.progress, f"pilot {round_ + 1}").at()).entering
            chunks = in_chunks(directions, range(count))
            features = torch.cat([group_sums(part.square(), groups, num_groups) for _, part in chunks])
            curvature = curvature * fit_radii(features, radius)[groups]
        return curvature

    def _secant(self, solver: RaySolver, radius: Tensor) -> Stretch:
        task, scale = self.task, self.task.scale.double().cpu()
        points = radius[:, None] * unit_vectors(self.pilot_directions, range(len(radius)))
        gradients = self._gradients(solver.problem.center, points, scale)
        rise = task.cutoff - float(solver.center_losses[0])
        curvature, axes = fit_secants(points, gradients, rise)
        return Stretch.along_axes(axes, self._lengths(curvature))

    def _normals(self, count: int, solver: RaySolver, radius: Tensor) -> Stretch:
        """Stiff axes from gradients on the boundary, round by round in the coordinates of the round before."""
        task, scale = self.task, self.task.scale.double().cpu()
        vectors = unit_vectors(self.pilot_directions, range(count))
        empty = torch.empty((task.space.dim, 0), dtype=torch.float64)
        precision = Spiked(1.0, empty, torch.empty(0, dtype=torch.float64))
        stretch = Stretch.along_axes(precision.axes, precision.values)
        for round_ in range(self.options.rounds):
            if round_ > 0:
                directions = task.stretched(count, stretch, Stage.PILOT, round_)
                radius = self._spend(
                    task.solver(directions).solve_all(task.progress, f"pilot {round_ + 1}").at()
                ).entering
                vectors = unit_vectors(directions, range(count))
            points = radius[:, None] * vectors
            gradients = self._gradients(solver.problem.center, points, scale)
            found = fit_normals(stretch.solve(points), stretch.apply(gradients))
            curvature = undo_stretch(found, precision)
            tilt = Tilt.of(curvature.spectrum(), task.measure)
            precision = Spiked(tilt.base + tilt.tau * curvature.bulk, curvature.axes, tilt.precision(curvature.values))
            stretch = Stretch.along_axes(precision.axes, (precision.bulk / precision.values).sqrt())
        self.log_axis_spread = float(precision.spectrum().log().std()) / 2.0
        return stretch

    def _gradients(self, center: Tensor, points: Tensor, scale: Tensor) -> Tensor:
        """The gradients at offsets [n, P] from the center, see `_gradient`. [n, P]"""
        rows = []
        with progress_bar(self.task.progress, len(points), "gradients") as bar:
            for point in points:
                rows.append(self._gradient(center, point, scale))
                bar.update()
        return torch.stack(rows)

    def _gradient(self, center: Tensor, point: Tensor, scale: Tensor) -> Tensor:
        """The gradient of the loss at an offset from the center, both in scaled coordinates. [P]"""
        moved = center + (point * scale).to(center)
        named = self.task.landscape.gradient(self.task.space.unflatten(moved))[1]
        return torch.cat([named[name].reshape(-1) for name in self.task.space.names]).double().cpu() * scale

    def _lengths(self, curvature: Tensor) -> Tensor:
        """Semi-axes with geometric mean 1. [P]"""
        log_lengths = -0.5 * Tilt.of(curvature, self.task.measure).precision(curvature).log()
        log_lengths = log_lengths - log_lengths.mean()  # only ratios matter: a common factor changes no direction
        self.log_axis_spread = float(log_lengths.std())
        return log_lengths.exp()

    def _spend(self, radii: Radii) -> Radii:
        self.num_rays += len(radii)
        return radii
