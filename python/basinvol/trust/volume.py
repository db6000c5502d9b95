"""From radii to log-volumes: pure functions, natural logarithms throughout.

For a body that is star-shaped around the center, with u uniform on the unit sphere of the scaled coordinates,

    log V = log omega_P + log E[r(u)^P] + log det S        (nats).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_unit_ball(dim: int) -> float:
    """The log-volume of the unit ball in R^dim: (P/2) ln(pi) - ln Gamma(P/2 + 1).

    >>> import math
    >>> round(math.exp(log_unit_ball(2)), 6)  # a disk
    3.141593
    """
    return 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim + 1.0)


def log_mean_power(radius: Tensor, dim: int) -> float:
    """The number ln((1/D) sum r^P), the estimate of log E[r^P] that the paper reports.

    It is biased downward on the log scale, without limit where few directions dominate: see `diagnose`.

    Args:
        radius: radius of each direction; every value must be a number, and 0 counts as an empty direction. [D] float64
        dim: P.

    Raises:
        ValueError: there is no radius, or a NaN among them (a ray that was censored or failed).
    """
    if radius.numel() == 0:
        raise ValueError("`radius` is empty: there is no direction to average.")
    if bool(torch.isnan(radius).any()):
        raise ValueError(
            f"`radius` holds {int(torch.isnan(radius).sum())} NaN: censored or failed rays have no radius."
        )
    log_weights = dim * radius.double().log()
    return float(torch.logsumexp(log_weights, dim=0)) - math.log(radius.numel())


def log_det_scale(scale: Tensor) -> float:
    """The number ln det S, the sum of the logs of the scale; minus infinity where an element is 0."""
    return float(scale.double().log().sum())


def weights(radius: Tensor, dim: int) -> Tensor:
    """The share of each direction in the sum of r^P; NaN if every radius is 0. [D]"""
    return torch.softmax(dim * radius.double().log(), dim=0)


def standard_error(radius: Tensor, dim: int) -> float:
    """Standard error of `log_mean_power` by the delta method, in nats.

    It is valid while many directions share the weight. Once one direction dominates it saturates near 1 and says
    nothing: use `lower_confidence_bound` there. It is NaN with fewer than two directions.
    """
    share = weights(radius, dim)
    count = len(share)
    if count < 2:
        return math.nan
    return math.sqrt(max(float((share**2).sum()) - 1.0 / count, 0.0) * count / (count - 1))


def lower_confidence_bound(log_volume: float, confidence: float = 0.95) -> float:
    """A value that the true log-volume exceeds with this confidence, whatever the distribution of radii.

    Markov's inequality for a non-negative unbiased estimator of V with exact radii: P(estimate > log V + t) <= e^-t,
    so log V >= estimate - ln(1/(1 - confidence)). There is no such bound from above.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"`confidence` must be between 0 and 1, got {confidence}.")
    return log_volume + math.log1p(-confidence)
