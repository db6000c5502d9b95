"""What is looked for along every ray, one target per level and cutoff, and how brackets become radii."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .radii import Guess, Radii, Status

# Scouts need no more: what they predict varies by about as much from ray to ray.
_SCOUT_RTOL = 2e-2
NO_RELATIVE = -1


@dataclass(frozen=True)
class Targets:
    """The T = L x C pairs of level and cutoff that a search looks for, level by level.

    A level that a backend adds for its own use is a scout: few examples, solved loosely and first, so that the radius
    there predicts the radius on the next larger level.

    Attributes:
        levels: numbers of examples. [L]
        cutoffs: losses. [C]
        level: index of the level. [T] int64
        cutoff, center: the loss to cross and the loss at radius 0. [T] float64
        guess_radius, guess_slope, guess_spread: the typical radius and slope of rays already solved, and the spread of
            their slopes. [T] float64
        rtol: relative width at which the bracket is closed. [T] float64
        relative: the target whose solution on a ray scales the guess there: the next larger cutoff on the same level,
            and for the largest the same cutoff on the next smaller level. (On MNIST networks the first leaves 1 % from
            ray to ray, the second 3 % for levels four times apart; without either it is 16 %.) [T] int64
        is_wanted: false for scouts. [T] bool
        examples: of the level. [T] int64
        order: the targets to solve, in order: from the smallest level up, because a small level is cheap and predicts
            the next, and from the largest cutoff down; at most T of them. int64
    """

    levels: tuple[int, ...]
    cutoffs: tuple[float, ...]
    level: Tensor
    cutoff: Tensor
    center: Tensor
    guess_radius: Tensor
    guess_slope: Tensor
    guess_spread: Tensor
    rtol: Tensor
    relative: Tensor
    is_wanted: Tensor
    examples: Tensor
    order: Tensor

    @classmethod
    def of(
        cls,
        center_losses: Tensor,
        cutoffs: tuple[float, ...],
        levels: tuple[int, ...],
        guess: Guess,
        rtol: float,
        scouts: Collection[int] = (),
    ) -> Targets:
        """The targets for all pairs of level and cutoff.

        Args:
            center_losses: loss at the center on each level. [L] float64
            cutoffs: the C losses that are looked for.
            levels: numbers of examples of the L levels, scouts included.
            guess: where to look first. [L, C]
            rtol: relative width at which brackets are closed; scouts, to 2e-2 if that is wider.
            scouts: which of `levels` are scouts.
        """
        num_levels, num_cutoffs = len(levels), len(cutoffs)
        level = torch.arange(num_levels).repeat_interleave(num_cutoffs)
        cutoff = torch.tensor(cutoffs, dtype=torch.float64).repeat(num_levels)
        center = center_losses.double().cpu()[level]
        # Not by torch.where, which would round a Python float to float32.
        widths = [rtol if levels[row] not in scouts else max(rtol, _SCOUT_RTOL) for row in level.tolist()]
        is_wanted = torch.tensor([levels[row] not in scouts for row in level.tolist()])
        return cls(
            levels=levels,
            cutoffs=cutoffs,
            level=level,
            cutoff=cutoff,
            center=center,
            guess_radius=guess.radius.reshape(-1),
            guess_slope=guess.slope.reshape(-1),
            guess_spread=guess.spread.reshape(-1),
            rtol=torch.tensor(widths, dtype=torch.float64),
            relative=_relatives(num_levels, cutoffs),
            is_wanted=is_wanted,
            examples=torch.tensor(levels)[level],
            order=_order(center <= cutoff, is_wanted, cutoffs),
        )

    def to(self, device: torch.device) -> Targets:
        """The same targets with their tensors on `device`."""
        fields: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        moved = {name: value.to(device) for name, value in fields.items() if isinstance(value, Tensor)}
        return Targets(**{**fields, **moved})

    def radii(self, state: Mapping[str, Tensor], rounds_up: bool) -> Radii:
        """The radii [L, C, D] of finished searches.

        Args:
            state: lower, upper, value_lower, value_upper, slope, status_code, each [T, D], and num_evaluations and
                num_examples, see `RaySearch`, each [D].
            rounds_up: whether the radius is the upper end, as on a grid, or the crossing estimated in the bracket.
        """
        crossed = state["status_code"] == Status.CROSSED.code
        radius = torch.where(crossed, state["upper"] if rounds_up else self._crossing(state), math.nan)
        radius = torch.where(state["status_code"] == Status.CENTER_OUTSIDE.code, 0.0, radius)
        shape = (len(self.levels), len(self.cutoffs), -1)
        per_ray = ("lower", "upper", "value_lower", "value_upper", "slope", "status_code")
        brackets: dict[str, Any] = {name: state[name].reshape(shape) for name in per_ray}
        return Radii(
            **brackets,
            radius=radius.reshape(shape),
            num_evaluations=state["num_evaluations"],
            num_full_evaluations=state["num_examples"].double() / max(self.levels),
            levels=self.levels,
            cutoffs=self.cutoffs,
        )

    def _crossing(self, state: Mapping[str, Tensor]) -> Tensor:
        """Log-log interpolation of the excess loss, or the geometric mean of the bracket where it is not usable."""
        # An infinite upper end belongs to a ray that did not cross, whose value here is dropped.
        lower, upper = state["lower"], state["upper"].clamp(max=1e300)
        rise_lower = state["value_lower"] - self.center[:, None]
        rise_upper = state["value_upper"] - self.center[:, None]
        gap = (self.cutoff - self.center)[:, None].expand_as(lower)
        usable = (lower > 0) & (gap > 0) & (rise_lower > 0) & (rise_upper < math.inf)
        y_lower = torch.where(usable, rise_lower, 1.0).log()
        y_upper = torch.where(usable, rise_upper, 2.0).log()
        y_gap = torch.where(usable, gap, 1.0).log()
        usable &= y_upper > y_lower
        share = ((y_gap - y_lower) / torch.where(usable, y_upper - y_lower, 1.0)).clamp(0.0, 1.0)
        log_lower, log_upper = torch.where(usable, lower, 1.0).log(), torch.where(usable, upper, 1.0).log()
        geometric = torch.sqrt(lower) * torch.sqrt(upper)  # root by root, so that no product overflows
        return torch.where(usable, (log_lower + share * (log_upper - log_lower)).exp(), geometric)


def _by_cutoff(cutoffs: tuple[float, ...]) -> list[int]:
    return sorted(range(len(cutoffs)), key=lambda c: -cutoffs[c])


def _relatives(num_levels: int, cutoffs: tuple[float, ...]) -> Tensor:
    by_cutoff = _by_cutoff(cutoffs)
    relatives = torch.full((num_levels, len(cutoffs)), NO_RELATIVE, dtype=torch.int64)
    for row in range(num_levels):
        if row > 0:
            relatives[row, by_cutoff[0]] = (row - 1) * len(cutoffs) + by_cutoff[0]
        for larger, smaller in itertools.pairwise(by_cutoff):
            relatives[row, smaller] = row * len(cutoffs) + larger
    return relatives.reshape(-1)


def _order(is_inside: Tensor, is_wanted: Tensor, cutoffs: tuple[float, ...]) -> Tensor:
    """Targets from the smallest level and the largest cutoff on; scouts only where a larger level needs them."""
    has_use = (is_inside & is_wanted).reshape(-1, len(cutoffs)).flip(0).cumsum(0).flip(0).reshape(-1) > 0
    targets = [row + c for row in range(0, len(is_wanted), len(cutoffs)) for c in _by_cutoff(cutoffs)]
    return torch.tensor([t for t in targets if is_wanted[t] or has_use[t]], dtype=torch.int64)
