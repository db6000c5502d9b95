"""What is looked for along every ray, one target per level and cutoff, and how brackets become radii."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .radii import Guess, Radii, Status


@dataclass(frozen=True)
class Targets:
    """T = L x C targets, level-major; every array is [T].

    Attributes:
        level: index of the level.
        cutoff, center: the loss to cross and the loss at radius 0.
        guess_radius, guess_slope: where to look first.
        order: the order in which targets are solved, from the largest level and cutoff down, because an evaluation on a
            level gives the smaller levels for nothing.
    """

    levels: tuple[int, ...]
    cutoffs: tuple[float, ...]
    level: Tensor
    cutoff: Tensor
    center: Tensor
    guess_radius: Tensor
    guess_slope: Tensor
    order: Tensor

    @classmethod
    def of(cls, center_losses: Tensor, cutoffs: tuple[float, ...], levels: tuple[int, ...], guess: Guess) -> Targets:
        """All pairs of level and cutoff.

        Args:
            center_losses: loss at the center on each level. [L] float64
            guess: where to look first. [L, C]
        """
        num_levels, num_cutoffs = len(levels), len(cutoffs)
        level = torch.arange(num_levels).repeat_interleave(num_cutoffs)
        cutoff = torch.tensor(cutoffs, dtype=torch.float64).repeat(num_levels)
        by_cutoff = sorted(range(num_cutoffs), key=lambda c: -cutoffs[c])
        return cls(
            levels=levels,
            cutoffs=cutoffs,
            level=level,
            cutoff=cutoff,
            center=center_losses.double().cpu()[level],
            guess_radius=guess.radius.reshape(-1),
            guess_slope=guess.slope.reshape(-1),
            order=torch.tensor([row * num_cutoffs + c for row in reversed(range(num_levels)) for c in by_cutoff]),
        )

    def radii(self, state: Mapping[str, Tensor], rounds_up: bool) -> Radii:
        """The radii [L, C, D] of finished searches.

        Args:
            state: lower, upper, value_lower, value_upper, slope, status_code, each [T, D], and num_evaluations [D].
            rounds_up: the radius is the upper end, as on a grid, and not the crossing estimated inside the bracket.
        """
        crossed = state["status_code"] == Status.CROSSED.code
        radius = torch.where(crossed, state["upper"] if rounds_up else self._crossing(state), math.nan)
        radius = torch.where(state["status_code"] == Status.CENTER_OUTSIDE.code, 0.0, radius)
        shape = (len(self.levels), len(self.cutoffs), -1)
        per_ray = ("lower", "upper", "value_lower", "value_upper", "slope", "status_code")
        return Radii(
            **{name: state[name].reshape(shape) for name in per_ray},
            radius=radius.reshape(shape),
            num_evaluations=state["num_evaluations"],
            levels=self.levels,
            cutoffs=self.cutoffs,
        )

    def _crossing(self, state: Mapping[str, Tensor]) -> Tensor:
        """Log-log interpolation of the excess loss, or the geometric mean of the bracket where it is not usable."""
        lower, upper = state["lower"], state["upper"].clamp(max=1e300)
        rise_lower = state["value_lower"] - self.center[:, None]
        rise_upper = state["value_upper"] - self.center[:, None]
        gap = (self.cutoff - self.center)[:, None].expand_as(lower)
        usable = (lower > 0) & (gap > 0) & (rise_lower > 0) & (rise_upper < math.inf)
        y_lower = torch.where(usable, rise_lower, 1.0).log()
        y_upper = torch.where(usable, rise_upper, 2.0).log()
        y_gap = torch.where(usable, gap, 1.0).log()
        share = ((y_gap - y_lower) / (y_upper - y_lower)).clamp(0.0, 1.0)
        log_lower, log_upper = torch.where(usable, lower, 1.0).log(), torch.where(usable, upper, 1.0).log()
        geometric = torch.sqrt(lower) * torch.sqrt(upper)
        return torch.where(usable, (log_lower + share * (log_upper - log_lower)).exp(), geometric)
