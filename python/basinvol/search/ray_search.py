"""The radius search along many rays at once: the algorithm, in torch.

`RaySearch` knows nothing of models. It is asked where to evaluate and told the losses:

    while (queries := search.ask()) is not None:
        search.tell(queries, losses_at(queries))

csrc/ray_search.h is the same algorithm for one ray; a test holds the two together bit for bit. What it has besides is
samples: the engines on CPUs estimate from a part of the examples how the loss goes on from its last evaluation, which
says where to put the next one. Nothing here is certified by them.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.arguments import one_of, real_number, whole_number
from .interpolation import aim, bent, past
from .portable_math import portable_exp, portable_log
from .radii import Radii, Status
from .targets import NO_RELATIVE, Targets

SEARCHES = ("interpolate", "bisect", "grid")
RUNNING = -1  # status code of a ray that is not finished, outside of `Status` because no result has it

_LOG_MAX_STEP = math.log(16.0)  # farthest a single step goes while a side is missing
_LOG_BLIND_STEP = math.log(4.0)  # one step where the loss gives no distance
_MAX_STALLS = 3  # interpolations that did not halve the bracket; then one bisection, as one side may stay for ever
_REFINEMENT_STEPS = 200  # bisection alone halves a bracket to 1e-12 in 40
_EXACT_STEPS = 2  # to the estimate while a side is missing; then past it, more so each time
_MIN_SLOPE_WIDTH = 1e-3  # nearer radii say little about the way to go, as losses have kinks and are rounded
_MIN_CLOSED_WIDTH = 3e-5  # the same for the slope at the crossing, where only rounding matters: of 0.1 % and less


@dataclass(frozen=True)
class SearchSettings:
    """The method of a radius search, and its tolerances and limits.

    Attributes:
        method: "interpolate", log-log interpolation with certified brackets; "bisect", doubling then geometric
            bisection; "grid", the first grid point outside, rounding up as in the published protocol.
        rtol: relative width at which a bracket is closed (not used by "grid").
        radius_max: rays still inside there are CENSORED (not used by "grid", which ends at its last point).
        max_steps: most evaluations for one level and cutoff of one ray.
        grid: increasing positive coefficients, for "grid" only; a ray's radii are these times its `unit`.
    """

    method: str = "interpolate"
    rtol: float = 1e-4
    radius_max: float = math.inf
    max_steps: int = 100
    grid: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        one_of("search", self.method, SEARCHES)
        if not 1e-12 <= real_number("rtol", self.rtol) <= 0.5:
            raise ValueError(f"`rtol` must be between 1e-12 and 0.5, got {self.rtol}.")
        if not real_number("radius_max", self.radius_max) > 0:
            raise ValueError(f"`radius_max` must be positive, got {self.radius_max}.")
        whole_number("max_steps", self.max_steps, least=1)

    def for_refinement(self) -> SearchSettings:
        """The same settings with steps enough to narrow any bracket, so that no certified radius is lost."""
        return dataclasses.replace(self, max_steps=max(self.max_steps, _REFINEMENT_STEPS))


@dataclass(frozen=True)
class Queries:
    """The A points at which the search wants the loss.

    Attributes:
        rays: position of the ray in the search. [A] int64
        radius: where along the ray. [A] float64
        level: index of the highest level that is needed. [A] int64
    """

    rays: Tensor
    radius: Tensor
    level: Tensor


class RaySearch:
    """The state of D searches with T targets each, as tensors [D, T]. One evaluation of a ray serves all its targets.

    Args:
        targets: what is looked for; the state is on the device of its tensors.
        settings: how to search.
        num_rays: D.
        unit: length of each ray's grid unit, for "grid" only; default 1. [D] float64

    Attributes:
        lower, upper: the brackets. [D, T] float64
        value_lower, value_upper: the losses at their ends. [D, T] float64
        replaced, value_replaced: the end of the bracket that was replaced last by one nearer to the crossing, or 0, and
            the loss there. [D, T] float64
        slope: see `Radii`. [D, T] float64
        steps: evaluations that each target asked for. [D, T] int64
        width: log of upper / lower when the bracket was last halved, or bisected. [D, T] float64
        stalls: proposals since then. [D, T] int64
        status: a code of `Status`, or RUNNING. [D, T] int8
        num_evaluations: loss evaluations of each ray. [D] int64
        num_examples: how many losses of single examples they took. [D] int64
    """

    def __init__(self, targets: Targets, settings: SearchSettings, num_rays: int, unit: Tensor | None = None) -> None:
        self.targets = targets
        self.settings = settings
        self._grid = torch.tensor(settings.grid, dtype=torch.float64, device=targets.center.device)
        self._unit = torch.ones(num_rays, dtype=torch.float64) if unit is None else unit
        self._unit = self._unit.to(targets.center.device)

        shape, device = (num_rays, len(targets.level)), targets.center.device
        self.lower = torch.zeros(shape, dtype=torch.float64, device=device)
        self.upper = torch.full(shape, math.inf, dtype=torch.float64, device=device)
        self.value_lower = targets.center.expand(shape).clone(memory_format=torch.contiguous_format)
        self.value_upper = torch.full(shape, math.nan, dtype=torch.float64, device=device)
        self.replaced = torch.zeros(shape, dtype=torch.float64, device=device)
        self.value_replaced = torch.full(shape, math.nan, dtype=torch.float64, device=device)
        self.slope = targets.guess_slope.expand(shape).clone(memory_format=torch.contiguous_format)
        self.steps = torch.zeros(shape, dtype=torch.int64, device=device)
        self.width = torch.full(shape, math.inf, dtype=torch.float64, device=device)
        self.stalls = torch.zeros(shape, dtype=torch.int64, device=device)
        self.status = torch.full(shape, RUNNING, dtype=torch.int8, device=device)
        self.num_evaluations = torch.zeros(num_rays, dtype=torch.int64, device=device)
        self.num_examples = torch.zeros(num_rays, dtype=torch.int64, device=device)
        self._sizes = torch.tensor(targets.levels, device=device)
        self._grid_index = torch.zeros(num_rays, dtype=torch.int64, device=device)

        # Not `center > cutoff`: NaN at the center counts as outside.
        outside = ~(targets.center <= targets.cutoff)
        self.status[:, outside] = Status.CENTER_OUTSIDE.code
        self.upper[:, outside] = 0.0
        self.value_upper[:, outside] = targets.center[outside]

    def restore(self, known: Radii) -> None:
        """Continues from the brackets `known` [L, C, D]; those with status RUNNING are narrowed."""

        def by_ray(values: Tensor) -> Tensor:
            return values.flatten(0, 1).T.to(self.lower.device).clone(memory_format=torch.contiguous_format)

        self.lower, self.upper = by_ray(known.lower), by_ray(known.upper)
        self.value_lower, self.value_upper = by_ray(known.value_lower), by_ray(known.value_upper)
        self.slope, self.status = by_ray(known.slope), by_ray(known.status_code)

    def candidates(self, target: int, negligible: float) -> tuple[Tensor, Tensor]:
        """Rays that may be negligible, and where to test each: at `negligible`, or the grid point below. [n] each"""
        rays = (self.status[:, target] == RUNNING).nonzero().reshape(-1)
        radius = torch.full((len(rays),), negligible, dtype=torch.float64, device=rays.device)
        if self.settings.method == "grid":
            below = torch.searchsorted(self._grid, radius / self._unit[rays], right=True) - 1
            radius = torch.where(below >= 0, self._grid[below.clamp(min=0)], 0.0) * self._unit[rays]
        return rays[radius > 0], radius[radius > 0]

    def settle(self, queries: Queries, target: int, value: Tensor, num_examples: Tensor | None = None) -> None:
        """Takes the losses at the radii of `candidates`.

        A ray that is outside there becomes NEGLIGIBLE; the search of all others begins there.

        Args:
            queries: the rays and their radii, from `candidates`.
            target: index of the target, from 0 to T - 1.
            value: the loss, or for rays outside a lower bound of it that is above the cutoff. [n] float64
            num_examples: how many losses of single examples that took; default those of whole levels. [n] int64
        """
        self.num_evaluations[queries.rays] += 1
        self.num_examples[queries.rays] += self._sizes[queries.level] if num_examples is None else num_examples
        outside = ~(value <= self.targets.cutoff[target])
        rays = queries.rays[outside]
        self.upper[rays, target], self.value_upper[rays, target] = queries.radius[outside], value[outside]
        self.status[rays, target] = Status.NEGLIGIBLE.code
        if self.settings.method != "grid":  # the grid looks for the first point outside, from the center on
            rays = queries.rays[~outside]
            self.lower[rays, target], self.value_lower[rays, target] = queries.radius[~outside], value[~outside]
            self._finish(rays)

    def ask(self) -> Queries | None:
        """The next evaluation of every ray that is not finished, or None when all rays are."""
        # A ray asks for its first running target in the order of `Targets`; a ray with only scouts left is finished.
        order = self.targets.order
        running = (self.status == RUNNING)[:, order]
        needed = running & self.targets.is_wanted[order]
        rays = needed.any(dim=1).nonzero().reshape(-1)
        if len(rays) == 0:
            return None
        target = order[running[rays].int().argmax(dim=1)]
        level = self.targets.level[target]
        if self.settings.method == "grid":  # one walk along the grid serves every target, up to the highest level
            radius = self._grid[self._grid_index[rays]] * self._unit[rays]
            level = torch.where(needed[rays], self.targets.level[order], 0).amax(dim=1)
        else:
            radius = self._propose(rays, target)
        self.steps[rays, target] += 1
        return Queries(rays, radius, level)

    def tell(self, queries: Queries, losses: Tensor) -> None:
        """Takes the losses [A, L] at the queries; columns above a query's level are not read."""
        rays, radius = queries.rays, queries.radius[:, None]
        self.num_evaluations[rays] += 1
        self.num_examples[rays] += self._sizes[queries.level]
        self._grid_index[rays] += 1
        value = losses.double().to(self.lower.device)[:, self.targets.level]
        lower, upper = self.lower[rays], self.upper[rays]
        value_lower, value_upper = self.value_lower[rays], self.value_upper[rays]
        seen = (self.status[rays] == RUNNING) & (self.targets.level <= queries.level[:, None])
        is_inside = value <= self.targets.cutoff  # false for NaN: such points count as outside
        raises = seen & is_inside & (radius > lower) & (radius < upper)
        lowers = seen & ~is_inside & (radius < upper)
        # Outside below a radius that was inside: the first crossing is earlier, and only the center is known inside.
        restart = lowers & (radius <= lower)
        from_below, from_above = raises & (lower > 0), lowers & (upper < math.inf)
        self._learn_slope(rays, from_below, (lower, value_lower), (radius, value))
        self._learn_slope(rays, from_above, (radius, value), (upper, value_upper))
        for end, was_lower, was_upper in (
            (self.replaced, lower, upper),
            (self.value_replaced, value_lower, value_upper),
        ):
            end[rays] = torch.where(from_below, was_lower, torch.where(from_above, was_upper, end[rays]))

        self.lower[rays] = torch.where(raises, radius, torch.where(restart, 0.0, lower))
        self.value_lower[rays] = torch.where(raises, value, torch.where(restart, self.targets.center, value_lower))
        self.upper[rays] = torch.where(lowers, radius, upper)
        self.value_upper[rays] = torch.where(lowers, value, value_upper)
        self._finish(rays)

    def radii(self) -> Radii:
        """The radii of all rays, once `ask` has returned None. [L, C, D]"""
        state = {
            "lower": self.lower.T.cpu(),
            "upper": self.upper.T.cpu(),
            "value_lower": self.value_lower.T.cpu(),
            "value_upper": self.value_upper.T.cpu(),
            "slope": self.slope.T.cpu(),
            "status_code": self.status.T.cpu(),
            "num_evaluations": self.num_evaluations.cpu(),
            "num_examples": self.num_examples.cpu(),
        }
        return self.targets.to(torch.device("cpu")).radii(state, rounds_up=self.settings.method == "grid")

    def _finish(self, rays: Tensor) -> None:
        lower, upper = self.lower[rays], self.upper[rays]
        status = self.status[rays]
        running = status == RUNNING
        left = upper < math.inf
        if self.settings.method == "grid":
            closed = left
            censored = ~left & (self._grid_index[rays] == len(self.settings.grid))[:, None]
            exhausted = torch.zeros_like(left)
        else:
            closed = left & (upper - lower <= self.targets.rtol * upper)
            censored = lower >= self.settings.radius_max
            exhausted = self.steps[rays] >= self.settings.max_steps
        # Later lines win: a bracket that closes with the last step has crossed, and is not out of steps.
        is_finite = torch.isfinite(self.value_upper[rays])
        status = torch.where(running & exhausted, Status.MAX_STEPS.code, status)
        status = torch.where(running & censored, Status.CENSORED.code, status)
        status = torch.where(running & closed & ~is_finite, Status.NON_FINITE.code, status)
        status = torch.where(running & closed & is_finite, Status.CROSSED.code, status)
        self.status[rays] = status.to(torch.int8)
        closed = running & (status == Status.CROSSED.code)
        ends = (lower, self.value_lower[rays]), (upper, self.value_upper[rays])
        self._learn_slope(rays, closed, *ends, least_width=_MIN_CLOSED_WIDTH)

    def _learn_slope(
        self,
        rays: Tensor,
        applies: Tensor,
        near: tuple[Tensor, Tensor],
        far: tuple[Tensor, Tensor],
        least_width: float = _MIN_SLOPE_WIDTH,
    ) -> None:
        """Takes over what two radii say of the slope between them.

        Args:
            rays: the rays. [A] int64
            applies: where two such radii are known. [A, T] bool
            near, far: the radii, which may be the same for all targets, and the losses there. [A, T] float64 each
            least_width: radii nearer to each other, in ln radius, teach nothing.
        """
        rise_near, rise_far = near[1] - self.targets.center, far[1] - self.targets.center
        applies = applies & (rise_near > 0) & (rise_far > 0) & (rise_far < math.inf)
        width = portable_log(torch.where(applies, far[0], 1.0)) - portable_log(torch.where(applies, near[0], 1.0))
        rise = portable_log(torch.where(applies, rise_far, 1.0)) - portable_log(torch.where(applies, rise_near, 1.0))
        applies = applies & (width > least_width) & (rise > 0)
        self.slope[rays] = torch.where(applies, rise / torch.where(applies, width, 1.0), self.slope[rays])

    def _propose(self, rays: Tensor, target: Tensor) -> Tensor:
        lower, upper = self.lower[rays, target], self.upper[rays, target]
        steps = self.steps[rays, target]
        gap = self.targets.cutoff[target] - self.targets.center[target]
        rise_lower = self.value_lower[rays, target] - self.targets.center[target]
        rise_upper = self.value_upper[rays, target] - self.targets.center[target]
        has_lower, has_upper = lower > 0, upper < math.inf
        is_informed = self.settings.method == "interpolate"
        # Logarithms exist only of positive rises; the loss may fall below that of the center before it rises.
        usable_lower = is_informed & (rise_lower > 0) & (gap > 0)
        usable_upper = is_informed & (rise_upper < math.inf) & (gap > 0)  # false for NaN

        # Every entry is computed and the usable ones are chosen below, so unusable ones get a harmless 1.
        log_lower = portable_log(torch.where(has_lower, lower, 1.0))
        log_upper = portable_log(torch.where(has_upper, upper, 1.0))
        log_gap = portable_log(torch.where(gap > 0, gap, 1.0))
        log_rise_lower = portable_log(torch.where(usable_lower, rise_lower, 1.0))
        log_rise_upper = portable_log(torch.where(usable_upper, rise_upper, 1.0))

        rtol = self.targets.rtol[target]
        slope = self.slope[rays, target]
        outward = self._stride((log_gap - log_rise_lower) / slope, usable_lower, steps, rtol)
        inward = self._stride((log_rise_upper - log_gap) / slope, usable_upper, steps, rtol)

        guess, is_scaled = self._guess(rays, target)
        # A guess from this ray's own relative is better than what other targets' evaluations left of the bracket.
        takes_guess = ~has_lower & ~has_upper
        takes_guess |= is_scaled & (steps == 0) & (guess > lower) & (guess < upper)

        is_bracketed = has_lower & has_upper & ~takes_guess
        can_interpolate = is_bracketed & usable_lower & usable_upper & (log_rise_upper > log_rise_lower)
        can_interpolate &= self._moves(rays, target, is_bracketed, can_interpolate, log_upper - log_lower)
        width = torch.where(can_interpolate, log_upper - log_lower, 1.0)
        rise = torch.where(can_interpolate, log_rise_upper - log_rise_lower, 1.0)
        slope = torch.where(can_interpolate & (width > _MIN_SLOPE_WIDTH), rise / width, slope)
        estimate = log_lower + (log_gap - log_rise_lower) / rise * width
        rise_replaced = self.value_replaced[rays, target] - self.targets.center[target]
        has_third = can_interpolate & (self.replaced[rays, target] > 0)
        has_third &= (rise_replaced > 0) & (rise_replaced < math.inf)
        log_replaced = portable_log(torch.where(has_third, self.replaced[rays, target], 1.0))
        log_rise_replaced = portable_log(torch.where(has_third, rise_replaced, 1.0))
        lows, highs = (log_lower, log_rise_lower), (log_upper, log_rise_upper)
        estimate = bent(estimate, log_gap, lows, highs, (log_replaced, log_rise_replaced), has_third)
        aimed = aim(log_lower, log_upper, estimate, rtol)

        # Bisection; not through sqrt, which torch does not round correctly on every machine.
        radius = portable_exp(0.5 * (log_lower + log_upper))
        radius = torch.where(can_interpolate, portable_exp(aimed), radius)
        radius = torch.where(has_lower & ~has_upper, lower * portable_exp(outward), radius)
        radius = torch.where(~has_lower & has_upper, upper * portable_exp(-inward), radius)
        self.slope[rays, target] = torch.where(takes_guess & is_scaled, self._scaled_slope(rays, target), slope)
        return torch.where(takes_guess, guess, radius).clamp(max=self.settings.radius_max)

    def _moves(self, rays: Tensor, target: Tensor, is_bracketed: Tensor, is_usable: Tensor, width: Tensor) -> Tensor:
        """Whether interpolation still halves the brackets; where it does not, or cannot be used, they are bisected.

        Args:
            rays, target: which brackets. [n] int64 each
            is_bracketed: whether both sides are known and asked for. [n] bool
            is_usable: whether interpolation can be used. [n] bool
            width: log of upper / lower. [n] float64
        """
        known, stalls = self.width[rays, target], self.stalls[rays, target]
        is_halved = width <= 0.5 * known
        counted = torch.where(is_halved, 0, stalls + 1)
        moves = is_usable & (counted < _MAX_STALLS)
        self.width[rays, target] = torch.where(is_bracketed & (is_halved | ~moves), width, known)
        self.stalls[rays, target] = torch.where(is_bracketed, torch.where(moves, counted, 0), stalls)
        return moves

    def _guess(self, rays: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The typical radius, scaled by this ray's relative over its typical radius, and whether it was scaled."""
        targets = self.targets
        relative = targets.relative[target].clamp(min=0)
        is_solved = (targets.relative[target] != NO_RELATIVE) & (self.status[rays, relative] == Status.CROSSED.code)
        lower = torch.where(is_solved, self.lower[rays, relative], 1.0)
        upper = torch.where(is_solved, self.upper[rays, relative], 1.0)
        middle = portable_exp(0.5 * (portable_log(lower) + portable_log(upper)))
        radius = targets.guess_radius[target]
        return torch.where(is_solved, radius * (middle / targets.guess_radius[relative]), radius), is_solved

    def _scaled_slope(self, rays: Tensor, target: Tensor) -> Tensor:
        relative = self.targets.relative[target].clamp(min=0)
        return self.targets.guess_slope[target] * (self.slope[rays, relative] / self.targets.guess_slope[relative])

    def _stride(self, distance: Tensor, is_usable: Tensor, steps: Tensor, rtol: Tensor) -> Tensor:
        """How far to step in ln radius while one side is missing."""
        if self.settings.method == "bisect":
            return torch.full_like(distance, math.log(2.0))
        excess = (steps - _EXACT_STEPS).clamp(min=0).double()
        informed = torch.maximum(past(distance, rtol) * (1.0 + 0.2 * excess), rtol * excess * excess)
        return torch.where(is_usable, informed.clamp(max=_LOG_MAX_STEP), _LOG_BLIND_STEP)
