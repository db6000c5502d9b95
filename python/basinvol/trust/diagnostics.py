"""The evidence for and against a number, and the verdict on it, which is shown before the number."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..search.radii import DEFAULT_SLOPE, NUM_SPREAD, NUM_SPREAD_FEW, Radii, Status
from .measures import LEBESGUE, Measure
from .tails import pareto_k

# An effective sample size below this leaves standard errors near 0.2 nats that are themselves poorly known.
MIN_ESS = 30.0
# z = sd(log weights) / sqrt(2 ln D): the number of directions resolves the spread of the weights well below 0.6.
MAX_Z = 0.6
# Above this no practical sample gives a mean (Vehtari et al. 2024).
MAX_K_HAT = 0.7
# Brackets worth more than this leave the number uncertain by as much, however many directions there are.
MAX_BRACKET_NATS = 1.0
# The difference of two halves of a sample with an effective size of 30 has a standard deviation of 0.37 nats.
MAX_SPLIT_NATS = 1.0
# Bounded weights are judged by their effective size alone where what was not drawn cannot add more than this.
MAX_UNSEEN_NATS = 0.3
_RULE_OF_THREE = 3.0

ZERO_SCALE_ADVICE = "exclude them, or use scaling='none'"

_STEP = 1e-5  # of the finite difference in ln r
_MIN_SLOPE = 1e-6  # smaller slopes of the loss are taken as this before they divide


class Verdict(enum.Enum):
    """The verdict on a number; the value is the word that users see."""

    TRUSTWORTHY = "trustworthy"
    LOWER_BOUND = "lower bound"
    CENSORED = "censored"
    INVALID = "invalid"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Diagnostics:
    """Evidence for and against one volume estimate; shares are between 0 and 1, and NaN means "not measured".

    The weights are the terms of the average: r^P for the plain Lebesgue volume, the Gaussian's mass within r, either of
    these divided by the density of a proposal, or the independent estimates of groups of chains.

    Attributes:
        verdict: `trustworthy`: the error bar is valid; `lower bound`: the true log-volume is very probably larger, by
            an unknown amount; `censored`: there are unbounded rays, so that the volume may be infinite; `invalid`: the
            number is not a volume.
        reason: the reason for the verdict, in one sentence.
        ess: effective sample size (sum w)^2 / sum w^2 of the weights, between 1 and D.
        max_share: share of the largest weight in their sum.
        k_hat: Pareto shape of the largest weights; above 0.7 their mean is out of reach. NaN below 25 directions.
        z: sd(log w) / sqrt(2 ln D); below 0.6 is good, above 1 hopeless. NaN for one direction.
        upper_z: the same from the log weights above their median alone, which the verdict asks: weights far below the
            others do no harm.
        split_nats: how much the estimates from the two halves of the sample differ. nats
        standard_error: of the log-volume, by the delta method; valid only if the verdict is `trustworthy`. nats
        bracket_nats: how much the number differs between the upper and the lower ends of all brackets. nats
        cutoff_slope: d log V / d log (cutoff - loss at the center), from the slope of the loss along the rays: P/2 for
            a quadratic; in general the learning coefficient at this cutoff. NaN if the search did not learn slopes.
        censored, non_finite, unresolved: shares of rays that never left, that ended at a NaN or infinite loss, and
            whose bracket stayed open.
        negligible: share of rays that were proved too short to matter and not solved.
        num_used: number of weights in the average.
        num_spread: number of solved rays from which z is computed; with resolve="decisive" the first ones.
        zero_scale: parameters with elements that have scale 0 and are never perturbed, and how many elements.
        reentrant, non_monotone: shares of the probed rays that enter the basin again beyond their radius, and along
            which the loss falls by more than rounding before it.
        unbounded: unbounded directions and symmetries, one sentence each.
        num_probes, num_checks: loss evaluations spent on probes, and on a second method.
        agreement: how far another estimator is from this one, in a sentence; empty if none was run.
        has_bound: whether the number is an unbiased estimate of the measure from independent rays, which Markov's
            inequality bounds; what chains give is not where they have not mixed.
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
    k_hat: float = math.nan
    upper_z: float = math.nan
    split_nats: float = math.nan
    cutoff_slope: float = math.nan
    reentrant: float = math.nan
    non_monotone: float = math.nan
    unbounded: tuple[str, ...] = ()
    num_probes: int = 0
    num_checks: int = 0
    has_bound: bool = True
    agreement: str = ""

    def doubted(self, verdict: Verdict, reason: str) -> Diagnostics:
        """The same evidence with another verdict."""
        return dataclasses.replace(self, verdict=verdict, reason=reason)


