"""Every loss that a search looked at, kept: a cutoff chosen later starts from brackets that are already known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .radii import DEFAULT_SLOPE, Radii, Status
from .search import RUNNING


@dataclass(frozen=True)
class Trace:
    """The evaluations of D rays, ray by ray.

    Attributes:
        ray: position of the ray in its `Radii`. [E] int64, not decreasing
        radius: where the loss was evaluated. [E] float64
        losses: mean loss of every level; NaN where it was not evaluated, infinity where it was not a number. [E, L]
    """

    ray: Tensor
    radius: Tensor
    losses: Tensor

    def take(self, rays: Tensor) -> Trace:
        """The evaluations of some rays, numbered by their place in `rays` [n] int64."""
        highest = max(int(self.ray.max()) if len(self.ray) else 0, int(rays.max()) if len(rays) else 0)
        place = torch.full((highest + 1,), -1, dtype=torch.int64)
        place[rays] = torch.arange(len(rays))
        renumbered = place[self.ray]
        kept = renumbered >= 0
        return Trace(renumbered[kept], self.radius[kept], self.losses[kept])._sorted()

    def at_rays(self, rays: Tensor) -> Trace:
        """The inverse of `take`: ray i becomes rays[i]."""
        return Trace(rays[self.ray], self.radius, self.losses)

    def without(self, rays: Tensor) -> Trace:
        """All but the evaluations of these rays."""
        kept = ~torch.isin(self.ray, rays)
        return Trace(self.ray[kept], self.radius[kept], self.losses[kept])

    def only(self, levels: Sequence[int]) -> Trace:
        """The losses of some levels, by position; evaluations that saw none of them are left out."""
        losses = self.losses[:, list(levels)]
        seen = ~torch.isnan(losses).all(dim=1)
        return Trace(self.ray[seen], self.radius[seen], losses[seen])

    @classmethod
    def empty(cls, num_levels: int) -> Trace:
        """No evaluations."""
        none = torch.empty(0, dtype=torch.float64)
        return cls(torch.empty(0, dtype=torch.int64), none, none.new_empty((0, num_levels)))

    @staticmethod
    def joined(parts: Sequence[Trace]) -> Trace:
        """The evaluations of the same rays from several searches."""
        return Trace(*(torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS))._sorted()

    def _sorted(self) -> Trace:
        order = torch.argsort(self.ray, stable=True)
        return Trace(self.ray[order], self.radius[order], self.losses[order])


_FIELDS = ("ray", "radius", "losses")


def known_radii(
    trace: Trace,
    num_rays: int,
    center_losses: Tensor,
    levels: tuple[int, ...],
    cutoffs: tuple[float, ...],
    rtol: float,
    slope: Tensor | None = None,
) -> Radii:
    """What the evaluations say of other cutoffs: a bracket around the first crossing, closed or not. [L, C, D]

    Status is CROSSED where the bracket is closed to `rtol`, and the code `search.RUNNING` where a search has to go on.

    Args:
        center_losses: loss at radius 0. [L]
        rtol: relative width at which a bracket is closed; infinity for a grid, whose points are the brackets.
        slope: see `Radii`; where a search goes on, how far it steps at first. [L, C, D], default 2
    """
    shape = (len(levels), len(cutoffs), num_rays)
    lower, upper = torch.zeros(shape, dtype=torch.float64), torch.full(shape, math.inf, dtype=torch.float64)
    value_lower = center_losses.double()[:, None, None].expand(shape).clone()
    value_upper = torch.full(shape, math.nan, dtype=torch.float64)
    for row in range(len(levels)):
        for column, cutoff in enumerate(cutoffs):
            at = row, column
            loss = trace.losses[:, row]
            is_outside, is_inside = loss > cutoff, loss <= cutoff  # both false where it was not evaluated
            upper[at], value_upper[at] = _extreme(trace, loss, is_outside, upper[at], value_upper[at], "amin")
            is_inside &= trace.radius < upper[at][trace.ray]
            lower[at], value_lower[at] = _extreme(trace, loss, is_inside, lower[at], value_lower[at], "amax")
    is_closed = (upper < math.inf) & (upper - lower <= rtol * upper)
    status = torch.where(is_closed, Status.CROSSED.code, RUNNING)
    status = torch.where(is_closed & ~torch.isfinite(value_upper), Status.NON_FINITE.code, status)
    is_center_outside = ~(center_losses.double()[:, None] <= torch.tensor(cutoffs, dtype=torch.float64))
    empty = is_center_outside[..., None].expand(shape)
    center = center_losses.double()[:, None, None].expand(shape)
    return Radii(
        lower=torch.where(empty, 0.0, lower),
        upper=torch.where(empty, 0.0, upper),
        radius=torch.where(empty, 0.0, torch.full(shape, math.nan, dtype=torch.float64)),
        value_lower=torch.where(empty, center, value_lower),
        value_upper=torch.where(empty, center, value_upper),
        slope=torch.full(shape, DEFAULT_SLOPE, dtype=torch.float64) if slope is None else slope,
        status_code=torch.where(empty, Status.CENTER_OUTSIDE.code, status).to(torch.int8),
        num_evaluations=torch.zeros(num_rays, dtype=torch.int64),
        levels=levels,
        cutoffs=cutoffs,
        trace=trace,
    )


def _extreme(
    trace: Trace, loss: Tensor, chosen: Tensor, radius: Tensor, value: Tensor, reduce: str
) -> tuple[Tensor, Tensor]:
    """The smallest or largest chosen radius of every ray and the loss there; `radius`, `value` where none is chosen."""
    ray, candidates = trace.ray[chosen], trace.radius[chosen]
    found = radius.scatter_reduce(0, ray, candidates, reduce)
    is_it = candidates == found[ray]
    values = value.clone()
    values[ray[is_it]] = loss[chosen][is_it]
    return found, values
