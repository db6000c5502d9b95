"""Rays at fixed angles around an axis: they see a cone that uniform rays meet once in e^50 times.

With u uniform on the sphere and theta its angle to an axis v, the density of theta is proportional to sin(theta)^(P-2),
and the direction across the axis is uniform. So

    E_u[w(r(u))] = integral p(theta) E[w(r(theta, across))] d theta,

and each angle can be given as many rays as it needs, however rare it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..backends.unit_vector import unit_vectors
from ..estimators.stages import Stage
from ..estimators.task import Task
from ..model.directions import Directions
from ..rays import RaySolver, SearchOptions

_NUM_ANGLES, _PER_ANGLE = 14, 3
_NUM_FINER = 6  # angles between those beside the one that contributes most
# Uniform rays cover what is this many standard deviations 1 / sqrt(P) of the cosine from the equator.
_COVERED = 2.5
_RTOL = 1e-4
_SHARE_POINTS = 336  # of the quadrature of a share


@dataclass(frozen=True)
class GivenDirections(Directions):
    """Unit vectors that are given, for backends that take vectors. [D, P] float64"""

    vectors: Tensor = field(kw_only=True)

    def materialize(
        self, indices: Iterable[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """See `Directions.materialize`."""
        return self.vectors[list(indices)].to(dtype).to(device)


@dataclass(frozen=True)
class Cone:
    """What rays around one axis found.

    Attributes:
        log_number: log of the cone's part of E_u[w(r(u))], less one standard error of that part. nats
        angle: from the axis, at which most of it lies. radians
    """

    log_number: float
    angle: float


def measure_cone(task: Task, axis: Tensor, number: float) -> Cone:
    """What E_u[w(r(u))] has around an axis beyond a number that is known, where uniform rays do not cover it.

    Args:
        task: the basin.
        axis: a direction in scaled coordinates. [P] float64
        number: the estimate of log E[w(r)] that is tested. The rays at an angle add what their mean is above it, or
            else the part that the whole basin has at a wide angle would be taken for one of the cone. nats
    """
    axis = axis.double().cpu() / torch.linalg.vector_norm(axis.double().cpu())
    dim = task.space.dim
    widest = math.acos(min(_COVERED / math.sqrt(dim), 0.9))
    # Even in the logarithm near the axis, where thin things lie, and even in the angle near the equator.
    coarse = torch.cat(
        [
            torch.logspace(-4, math.log10(0.1 * widest), _NUM_ANGLES // 3, dtype=torch.float64),
            torch.linspace(0.15 * widest, widest, _NUM_ANGLES - _NUM_ANGLES // 3, dtype=torch.float64),
        ]
    )
    log_weights = _log_weights(task, axis, coarse, round_=0)
    best = int(_log_parts(coarse, _beyond(_log_mean(log_weights), number), dim).argmax())
    low = coarse[max(best - 1, 0)]
    high = coarse[min(best + 1, len(coarse) - 1)]
    finer = torch.linspace(float(low), float(high), _NUM_FINER + 2, dtype=torch.float64)[1:-1]
    angles, order = torch.cat([coarse, finer]).sort()
    log_weights = torch.cat([log_weights, _log_weights(task, axis, finer, round_=1)])[order]
    log_means = _log_mean(log_weights)
    beyond = _beyond(log_means, number)
    parts = _log_parts(angles, beyond, dim)
    if not float(parts.max()) > -math.inf:
        return Cone(-math.inf, float(angles[-1]))
    # The error of each mean, as a share of what it has beyond the number. From an axis beside that of a cone few rays
    # see much, and the mean is mostly too small, and by luck too large.
    errors = (log_weights - log_means[:, None]).exp().std(dim=1) / math.sqrt(_PER_ANGLE) * (log_means - beyond).exp()
    share = torch.softmax(parts, dim=0)
    error = float(torch.where(share > 0, share * errors, 0.0).square().sum().sqrt())
    log_number = float(torch.logsumexp(parts, dim=0)) + (math.log1p(-error) if error < 1.0 else -math.inf)
    return Cone(log_number, float(angles[parts.argmax()]))


def share_within(angle: float, dim: int) -> float:
    """The share of all directions that lie within an angle of an axis.

    Args:
        angle: at most a quarter turn. radians
        dim: P.
    """
    angles = torch.linspace(0.0, angle, _SHARE_POINTS, dtype=torch.float64)[1:]
    return float(torch.logsumexp(_log_parts(angles, torch.zeros_like(angles), dim), dim=0).exp())


def log_density_of_angles(angles: Tensor, dim: int) -> Tensor:
    """ln of the density of the angle between a uniform direction and an axis. [A]

    Args:
        angles: between 0 and a half turn. radians [A]
        dim: P.
    """
    constant = math.lgamma(0.5 * dim) - math.lgamma(0.5 * (dim - 1)) - 0.5 * math.log(math.pi)
    return constant + (dim - 2) * angles.sin().log()


def _log_weights(task: Task, axis: Tensor, angles: Tensor, round_: int) -> Tensor:
    """ln w at the first crossing of each ray, some rays at each angle to the axis. [A, rays]"""
    count = len(angles) * _PER_ANGLE
    across = unit_vectors(task.directions(count, Stage.STRATA, round_), range(count))
    across = across - (across @ axis)[:, None] * axis
    across = across / torch.linalg.vector_norm(across, dim=1, keepdim=True)
    theta = angles.repeat_interleave(_PER_ANGLE)[:, None]
    vectors = theta.cos() * axis + theta.sin() * across
    return _crossed(task, vectors).reshape(-1, _PER_ANGLE)


def _log_mean(log_weights: Tensor) -> Tensor:
    """ln E[w(r)] at each angle. [A]"""
    return torch.logsumexp(log_weights, dim=1) - math.log(_PER_ANGLE)


def _beyond(log_values: Tensor, known: float) -> Tensor:
    """ln(e^value - e^known), -inf where a value is below what is known. [A]"""
    return torch.where(log_values > known, log_values + torch.log1p(-(known - log_values).exp()), -math.inf)


def _crossed(task: Task, vectors: Tensor) -> Tensor:
    """ln w at the first crossing along each vector. [n]"""
    directions = GivenDirections(task.space, len(vectors), vectors=vectors)
    reach = task.measure.radius_max(task.space.dim)
    options = SearchOptions(
        rtol=_RTOL, radius_max=None if math.isinf(reach) else reach, num_threads=task.options.num_threads
    )
    solver = RaySolver(
        task.landscape, directions, [task.cutoff], scaling=task.scale, options=options, journal=task.journal
    )
    return task.measure.log_weights(solver.solve_all(task.progress, "probes").at().entering, task.space.dim)


def _log_parts(angles: Tensor, values: Tensor, dim: int) -> Tensor:
    """ln of each angle's part of the integral, by trapezoids. [A]"""
    padded = torch.cat([torch.zeros(1, dtype=angles.dtype), angles, angles[-1:]])
    widths = 0.5 * (padded[2:] - padded[:-2])
    return log_density_of_angles(angles, dim) + values + widths.log()