def diagnose(
    radii: Radii,
    used: Tensor,
    radius: Tensor,
    dim: int,
    zero_scale: Mapping[str, int] | None = None,
    measure: Measure = LEBESGUE,
    log_ratio: Tensor | None = None,
    representative: Tensor | None = None,
) -> Diagnostics:
    """The diagnostics of one estimate from rays, with the verdict.

    Args:
        radii: all rays of one level and cutoff. [D]
        used: which rays are in the average. [D] bool
        radius: the value with which each used ray enters the average. [D] float64
        dim: P.
        zero_scale: see `ParameterSpace.zero_filters`.
        measure: what is measured; in a finite measure unbounded rays are not a fault.
        log_ratio: log of the uniform density over that of the proposal at each direction. [D] float64
        representative: rays from which z is computed, where they come from a mixture; default all. [D] bool
    """
    ratio = torch.zeros_like(radius) if log_ratio is None else log_ratio
    every_log_weight = measure.log_weights(radius, dim) + ratio
    log_weights = every_log_weight[used]
    is_empty = bool((radius[used] == 0).all())
    # Where rays were skipped, those that were solved after the first ones are a selection of the longest.
    skipped = radii.is_status(Status.NEGLIGIBLE)
    skips = bool(skipped.any())
    chosen = used if representative is None else used & representative
    if skips:
        count = NUM_SPREAD_FEW if bool(skipped[:NUM_SPREAD].any()) else NUM_SPREAD
        spread = every_log_weight[:count][used[:count]]
    else:
        spread = every_log_weight[chosen]
    found = {
        **(weight_statistics(log_weights, spread, skips) if not is_empty else dict.fromkeys(_STATISTICS, math.nan)),
        "bracket_nats": math.nan if is_empty else _bracket_nats(radii, used, dim, measure, ratio),
        "cutoff_slope": math.nan if is_empty else _cutoff_slope(radii, used, radius, dim, measure, log_weights),
        "censored": _share(radii, Status.CENSORED),
        "non_finite": _share(radii, Status.NON_FINITE),
        "unresolved": _share(radii, Status.MAX_STEPS),
        "negligible": _share(radii, Status.NEGLIGIBLE),
    }
    if representative is not None and not is_empty:
        found["standard_error"] = _stratified_error(log_weights, representative[used])
    fault = _ray_fault(found, len(radii), is_empty, dict(zero_scale or {}), measure)
    unseen = math.inf
    if log_ratio is None and not is_empty and not skips:
        unseen = _unseen_nats(log_weights, measure.log_largest(dim))
    verdict, reason = fault or judge_weights(found, len(log_weights), unseen)
    evidence: dict[str, Any] = {**found, "zero_scale": dict(zero_scale or {})}
    return Diagnostics(verdict, reason, num_used=len(log_weights), num_spread=len(spread), **evidence)


_STATISTICS = ("ess", "max_share", "k_hat", "z", "upper_z", "split_nats", "standard_error")


