"""Makes one step of the radius search of every active ray on the device: take the losses, judge, propose, compact.

Reference: `tell` and `ask` of `basinvol.search.RaySearch`. The two are the same bit for bit, so change both or neither.
basinvol's search/ray_search.py explains the algorithm. The state of D rays with T targets each is held in the
tensors of `RaySearch`, [D, T], which stay on the device for the whole search.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .compact import compact
from .interpolation import aim, bent, past
from .portable_math import portable_exp, portable_log

METHODS = ("interpolate", "bisect", "grid")

# Positions in basinvol's Status.
_RUNNING = tl.constexpr(-1)
_CROSSED = tl.constexpr(0)
_CENSORED = tl.constexpr(1)
_NON_FINITE = tl.constexpr(3)
_MAX_STEPS = tl.constexpr(4)

# The constants of basinvol's search/ray_search.py, which says what each is for: ln 2, ln 16, ln 4, and so on.
_LOG_2 = tl.constexpr(0.6931471805599453)
_LOG_MAX_STEP = tl.constexpr(2.772588722239781)
_LOG_BLIND_STEP = tl.constexpr(1.3862943611198906)
_MAX_STALLS = tl.constexpr(3)
_EXACT_STEPS = tl.constexpr(2)
_MIN_SLOPE_WIDTH = tl.constexpr(1e-3)
_MIN_CLOSED_WIDTH = tl.constexpr(3e-5)

# A program is one warp of 32 lanes, one ray to a lane: each lane reads again only what it stored itself.
_RAYS = 32


@dataclass(frozen=True)
class State:
    """The searches of D rays for T targets each. Each tensor is contiguous, [D, T] unless stated otherwise.

    Attributes:
        lower, upper: The bracket: a radius inside the basin, and one outside or infinity. float64
        value_lower, value_upper: The losses at these two radii. float64
        replaced, value_replaced: The end of the bracket that was replaced last, or 0, and the loss there. float64
        slope: What is known of d ln(loss - loss at the center) / d ln(radius). float64
        steps: How many points were proposed for each target. int64
        width: The logarithm of upper / lower when the bracket was last halved, or bisected. float64
        stalls: How many points were proposed since then. int64
        status: A position in basinvol's `Status`, or -1 while the search is running. int8
        num_evaluations: How often the loss was evaluated on each ray. [D] int64
        num_examples: How many losses of single examples that took. [D] int64
        grid_index: The position of each ray in the grid. [D] int64
        unit: The length of the grid's unit on each ray. [D] float64
    """

    lower: Tensor
    upper: Tensor
    value_lower: Tensor
    value_upper: Tensor
    replaced: Tensor
    value_replaced: Tensor
    slope: Tensor
    steps: Tensor
    width: Tensor
    stalls: Tensor
    status: Tensor
    num_evaluations: Tensor
    num_examples: Tensor
    grid_index: Tensor
    unit: Tensor


@dataclass(frozen=True)
class Plan:
    """What is searched for along every ray, and how. A target is one level and one cutoff.

    Attributes:
        level: The level of each target. [T] int64
        relative: The target whose radius on the same ray scales the first guess, or -1. [T] int64
        cutoff: The loss that bounds the basin. [T] float64
        center: The loss at the center. [T] float64
        guess_radius, guess_slope: The radius and slope of a typical ray. [T] float64
        rtol: The relative width at which a bracket is closed. [T] float64
        is_wanted: Whether a target is solved for itself, and not only to scale the guesses of others. [T] bool
        level_examples: The number of examples of the level of each target. [T] int64
        order: The targets in the order in which they are solved. int64
        method: "interpolate", "bisect" or "grid".
        radius_max: Rays that are still inside at this radius are censored. [1] float64, because a launch would round
            a float to 32 bits
        max_steps: The most evaluations for one target of one ray.
        grid: The increasing coefficients of the grid, in units of each ray's `unit`. [G] float64
    """

    level: Tensor
    relative: Tensor
    cutoff: Tensor
    center: Tensor
    guess_radius: Tensor
    guess_slope: Tensor
    rtol: Tensor
    is_wanted: Tensor
    level_examples: Tensor
    order: Tensor
    method: str
    radius_max: Tensor
    max_steps: int
    grid: Tensor


@triton.jit(do_not_specialize=["num_active", "num_levels", "num_ordered", "max_steps", "grid_size", "num_targets"])
def _search_step_kernel(
    active,
    num_active,
    losses,
    num_levels,
    radius,
    probe_level,
    lower,
    upper,
    value_lower,
    value_upper,
    replaced,
    value_replaced,
    slope,
    steps,
    width,
    stalls,
    status,
    num_evaluations,
    num_examples,
    grid_index,
    unit,
    level,
    relative,
    cutoff,
    center,
    guess_radius,
    guess_slope,
    rtol,
    is_wanted,
    level_examples,
    order,
    num_ordered,
    radius_max,
    max_steps,
    grid,
    grid_size,
    num_targets,
    HAS_LOSSES: tl.constexpr,
    METHOD: tl.constexpr,
    RAYS: tl.constexpr,
):
    position = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    ray = tl.load(active + position, mask=position < num_active, other=-1).to(tl.int64)
    is_active = ray >= 0
    ray = tl.where(is_active, ray, 0)
    index = tl.load(grid_index + ray, mask=is_active, other=0)
    farthest = tl.load(radius_max)

    if HAS_LOSSES:
        index += 1
        tl.store(grid_index + ray, index, mask=is_active)
        count = tl.load(num_evaluations + ray, mask=is_active, other=0)
        tl.store(num_evaluations + ray, count + 1, mask=is_active)
        at = tl.load(radius + ray, mask=is_active, other=1.0)
        told = tl.load(probe_level + ray, mask=is_active, other=-1)
        num_read = tl.zeros((RAYS,), dtype=tl.int64)
        for t in range(num_targets):
            b = ray * num_targets + t
            running = is_active & (tl.load(status + b, mask=is_active, other=0) == _RUNNING)
            target_level = tl.load(level + t)
            target_center = tl.load(center + t)
            num_read = tl.where(target_level == told, tl.load(level_examples + t), num_read)
            is_seen = running & (target_level <= told)
            value = tl.load(losses + position * num_levels + target_level, mask=is_seen, other=0.0)
            low = tl.load(lower + b, mask=running, other=0.0)
            high = tl.load(upper + b, mask=running, other=1.0)
            is_inside = value <= tl.load(cutoff + t)  # false for NaN: such points count as outside
            raises = is_seen & is_inside & (at > low) & (at < high)
            lowers = is_seen & (is_inside == 0) & (at < high)
            # This point is outside, below a radius that was inside. The first crossing is therefore nearer, and only
            # the center is still known to be inside.
            restart = lowers & (at <= low)
            value_low = tl.load(value_lower + b, mask=running, other=0.0)
            value_high = tl.load(value_upper + b, mask=running, other=0.0)
            old_slope = tl.load(slope + b, mask=running, other=2.0)
            has_two = (raises & (low > 0.0)) | (lowers & (high < float("inf")))
            new_slope = _slope_between(
                tl.where(raises, low, at),
                tl.where(raises, value_low, value) - target_center,
                tl.where(raises, at, high),
                tl.where(raises, value, value_high) - target_center,
                has_two,
                old_slope,
                _MIN_SLOPE_WIDTH,
            )
            tl.store(replaced + b, tl.where(raises, low, high), mask=has_two)
            tl.store(value_replaced + b, tl.where(raises, value_low, value_high), mask=has_two)
            low = tl.where(raises, at, tl.where(restart, 0.0, low))
            high = tl.where(lowers, at, high)
            value_low = tl.where(raises, value, tl.where(restart, target_center, value_low))
            value_high = tl.where(lowers, value, value_high)
            tl.store(lower + b, low, mask=running)
            tl.store(upper + b, high, mask=running)
            tl.store(value_lower + b, value_low, mask=running)
            tl.store(value_upper + b, value_high, mask=running)

            has_left = high < float("inf")
            if METHOD == "grid":
                closed = has_left
                censored = (has_left == 0) & (index == grid_size)
                exhausted = running & (index < 0)
            else:
                closed = has_left & (high - low <= tl.load(rtol + t) * high)
                censored = low >= farthest
                exhausted = tl.load(steps + b, mask=running, other=0) >= max_steps
            is_finite = tl.abs(value_high) < float("inf")
            code = tl.where(exhausted, _MAX_STEPS, _RUNNING)
            code = tl.where(censored, _CENSORED, code)
            code = tl.where(closed, tl.where(is_finite, _CROSSED, _NON_FINITE), code)
            tl.store(status + b, code.to(tl.int8), mask=running)
            # A bracket that closes has the slope at the crossing itself.
            has_closed = running & (code == _CROSSED)
            rise_low, rise_high = value_low - target_center, value_high - target_center
            new_slope = _slope_between(low, rise_low, high, rise_high, has_closed, new_slope, _MIN_CLOSED_WIDTH)
            tl.store(slope + b, new_slope, mask=running)
        num_read += tl.load(num_examples + ray, mask=is_active, other=0)
        tl.store(num_examples + ray, num_read, mask=is_active)
        # What follows reads the statuses that were stored above.
        tl.debug_barrier()

    target = tl.zeros((RAYS,), dtype=tl.int64) - 1
    highest = tl.zeros((RAYS,), dtype=tl.int64) - 1
    for i in range(num_ordered):
        candidate = tl.load(order + i)
        is_open = is_active & (tl.load(status + ray * num_targets + candidate, mask=is_active, other=0) == _RUNNING)
        target = tl.where(is_open & (target < 0), candidate, target)
        is_asked = is_open & (tl.load(is_wanted + candidate) != 0)
        highest = tl.where(is_asked & (tl.load(level + candidate) > highest), tl.load(level + candidate), highest)
    asks = highest >= 0
    target = tl.where(asks, target, 0)
    b = ray * num_targets + target

    step = tl.load(steps + b, mask=asks, other=0)
    if METHOD == "grid":  # every target sees every point
        point = tl.load(grid + index, mask=asks, other=1.0)
        where = point * tl.load(unit + ray, mask=asks, other=1.0)
    else:
        highest = tl.load(level + target)
        low = tl.load(lower + b, mask=asks, other=1.0)
        high = tl.load(upper + b, mask=asks, other=1.0)
        target_center = tl.load(center + target)
        gap = tl.load(cutoff + target) - target_center
        rise_low = tl.load(value_lower + b, mask=asks, other=0.0) - target_center
        rise_high = tl.load(value_upper + b, mask=asks, other=0.0) - target_center
        tolerance = tl.load(rtol + target)
        old_slope = tl.load(slope + b, mask=asks, other=2.0)
        third = tl.load(replaced + b, mask=asks, other=0.0)
        rise_third = tl.load(value_replaced + b, mask=asks, other=0.0) - target_center

        # The typical radius is scaled by how this ray's relative compares with the typical radius of that relative.
        other = tl.load(relative + target)
        has_relative = asks & (other >= 0)
        other = tl.where(has_relative, other, 0)
        other_b = ray * num_targets + other
        is_scaled = has_relative & (tl.load(status + other_b, mask=has_relative, other=1) == _CROSSED)
        other_low = tl.load(lower + other_b, mask=is_scaled, other=1.0)
        other_high = tl.load(upper + other_b, mask=is_scaled, other=1.0)
        middle = portable_exp(0.5 * (portable_log(other_low) + portable_log(other_high)))
        guess = tl.load(guess_radius + target)
        guess = tl.where(is_scaled, guess * (middle / tl.load(guess_radius + other)), guess)
        other_slope = tl.load(slope + other_b, mask=is_scaled, other=1.0)
        scaled_slope = tl.load(guess_slope + target) * (other_slope / tl.load(guess_slope + other))

        takes_guess = (low <= 0.0) & (high == float("inf"))
        takes_guess = takes_guess | (is_scaled & (step == 0) & (guess > low) & (guess < high))
        is_bracketed = asks & (low > 0.0) & (high < float("inf")) & (takes_guess == 0)
        halved = tl.load(width + b, mask=is_bracketed, other=float("inf"))
        stalled = tl.load(stalls + b, mask=is_bracketed, other=0)
        where, new_slope, halved, stalled = _propose(
            low, high, gap, rise_low, rise_high, third, rise_third, old_slope, step, tolerance, halved, stalled, METHOD
        )
        tl.store(width + b, halved, mask=is_bracketed)
        tl.store(stalls + b, stalled, mask=is_bracketed)
        new_slope = tl.where(takes_guess & is_scaled, scaled_slope, new_slope)
        where = tl.where(takes_guess, guess, where)
        where = tl.where(where > farthest, farthest, where)
        tl.store(slope + b, new_slope, mask=asks)
    tl.store(steps + b, step + 1, mask=asks)
    tl.store(radius + ray, where, mask=asks)
    tl.store(probe_level + ray, tl.where(asks, highest, -1), mask=is_active)


@triton.jit
def _propose(
    low, high, gap, rise_low, rise_high, third, rise_third, slope, step, rtol, halved, stalls, METHOD: tl.constexpr
):
    """Return the next radius, the slope, and what is known of stalls, where a side is known. [RAYS] each"""
    has_low, has_high = low > 0.0, high < float("inf")
    usable_low = (rise_low > 0.0) & (gap > 0.0)
    usable_high = (rise_high < float("inf")) & (gap > 0.0)  # false for NaN
    if METHOD == "bisect":
        usable_low = usable_low & (step < 0)
        usable_high = usable_high & (step < 0)
    log_low = portable_log(tl.where(has_low, low, 1.0))
    log_high = portable_log(tl.where(has_high, high, 1.0))
    log_gap = portable_log(tl.where(gap > 0.0, gap, 1.0))
    log_rise_low = portable_log(tl.where(usable_low, rise_low, 1.0))
    log_rise_high = portable_log(tl.where(usable_high, rise_high, 1.0))

    outward = _stride((log_gap - log_rise_low) / slope, usable_low, step, rtol, METHOD)
    inward = _stride((log_rise_high - log_gap) / slope, usable_high, step, rtol, METHOD)
    is_halved = log_high - log_low <= 0.5 * halved
    stalls = tl.where(is_halved, 0, stalls + 1)
    halved = tl.where(is_halved, log_high - log_low, halved)
    interpolates = has_low & has_high & usable_low & usable_high & (stalls < _MAX_STALLS)
    interpolates = interpolates & (log_rise_high > log_rise_low)
    stalls = tl.where(interpolates, stalls, 0)
    halved = tl.where(interpolates, halved, log_high - log_low)
    width = tl.where(interpolates, log_high - log_low, 1.0)
    rise = tl.where(interpolates, log_rise_high - log_rise_low, 1.0)
    slope = tl.where(interpolates & (width > _MIN_SLOPE_WIDTH), rise / width, slope)

    estimate = log_low + (log_gap - log_rise_low) / rise * width
    has_third = interpolates & (third > 0.0) & (rise_third > 0.0) & (rise_third < float("inf"))
    log_third = portable_log(tl.where(has_third, third, 1.0))
    log_rise_third = portable_log(tl.where(has_third, rise_third, 1.0))
    estimate = bent(
        estimate,
        log_gap,
        log_low,
        log_rise_low,
        log_high,
        log_rise_high,
        log_third,
        log_rise_third,
        width,
        rise,
        has_third,
    )
    aimed = aim(log_low, log_high, estimate, rtol)
    middle = 0.5 * (log_low + log_high)
    radius = portable_exp(tl.where(interpolates, aimed, middle))
    radius = tl.where(has_low & (has_high == 0), low * portable_exp(outward), radius)
    radius = tl.where((has_low == 0) & has_high, high * portable_exp(-inward), radius)
    return radius, slope, halved, stalls


@triton.jit
def _slope_between(near, rise_near, far, rise_far, applies, slope, LEAST_WIDTH: tl.constexpr):
    """Return the slope between two radii, or `slope` where they say nothing. [RAYS] float64"""
    applies = applies & (rise_near > 0.0) & (rise_far > 0.0) & (rise_far < float("inf"))
    width = portable_log(tl.where(applies, far, 1.0)) - portable_log(tl.where(applies, near, 1.0))
    rise = portable_log(tl.where(applies, rise_far, 1.0)) - portable_log(tl.where(applies, rise_near, 1.0))
    applies = applies & (width > LEAST_WIDTH) & (rise > 0.0)
    return tl.where(applies, rise / tl.where(applies, width, 1.0), slope)


@triton.jit
def _stride(distance, is_usable, step, rtol, METHOD: tl.constexpr):
    """Return how far to step in ln radius while one side of the bracket is missing. [RAYS] float64"""
    if METHOD == "bisect":
        stride = tl.zeros_like(distance) + _LOG_2
    else:
        excess = tl.where(step > _EXACT_STEPS, step - _EXACT_STEPS, 0).to(tl.float64)
        least = rtol * excess * excess
        stride = past(distance, rtol) * (1.0 + 0.2 * excess)
        stride = tl.where(stride < least, least, stride)
        stride = tl.where(stride > _LOG_MAX_STEP, _LOG_MAX_STEP, stride)
        stride = tl.where(is_usable, stride, _LOG_BLIND_STEP)
    return stride


def search_step(
    state: State,
    plan: Plan,
    active: Tensor,
    losses: Tensor | None,
    radius: Tensor,
    level: Tensor,
) -> tuple[Tensor, Tensor]:
    """Take the losses of the active rays, if there are any, and choose where each is to be evaluated next.

    Args:
        state: The state of the searches, which is updated.
        plan: What is searched for.
        active: The rays to advance. Entries of -1 are left out. [A] int32
        losses: The loss of each level at the rays' radii, or None to choose the first points. Levels above a ray's own
            are not read. [A, L] float64
        radius: Where each ray was evaluated; updated to where it is to be evaluated. [D] float64
        level: The highest level that was evaluated; updated likewise, to -1 for rays that are finished. [D] int64

    Returns:
        The rays that want an evaluation, in order, followed by -1, [A] int32; and their number and their highest
        level, [2] int32.

    Raises:
        ValueError: An unknown method, or losses of another type or shape.
    """
    if plan.method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}, got {plan.method!r}.")
    count, num_targets = len(active), len(plan.level)
    if losses is not None and (losses.dtype != torch.float64 or len(losses) != count or not losses.is_contiguous()):
        raise ValueError(f"`losses` must be contiguous float64 [{count}, L], got {losses.dtype} {list(losses.shape)}.")
    _search_step_kernel[(triton.cdiv(count, _RAYS),)](
        active,
        count,
        radius if losses is None else losses,
        0 if losses is None else losses.shape[1],
        radius,
        level,
        state.lower,
        state.upper,
        state.value_lower,
        state.value_upper,
        state.replaced,
        state.value_replaced,
        state.slope,
        state.steps,
        state.width,
        state.stalls,
        state.status,
        state.num_evaluations,
        state.num_examples,
        state.grid_index,
        state.unit,
        plan.level,
        plan.relative,
        plan.cutoff,
        plan.center,
        plan.guess_radius,
        plan.guess_slope,
        plan.rtol,
        plan.is_wanted,
        plan.level_examples,
        plan.order,
        len(plan.order),
        plan.radius_max,
        plan.max_steps,
        plan.grid,
        len(plan.grid),
        num_targets,
        HAS_LOSSES=losses is not None,
        METHOD=plan.method,
        RAYS=_RAYS,
        num_warps=1,
        enable_fp_fusion=False,
    )
    return compact(active, level)
