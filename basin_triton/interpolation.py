"""Chooses where to evaluate next along each ray, from the points around the crossing that are known, in logarithms.

Reference: basinvol's search/interpolation.py, which is the same bit for bit and explains it.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def past(distance, rtol):
    """Return how far to go in ln radius for a crossing estimated at `distance`. [RAYS] float64"""
    return tl.where(distance < rtol, 0.5 * (distance + rtol), distance - 0.1 * rtol)


@triton.jit
def bent(estimate, log_gap, low, rise_low, high, rise_high, third, rise_third, width, rise, has_third):
    """Return the estimate through a third point if the three rise in order, or else that of the chord. [RAYS] float64

    Given are ln radius and ln rise of the lower end, the upper end and the third point. `width` and `rise` are those of
    the bracket where it can be interpolated, and 1 elsewhere.
    """
    is_above = (third > high) & (rise_third > rise_high)
    is_below = (third < low) & (rise_third < rise_low)
    has_third = has_third & (is_above | is_below)
    first = width / rise
    second = (third - high) / tl.where(has_third, rise_third - rise_high, 1.0)
    quadratic = (second - first) / tl.where(has_third, rise_third - rise_low, 1.0)
    result = estimate + quadratic * (log_gap - rise_low) * (log_gap - rise_high)
    return tl.where(has_third & (result > low) & (result < high), result, estimate)


@triton.jit
def aim(low, high, estimate, rtol):
    """Return where to evaluate, strictly inside the bracket, by the distance from its nearer side. [RAYS] float64"""
    from_low, from_high = estimate - low, high - estimate
    where = tl.where(from_low > from_high, high - past(from_high, rtol), low + past(from_low, rtol))
    least, most = low + 0.1 * rtol, high - 0.1 * rtol
    where = tl.where(where < least, least, where)
    return tl.where(where > most, most, where)