def weight_statistics(log_weights: Tensor, spread: Tensor | None = None, skips: bool = False) -> dict[str, float]:
    """How a mean of weights is shared among them, and its error, by the names of `Diagnostics`.

    Args:
        log_weights: log weights, at least one of them finite. [n] float64
        spread: the log weights from which the spread is computed; default all. [m] float64
        skips: whether some weights are zeros that stand for small ones, so that halves cannot be compared.
    """
    spread = log_weights if spread is None else spread
    count = len(log_weights)
    share = torch.softmax(log_weights, dim=0)
    concentration = float((share**2).sum())  # 1/n if all weights are equal, 1 if one holds everything
    has_spread = count > 1 and len(spread) > 1 and bool(torch.isfinite(spread).all())
    resolved = math.sqrt(2.0 * math.log(count)) if count > 1 else math.nan
    return {
        "ess": 1.0 / concentration,
        "max_share": float(share.max()),
        "k_hat": pareto_k(spread if skips else log_weights),
        "z": float(spread.std()) / resolved if has_spread else math.nan,
        "upper_z": _upper_deviation(spread) / resolved if has_spread else math.nan,
        "split_nats": math.nan if skips else _split_nats(log_weights),
        "standard_error": (
            # Rounding may take the variance of equal weights below 0.
            math.sqrt(max(concentration - 1.0 / count, 0.0) * count / (count - 1)) if count > 1 else math.nan
        ),
    }


def _upper_deviation(values: Tensor) -> float:
    """The root mean square distance from the median of the values at or above it: of normal values, their spread."""
    above = values - values.median()
    return float(above[above >= 0].square().mean().sqrt())


def _stratified_error(log_weights: Tensor, part: Tensor) -> float:
    """The standard error of the log of a sum of weights from two samples of fixed sizes, by the delta method.

    Args:
        log_weights: of both samples. [n] float64
        part: which of them are from the second sample. [n] bool
    """
    share = torch.softmax(log_weights, dim=0)
    samples = [share[part], share[~part]]
    if min(map(len, samples)) < 2:
        return float(weight_statistics(log_weights)["standard_error"])
    return math.sqrt(sum(len(sample) * float(sample.var()) for sample in samples))


def judge_weights(found: Mapping[str, float], count: int, unseen_nats: float = math.inf) -> tuple[Verdict, str]:
    """The verdict on a mean of weights, and its reason.

    Args:
        found: what `weight_statistics` gives, and `bracket_nats`.
        count: number of weights.
        unseen_nats: how much directions of a kind that was not drawn can add at most, where weights are bounded.
    """
    is_bounded = unseen_nats <= MAX_UNSEEN_NATS
    if count < 2 or found["ess"] < min(MIN_ESS, 0.9 * count):
        return Verdict.LOWER_BOUND, (
            f"one direction holds {found['max_share']:.0%} of the weight and the effective sample size is "
            f"{found['ess']:.2f} of {count}; more directions would raise the number."
        )
    # z and k-hat are about larger weights than were met: where these cannot matter, neither do they.
    if not is_bounded and not found["upper_z"] <= MAX_Z:  # true for NaN: a spread that is not known is not small
        return Verdict.LOWER_BOUND, (
            f"the larger weights spread too widely for {count} directions (z = {found['upper_z']:.2f}, above {MAX_Z})."
        )
    if not is_bounded and found["k_hat"] > MAX_K_HAT:
        return Verdict.LOWER_BOUND, (
            f"the largest weights have a tail too heavy for a mean (Pareto k-hat {found['k_hat']:.2f}, above "
            f"{MAX_K_HAT}); larger ones were not met yet."
        )
    if found["split_nats"] > MAX_SPLIT_NATS:
        return Verdict.LOWER_BOUND, f"the two halves of the sample differ by {found['split_nats']:.1f} nats."
    if found["bracket_nats"] > MAX_BRACKET_NATS:
        return Verdict.LOWER_BOUND, (
            f"the brackets leave {found['bracket_nats']:.1f} nats open; lower `rtol` to close them."
        )
    if is_bounded:
        return Verdict.TRUSTWORTHY, (
            f"effective sample size {found['ess']:.0f} of {count}, weights bounded, so that directions of a kind that "
            f"was not drawn add at most {unseen_nats:.2f} nats; brackets closed."
        )
    return Verdict.TRUSTWORTHY, (
        f"effective sample size {found['ess']:.0f} of {count}, z = {found['upper_z']:.2f}, "
        f"k-hat = {found['k_hat']:.2f}, brackets closed."
    )


