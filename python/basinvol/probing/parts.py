"""Parts of the set that are not visible from the center: rays from their own lowest points measure them.

With b such a point, u uniform on the sphere, and r(u) where the ray from b first leaves the set, what is visible from b
adds

    E_u[w_b(r(u), u)],     w_b(r, u) = P integral_0^r rho^(P-1) g(b + rho u) d rho,

to E_u[w(r(u))] of the center, where g is the measure's density in the units of w. It depends on u by its angle to the
center alone, and for a ball it has its peak at an angle where uniform directions may be rare. So angles are drawn as a
ball of the typical radius would have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends.motion import PointsInPlanes
from ..backends.unit_vector import unit_vectors
from ..estimators.batched import BatchedLoss
from ..estimators.stages import Stage
from ..estimators.task import Task
from ..trust.measures import Measure
from ..trust.volume import log_unit_ball
from .strata import log_density_of_angles

_NUM_PILOT, _NUM_RAYS = 8, 24
_SHORTEST, _GROWTH = 1 / 32, 1.5  # where the search along a ray begins, as a share of the distance, and its steps
_MOST_HALVINGS = 40
_NATS = 0.05  # that brackets leave of P ln r
_NUM_ANGLES, _NUM_NODES = 4_000, 400  # of quadratures
_FIRST_NODE, _LAST_NODE = 1e-4, 40.0  # of P ln(r / rho), the last one times P


def measure_part(task: Task, bottom: Tensor) -> float:
    """What the part of the set around a point adds to E_u[w(r(u))] of the center, as a logarithm, in nats.

    It is the part that is visible from there, out to the center's distance: a bound from below.

    Args:
        task: the basin.
        bottom: a point inside that is not visible from the center, best the lowest of its part. [P] float64
    """
    bottom = bottom.double().cpu()
    distance = float(torch.linalg.vector_norm(bottom))
    if not distance < task.measure.limit:
        return -math.inf
    rays = _RaysFrom(task, -bottom / distance, distance)
    units = unit_vectors(task.directions(_NUM_PILOT + _NUM_RAYS, Stage.STRATA), range(_NUM_PILOT + _NUM_RAYS))
    pilot = units[:_NUM_PILOT]
    typical = float(rays.radii(pilot, (pilot @ rays.toward).clamp(-1.0, 1.0).acos(), _SHORTEST * distance).median())
    if typical == 0.0:
        return -math.inf
    weight = _Weight(task.measure, task.space.dim, distance)
    grid = (torch.arange(_NUM_ANGLES, dtype=torch.float64) + 0.5) * (math.pi / _NUM_ANGLES)
    log_parts = log_density_of_angles(grid, task.space.dim) + weight.log(torch.full_like(grid, typical), grid)
    if not float(log_parts.max()) > -math.inf:
        return -math.inf
    share = torch.softmax(log_parts, dim=0).cumsum(dim=0)
    quantiles = (torch.arange(_NUM_RAYS, dtype=torch.float64) + 0.5) / _NUM_RAYS
    angles = grid[torch.searchsorted(share, quantiles).clamp(max=_NUM_ANGLES - 1)]
    found = rays.radii(units[_NUM_PILOT:], angles, typical / _GROWTH**2)
    log_ratios = weight.log(found, angles) - weight.log(torch.full_like(found, typical), angles)
    of_ball = float(torch.logsumexp(log_parts, dim=0)) + math.log(math.pi / _NUM_ANGLES)
    return of_ball + float(torch.logsumexp(log_ratios, dim=0)) - math.log(_NUM_RAYS)


class _RaysFrom:
    """Rays from a point beside the center, in scaled coordinates.

    Args:
        task: the basin.
        toward: the direction from the point to the center. unit vector [P]
        distance: between the two.
    """

    def __init__(self, task: Task, toward: Tensor, distance: float) -> None:
        self.toward, self._distance, self._cutoff = toward, distance, task.cutoff
        self._rtol = _NATS / task.space.dim
        center = task.space.flatten(task.landscape.model).to(task.landscape.device)
        self._energy = BatchedLoss(task.landscape, task.space, center, task.scale, task.options.num_threads)

    def radii(self, units: Tensor, angles: Tensor, start: float) -> Tensor:
        """How far the set reaches, at most to the center's distance; found inside and outside a radius apart. [n]

        Args:
            units: directions, of which what is across `toward` counts. [n, P]
            angles: to `toward`. radians [n]
            start: the first radius that is tried.
        """
        across = units - (units @ self.toward)[:, None] * self.toward
        across = across / torch.linalg.vector_norm(across, dim=1, keepdim=True)
        axes = self.toward.expand_as(across)

        def is_inside(radius: Tensor, rays: Tensor) -> Tensor:
            first, second = radius[rays] * angles[rays].cos() - self._distance, radius[rays] * angles[rays].sin()
            at = PointsInPlanes(axes, across, rays, first, second)
            return self._energy.losses_within(at, torch.full_like(first, self._cutoff)) <= self._cutoff

        low, high = torch.zeros_like(angles), torch.full_like(angles, start)
        growing = torch.arange(len(angles))
        while len(growing):
            growing = growing[is_inside(high, growing)]
            low[growing] = high[growing]
            growing = growing[high[growing] < self._distance]
            high[growing] = (_GROWTH * high[growing]).clamp(max=self._distance)
        for _ in range(_MOST_HALVINGS):
            open_ = (high - low > self._rtol * high).nonzero().reshape(-1)
            if not len(open_):
                break
            middle = 0.5 * (low + high)
            inside = is_inside(middle, open_)
            low[open_[inside]], high[open_[~inside]] = middle[open_[inside]], middle[open_[~inside]]
        return low


@dataclass(frozen=True)
class _Weight:
    """The weight w_b of a ray from a point at a distance from the center.

    Attributes:
        measure: what is measured.
        dim: P.
        distance: |b|.
    """

    measure: Measure
    dim: int
    distance: float

    def log(self, radius: Tensor, angle: Tensor) -> Tensor:
        """ln w_b for rays of a radius, at an angle to the direction of the center. [n]"""
        if self.measure.is_ball:
            # From inside of the ball: where a ray leaves it.
            across = self.distance * angle.sin()
            leaving = self.distance * angle.cos() + (self.measure.limit**2 - across**2).clamp(min=0.0).sqrt()
            radius = torch.minimum(radius, leaving)
        log_weight = self.dim * radius.log()
        return log_weight + self._log_mean_density(radius, angle) if self.measure.is_gaussian else log_weight

    def _log_mean_density(self, radius: Tensor, angle: Tensor) -> Tensor:
        """ln of the Gaussian's mean density along rays, with weights rho^(P-1). [n]

        With rho = r exp(-s / P) it is the integral of exp(-s) g over s, which is taken evenly in ln s.
        """
        log_s = torch.linspace(math.log(_FIRST_NODE), math.log(_LAST_NODE * self.dim), _NUM_NODES, dtype=torch.float64)
        rho = radius[:, None] * (-log_s.exp() / self.dim).exp()
        square = self.distance**2 - 2.0 * self.distance * rho * angle.cos()[:, None] + rho**2
        terms = log_s - log_s.exp() - 0.5 * square / self.measure.variance
        log_unit = log_unit_ball(self.dim) - 0.5 * self.dim * math.log(2.0 * math.pi * self.measure.variance)
        return torch.logsumexp(terms, dim=1) + math.log(float(log_s[1] - log_s[0])) + log_unit
