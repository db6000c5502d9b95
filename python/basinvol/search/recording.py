"""Keeping the losses that a search looks at: a cutoff chosen later starts from brackets that are already known."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .radii import DEFAULT_SLOPE, Radii, Status
from .ray_search import RUNNING, Queries
from .trace import Trace


class Recording:
    """Keeps the evaluations of a search as they are made, where they are made: a search on a device does not wait."""

    def __init__(self, num_levels: int) -> None:
        self._num_levels = num_levels
        self._queries: list[Queries] = []
        self._losses: list[Tensor] = []

    def add(self, queries: Queries, losses: Tensor) -> None:
        """Keeps losses [A, any number of levels]; columns above a query's level were not evaluated.

        The tensors are kept themselves, not copies of them, and must not be written to afterwards.
        """
        self._queries.append(queries)
        self._losses.append(losses)

    def trace(self) -> Trace:
        """All evaluations kept so far, ray by ray, on the CPU."""
        if not self._queries:
            return Trace.empty(self._num_levels)
        missing = [self._num_levels - losses.shape[1] for losses in self._losses]
        padded = [F.pad(part, (0, few), value=math.nan) for part, few in zip(self._losses, missing, strict=True)]
        # One copy of each kind from the device, whatever the number of evaluations.
        losses, level, rays, radius = (
            torch.cat(parts).cpu()
            for parts in (
                padded,
                [queries.level for queries in self._queries],
                [queries.rays for queries in self._queries],
                [queries.radius for queries in self._queries],
            )
        )
        is_evaluated = torch.arange(self._num_levels) <= level[:, None]
        # In a trace NaN means "not evaluated", so a loss that is NaN is kept as infinity.
        losses = torch.where(is_evaluated & torch.isnan(losses), math.inf, losses)
        return Trace.joined([Trace(rays, radius, losses)])


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
        num_full_evaluations=torch.zeros(num_rays, dtype=torch.float64),
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
