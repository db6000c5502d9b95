"""A volume from independent groups of chains, whose spread is the error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..trust.diagnostics import (
    ZERO_SCALE_ADVICE,
    Diagnostics,
    Verdict,
    log_mean_exp,
    weight_statistics,
    zero_scale_sentence,
)
from ..trust.result import Volume
from ..trust.volume import log_det_scale, log_unit_ball
from .task import Task

# What groups may spread by, in nats, without more work being done.
AIM_SPREAD = 0.7
_LOG_NORMAL = 1.0  # largest spread in nats up to which groups are taken for log-normal


def number_of_groups(num_chains: int, least: int) -> int:
    """How many groups the chains form unless the user says so: 16, or 8 where 16 would have fewer than `least` each.

    With 8 groups the spread itself is poorly known: errors over error bars have a standard deviation of up to 1.4
    and values beyond 5, and with 16 of up to 1.3.
    """
    return 16 if num_chains >= 16 * least and num_chains % 16 == 0 else 8


def few_groups_factor(count: int) -> float:
    """How much wider an error from few groups has to be, so that errors over it have the variance one.

    With G groups they follow Student's t with G - 1 degrees of freedom, whose variance is (G - 1) / (G - 3).
    """
    return math.sqrt((count - 1) / (count - 3)) if count > 3 else 2.0


def mean_of_groups(log_groups: Tensor) -> tuple[float, float]:
    """The log of the mean of independent estimates, and its standard error, in nats.

    The logs of estimates from populations of chains are nearly normal, with a mean half their variance below the truth
    (Berard, Del Moral and Doucet 2014): the mean of the logs plus half their variance. The mean of the estimates
    themselves is skewed, and errors over its error bars with it: by -0.5 on average at a spread of 0.6 nats. Where the
    groups spread too far for that law, it is the mean nevertheless, which is too low rather than too high.

    Args:
        log_groups: log of each estimate. [G] float64
    """
    count, spread = len(log_groups), float(log_groups.std())
    factor = few_groups_factor(count)
    if not spread <= _LOG_NORMAL:
        return log_mean_exp(log_groups), factor * weight_statistics(log_groups)["standard_error"]
    error = math.sqrt(spread**2 / count + spread**4 / (2.0 * (count - 1)))
    return float(log_groups.mean()) + 0.5 * spread**2, factor * error


def mean_of_inverses(log_groups: Tensor) -> tuple[float, float]:
    """As `mean_of_groups`, for independent estimates whose inverses are unbiased: minus the log of the mean inverse."""
    number, error = mean_of_groups(-log_groups)
    return -number, error


def cutoff_slope(loss: Tensor, center_loss: float, cutoff: float, log_weights: Tensor | None = None) -> float:
    """The slope d ln measure / d ln (cutoff - L0), from losses of points of the basin.

    If the measure of {L <= c} is a power of c - L0, ln (cutoff - L0) / (L - L0) is exponential with that power, whose
    maximum likelihood estimate is one over the mean (Hill 1975).

    Args:
        loss: losses of points drawn from the basin. [n]
        center_loss: L0, the loss at the center.
        cutoff: the loss that bounds the basin.
        log_weights: log of the measure's density over that of the points. [n]
    """
    weights = torch.softmax(torch.zeros_like(loss) if log_weights is None else log_weights, dim=0)
    share = ((loss - center_loss) / (cutoff - center_loss)).clamp(min=1e-300)
    mean = -float((weights * share.log()).sum()) if len(loss) else 0.0
    return 1.0 / mean if mean > 0.0 else math.nan


def volume_of_groups(
    task: Task,
    log_groups: Tensor,
    verdict: Verdict,
    reason: str,
    shift: float = 0.0,
    shift_error: float = 0.0,
    slope: float = math.nan,
    mean: Callable[[Tensor], tuple[float, float]] = mean_of_groups,
) -> Volume:
    """The volume from the mean over groups, with the verdict of their method.

    Args:
        task: what was measured.
        log_groups: log of the measure in scaled coordinates, from each group. [G] float64
        verdict, reason: the verdict of the method; parameters of scale 0 make it `invalid`.
        shift: a term that is added to the log of their mean. nats
        shift_error: its standard error. nats
        slope: d ln measure / d ln (cutoff - loss at the center), NaN if unknown.
        mean: how the groups are averaged, and the error of that: `mean_of_groups` or `mean_of_inverses`.
    """
    dim = task.space.dim
    log_number, error = mean(log_groups)
    log_number += shift
    if not task.measure.is_gaussian:
        log_number -= log_unit_ball(dim)
    zero = task.space.zero_filters(task.scale)
    if zero:
        verdict, reason = Verdict.INVALID, f"{zero_scale_sentence(zero)}; {ZERO_SCALE_ADVICE}."
    statistics = weight_statistics(log_groups)
    statistics["standard_error"] = math.hypot(error, shift_error)
    evidence: dict[str, Any] = {**statistics, "zero_scale": zero}
    diagnostics = Diagnostics(
        verdict,
        reason,
        bracket_nats=0.0,
        cutoff_slope=slope,
        censored=0.0,
        non_finite=0.0,
        unresolved=0.0,
        negligible=0.0,
        num_used=len(log_groups),
        num_spread=len(log_groups),
        has_bound=False,
        **evidence,
    )
    return Volume(dim, log_unit_ball(dim), log_number, log_det_scale(task.scale), diagnostics, measure=task.measure)
