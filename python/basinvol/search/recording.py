"""Keeping the losses that a search looks at: a cutoff chosen later starts from brackets that are already known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .radii import DEFAULT_SLOPE, Radii, Status
from .ray_search import RUNNING, Queries
from .trace import Trace


class Recording:
    """Keeps the evaluations of a search as they are made."""

    def __init__(self, num_levels: int) -> None:
        self._num_levels = num_levels
        self._parts = [Trace.empty(num_levels)]

    def add(self, queries: Queries, losses: Tensor) -> None:
        """Keeps losses [A, any number of levels]; columns above a query's level were not evaluated."""
        # In a trace NaN means "not evaluated", so a loss that is NaN is kept as infinity.
        losses, level = losses.cpu(), queries.level.cpu()
        is_evaluated = torch.arange(losses.shape[1]) <= level[:, None]
        failed = is_evaluated & torch.isnan(losses)
        kept = torch.full((len(losses), self._num_levels), math.nan, dtype=torch.float64)
        kept[:, : losses.shape[1]] = torch.where(failed, math.inf, losses)
        self._parts.append(Trace(queries.rays.cpu(), queries.radius.cpu(), kept))

    def trace(self) -> Trace:
        """All evaluations kept so far, ray by ray."""
        return Trace.joined(self._parts)


def known_radii(
    trace: Trace,
    num_rays: int,
    center_losses: Tensor,
    levels: tuple[int, ...],
    cutoffs: tuple[float, ...],
    rtol: float,
    slope: Tensor | None = None,
) -> Radii:
    """The brackets that known evaluations give at other cutoffs, around the first crossing, closed or not. [L, C, D]

    The status is CROSSED where the bracket is closed to `rtol`, and the code `search.RUNNING` where a search has to go
    on.

    Args:
        trace: the evaluations, of D rays and L levels.
        num_rays: D.
        center_losses: loss at radius 0. [L]
        levels: numbers of examples of the L levels.
        cutoffs: the C losses that are looked for.
        rtol: relative width at which a bracket is closed; infinity for a grid, whose points are the brackets.
        slope: see `Radii`; it decides the first step where a search goes on; default 2. [L, C, D]
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
            # Only below the first point outside: on a ray that enters again, lower would else exceed upper.
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