def _ray_fault(
    found: Mapping[str, float], num_rays: int, is_empty: bool, zero_scale: Mapping[str, int], measure: Measure
) -> tuple[Verdict, str] | None:
    """What is wrong with the rays themselves, or None."""

    def rays(share: float) -> str:
        return f"{round(share * num_rays)} of {num_rays} directions"

    if is_empty:
        return Verdict.INVALID, "the loss at the center is above the cutoff, so the basin is empty."
    if found["non_finite"]:
        return Verdict.INVALID, f"{rays(found['non_finite'])} ended at a NaN or infinite loss."
    if zero_scale:
        return Verdict.INVALID, f"{zero_scale_sentence(zero_scale)}; {ZERO_SCALE_ADVICE}."
    if found["censored"] and not measure.is_finite:
        return Verdict.CENSORED, (
            f"{rays(found['censored'])} never crossed the cutoff; the true volume is larger, perhaps infinite."
        )
    if found["unresolved"]:
        return (
            Verdict.LOWER_BOUND,
            f"{rays(found['unresolved'])} kept an open bracket and count with its lower end.",
        )
    return None


def zero_scale_sentence(zero_scale: Mapping[str, int]) -> str:
    """A sentence, without its period, that names the parameters that are never perturbed."""
    named = ", ".join(f"{name} ({count})" for name, count in zero_scale.items())
    return f"parameters of scale 0 are never perturbed: {named}"


def _unseen_nats(log_weights: Tensor, log_largest: float) -> float:
    """How much a kind of direction that none of n draws met can add to the log of their mean, with 95 % confidence.

    Its share is below 3 / n (the rule of three, Hanley and Lippman-Hand 1983), and no weight is above the largest.
    """
    if math.isinf(log_largest):
        return math.inf
    log_share = math.log(_RULE_OF_THREE / len(log_weights))
    excess = log_share + log_largest - log_mean_exp(log_weights)
    return math.log1p(math.exp(min(excess, 700.0)))


def log_mean_exp(log_weights: Tensor) -> float:
    """The log of the mean of exp(log_weights), in nats."""
    return float(torch.logsumexp(log_weights, dim=0)) - math.log(len(log_weights))


def _split_nats(log_weights: Tensor) -> float:
    """The difference of the estimates from even and odd positions, because proposals come in ranges of directions."""
    if len(log_weights) < 2:
        return math.nan
    halves = [log_mean_exp(log_weights[start::2]) for start in (0, 1)]
    return abs(halves[0] - halves[1]) if all(map(math.isfinite, halves)) else math.inf


def _cutoff_slope(radii: Radii, used: Tensor, radius: Tensor, dim: int, measure: Measure, log_weights: Tensor) -> float:
    """Mean under the weights of (d log w / d ln r) / (d ln loss / d ln r)."""
    crossed = radii.is_status(Status.CROSSED)[used]
    slope = radii.slope[used]
    # Searches that do not interpolate leave every slope as it was guessed.
    if not bool(crossed.any()) or bool((slope[crossed] == DEFAULT_SLOPE).all()):
        return math.nan
    growth = measure.log_weights(radius * math.exp(_STEP), dim) - measure.log_weights(radius, dim)
    # Rays without a crossing have no slope; at a radius of 0 their growth is NaN.
    growth = torch.where(crossed, growth[used] / _STEP, 0.0)
    share = torch.softmax(log_weights, dim=0) * crossed
    return float((share * growth / slope.clamp(min=_MIN_SLOPE)).sum() / share.sum())


def _share(radii: Radii, status: Status) -> float:
    return float(radii.is_status(status).double().mean())


def _bracket_nats(radii: Radii, used: Tensor, dim: int, measure: Measure, log_ratio: Tensor) -> float:
    upper = radii.upper
    if measure.is_finite:
        upper = torch.where(radii.is_status(Status.CENSORED), measure.radius_max(dim), upper)
    elif not bool(torch.isfinite(upper[used]).all()):
        return math.inf
    ends = [log_mean_exp((measure.log_weights(end, dim) + log_ratio)[used]) for end in (radii.lower, upper)]
    return ends[1] - ends[0]
