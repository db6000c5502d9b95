"""Is the number to be trusted? The verdict comes before the number."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .radii import NUM_PILOT, Radii, Status
from .volume import log_mean_power, standard_error, weights

# An effective sample size below this leaves standard errors near 0.2 nats that are themselves poorly known.
MIN_ESS = 30.0
# z = sd(P ln r) / sqrt(2 ln D): the number of directions resolves the spread of the weights well below 0.6.
MAX_Z = 0.6
MAX_SHARE = 0.1
# Brackets worth more than this leave the number open by as much, however many directions there are.
MAX_BRACKET_NATS = 1.0


class Verdict(enum.Enum):
    """What the number is worth; the value is what users see."""

    TRUSTWORTHY = "trustworthy"
    LOWER_BOUND = "lower bound"
    CENSORED = "censored"
    INVALID = "invalid"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Diagnostics:
    """Evidence for and against one volume estimate.

    Attributes:
        verdict: `trustworthy`: the error bar is valid; `lower bound`: the true log-volume is very probably larger, by
            an unknown amount; `censored`: rays without an end were replaced or dropped; `invalid`: not a volume.
        reason: why, in one sentence.
        ess: effective sample size (sum w)^2 / sum w^2 of the weights w = r^P, between 1 and D.
        max_share: share of the largest weight.
        z: sd(P ln r) / sqrt(2 ln D); below 0.6 good, above 1 hopeless. NaN for one direction.
        standard_error: of log_mean_power, by the delta method; valid only if trustworthy. nats
        bracket_nats: how much log_mean_power differs between the upper and the lower ends of all brackets. nats
        censored, non_finite, unresolved: shares of rays that never left, that ended at a NaN or infinite loss, and
            whose bracket stayed open.
        negligible: share of rays that were proved too short to matter and not solved.
        num_used: rays in the average.
        num_spread: solved rays from which z is computed; with resolve="decisive" the pilot.
        zero_scale: parameters with elements that have scale 0 and are never perturbed, and how many.
    """

    verdict: Verdict
    reason: str
    ess: float
    max_share: float
    z: float
    standard_error: float
    bracket_nats: float
    censored: float
    non_finite: float
    unresolved: float
    negligible: float
    num_used: int
    num_spread: int
    zero_scale: Mapping[str, int]


def diagnose(
    radii: Radii, used: Tensor, radius: Tensor, dim: int, zero_scale: Mapping[str, int] | None = None
) -> Diagnostics:
    """Diagnostics of one estimate.

    Args:
        radii: all rays of one level and cutoff. [D]
        used: which of them are in the average. [D] bool
        radius: the value each used ray enters with. [D] float64
        dim: P.
        zero_scale: see `ParameterSpace.zero_filters`.
    """
    entering = radius[used]
    count = len(entering)
    is_empty = bool((entering == 0).all())
    # Where rays were skipped, those that were solved after the pilot are a selection of the longest.
    skips = bool(radii.is_status(Status.NEGLIGIBLE).any())
    spread = radius[:NUM_PILOT][used[:NUM_PILOT]] if skips else entering
    found = {
        **_weight_statistics(entering, spread, dim, is_empty),
        "bracket_nats": math.nan if is_empty else _bracket_nats(radii, used, dim),
        "censored": _share(radii, Status.CENSORED),
        "non_finite": _share(radii, Status.NON_FINITE),
        "unresolved": _share(radii, Status.MAX_STEPS),
        "negligible": _share(radii, Status.NEGLIGIBLE),
    }
    verdict, reason = _judge(found, len(radii), count, is_empty, dict(zero_scale or {}))
    return Diagnostics(
        verdict=verdict,
        reason=reason,
        num_used=count,
        num_spread=len(spread),
        zero_scale=dict(zero_scale or {}),
        **found,
    )


def _judge(
    found: Mapping[str, float], num_rays: int, num_used: int, is_empty: bool, zero_scale: Mapping[str, int]
) -> tuple[Verdict, str]:
    def rays(share: float) -> str:
        return f"{round(share * num_rays)} of {num_rays} directions"

    if is_empty:
        return Verdict.INVALID, "the loss at the center is above the cutoff, so the basin is empty."
    if found["non_finite"]:
        return Verdict.INVALID, f"{rays(found['non_finite'])} ended at a NaN or infinite loss."
    if zero_scale:
        named = ", ".join(f"{name} ({count})" for name, count in zero_scale.items())
        return Verdict.INVALID, (
            f"parameters of scale 0 are never perturbed: {named}; exclude them, or use scaling='none'."
        )
    if found["censored"]:
        return Verdict.CENSORED, (
            f"{rays(found['censored'])} never crossed the cutoff; the true volume is larger, perhaps infinite."
        )
    if found["unresolved"]:
        return (
            Verdict.LOWER_BOUND,
            f"{rays(found['unresolved'])} kept an open bracket and count with its lower end.",
        )
    if num_used < 2 or found["max_share"] > MAX_SHARE or found["ess"] < min(MIN_ESS, 0.9 * num_used):
        return Verdict.LOWER_BOUND, (
            f"one direction holds {found['max_share']:.0%} of the weight and the effective sample size is "
            f"{found['ess']:.2f} of {num_used}; more directions would raise the number."
        )
    if not found["z"] <= MAX_Z:
        return Verdict.LOWER_BOUND, (
            f"the weights spread too widely for {num_used} directions (z = {found['z']:.2f}, above {MAX_Z})."
        )
    if found["bracket_nats"] > MAX_BRACKET_NATS:
        return Verdict.LOWER_BOUND, (
            f"the brackets leave {found['bracket_nats']:.1f} nats open; lower `rtol` to close them."
        )
    return Verdict.TRUSTWORTHY, (
        f"effective sample size {found['ess']:.0f} of {num_used}, z = {found['z']:.2f}, brackets closed."
    )


def _weight_statistics(radius: Tensor, spread: Tensor, dim: int, is_empty: bool) -> dict[str, float]:
    """How the sum of r^P is shared; NaN where there is no sum, or no spread to speak of."""
    if is_empty:
        return dict.fromkeys(("ess", "max_share", "z", "standard_error"), math.nan)
    share = weights(radius, dim)
    has_spread = len(spread) > 1 and bool((spread > 0).all())
    deviation = float((dim * spread.log()).std()) if has_spread else math.nan
    return {
        "ess": 1.0 / float((share**2).sum()),
        "max_share": float(share.max()),
        "z": deviation / math.sqrt(2.0 * math.log(len(radius))) if has_spread else math.nan,
        "standard_error": standard_error(radius, dim),
    }


def _share(radii: Radii, status: Status) -> float:
    return float(radii.is_status(status).double().mean())


def _bracket_nats(radii: Radii, used: Tensor, dim: int) -> float:
    lower, upper = radii.lower[used], radii.upper[used]
    if not bool(torch.isfinite(upper).all()):
        return math.inf
    return log_mean_power(upper, dim) - log_mean_power(lower, dim)
