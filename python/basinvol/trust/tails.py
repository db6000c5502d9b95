"""Pareto k-hat of weights, which says how heavy their tail is, from their logarithms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_TAIL = 5  # fewer exceedances say nothing about a tail
_EQUAL_NATS = 0.01  # a tail that spans less is no tail, and may be rounding of the radii
_PRIOR_WEIGHT, _PRIOR_SHAPE = 10.0, 0.5  # Vehtari et al. 2024, appendix C: ten exceedances of shape 1/2


def pareto_k(log_weights: Tensor) -> float:
    """Shape k-hat of the generalized Pareto distribution of the largest weights.

    Moments of order above 1/k are infinite: below 0.5 the variance is finite and the central limit theorem holds; above
    0.7 no sample of a practical size gives the mean (Vehtari, Simpson, Gelman, Yao and Gabry 2024). The tail is the
    largest min(n/5, 3 sqrt(n)) weights. The result is minus infinity if these are equal within 0.01 nats, and NaN if
    there are fewer than 25 weights.

    Args:
        log_weights: log weights; minus infinity is a weight of 0. [n] float64
    """
    count = len(log_weights)
    tail = math.ceil(min(0.2 * count, 3.0 * math.sqrt(count)))
    if tail < MIN_TAIL:
        return math.nan
    ordered = log_weights.double().sort().values
    if float(ordered[-1] - ordered[-tail - 1]) < _EQUAL_NATS:
        return -math.inf
    # Relative to the largest weight, which is 1, so that nothing overflows; the shape does not depend on the unit.
    scaled = (ordered[-tail - 1 :] - ordered[-1]).exp()
    exceedances = scaled[1:] - scaled[0]
    if float(exceedances[_quartile(tail)]) <= 0.0:
        return math.inf  # a few weights exceed all others by more than float64 can tell
    shape = generalized_pareto_fit(exceedances)[0]
    return (shape * tail + _PRIOR_SHAPE * _PRIOR_WEIGHT) / (tail + _PRIOR_WEIGHT)


def generalized_pareto_fit(exceedances: Tensor) -> tuple[float, float]:
    """The shape k and scale sigma of the density (1/sigma) (1 + k x/sigma)^(-1/k - 1), by profile posterior mean.

    Zhang and Stephens 2009, A new and efficient estimation method for the generalized Pareto distribution: the
    likelihood depends on theta = -k/sigma alone; its mean under a data-dependent prior on a grid needs no iteration.

    Args:
        exceedances: how far each value exceeds the threshold, in increasing order and positive. [n] float64
    """
    count = len(exceedances)
    # The grid and the prior of Zhang and Stephens 2009: denser for larger samples, scaled by the first quartile.
    num_points = 30 + int(math.sqrt(count))
    steps = torch.arange(1, num_points + 1, dtype=torch.float64)
    theta = 1.0 / exceedances[-1] + (1.0 - torch.sqrt(num_points / (steps - 0.5))) / (
        3.0 * exceedances[_quartile(count)]
    )
    shape = torch.log1p(-theta[:, None] * exceedances).mean(dim=1)
    log_likelihood = count * ((-theta / shape).log() - shape - 1.0)
    mean_theta = float((theta * torch.softmax(log_likelihood, dim=0)).sum())
    k = float(torch.log1p(-mean_theta * exceedances).mean())
    return k, -k / mean_theta


def _quartile(count: int) -> int:
    return max(int(count / 4 + 0.5) - 1, 0)
