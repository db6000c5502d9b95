"""Where to evaluate next along a ray, from the points around the crossing that are known; all in logarithms.

csrc/interpolation.h and basin_triton/interpolation.py are the same, bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor


def past(distance: Tensor, rtol: Tensor) -> Tensor:
    """How far to go in ln radius from a known radius for a crossing estimated at `distance`.

    That far, as the estimate is where the loss teaches most; or past it by half of what rtol leaves if it is that near,
    so that the two radii close the bracket. Not quite that far: the loss should be on a known side of the cutoff, and
    not within rounding of it.
    """
    return torch.where(distance < rtol, 0.5 * (distance + rtol), distance - 0.1 * rtol)


def bent(
    chord: Tensor,
    log_gap: Tensor,
    lower: tuple[Tensor, Tensor],
    upper: tuple[Tensor, Tensor],
    third: tuple[Tensor, Tensor],
    has_third: Tensor,
) -> Tensor:
    """The estimate through a third point: inverse quadratic interpolation, as in Brent's method.

    Without it the far side of a bracket would stay, and the estimate come nearer by a constant factor each time. The
    chord alone counts if the three points do not rise in order, or the parabola leaves the bracket.

    Args:
        chord: the estimate from two points. [n] float64
        log_gap: ln of the rise that is looked for. [n] float64
        lower, upper, third: ln radius and ln rise of each point. [n] float64 each
        has_third: whether there is a third point. [n] bool
    """
    (x_lower, y_lower), (x_upper, y_upper), (x_third, y_third) = lower, upper, third
    is_above, is_below = (x_third > x_upper) & (y_third > y_upper), (x_third < x_lower) & (y_third < y_lower)
    has_third = has_third & (is_above | is_below)
    first = (x_upper - x_lower) / torch.where(has_third, y_upper - y_lower, 1.0)
    second = (x_third - x_upper) / torch.where(has_third, y_third - y_upper, 1.0)
    quadratic = (second - first) / torch.where(has_third, y_third - y_lower, 1.0)
    result = chord + quadratic * (log_gap - y_lower) * (log_gap - y_upper)
    return torch.where(has_third & (result > x_lower) & (result < x_upper), result, chord)


def aim(log_lower: Tensor, log_upper: Tensor, estimate: Tensor, rtol: Tensor) -> Tensor:
    """Where to evaluate inside a bracket, by the distance of the estimated crossing from its nearer side, in ln radius.

    Args:
        log_lower, log_upper: the ends of the bracket. [n] float64
        estimate: the estimated crossing. [n] float64
        rtol: relative width at which the bracket is closed. [n] float64
    """
    from_lower, from_upper = estimate - log_lower, log_upper - estimate
    there = torch.where(from_lower > from_upper, log_upper - past(from_upper, rtol), log_lower + past(from_lower, rtol))
    # Strictly inside the bracket, or an evaluation could repeat one of its ends and change nothing.
    return torch.minimum(torch.maximum(there, log_lower + 0.1 * rtol), log_upper - 0.1 * rtol)
