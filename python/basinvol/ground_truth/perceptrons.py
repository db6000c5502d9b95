"""Perceptrons that label their examples as asked: a cone, whose volume is known on average over labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from .case import Case, gauge_case

# The integrand bends sharply where the overlap is near 1: even steps see it, and polynomials do not.
_NORMALS = np.linspace(-10.0, 10.0, 2001)
_DENSITY = np.exp(-0.5 * _NORMALS**2) / np.exp(-0.5 * _NORMALS**2).sum()
_LOGIT_OVERLAPS = np.linspace(-12.0, 12.0, 4001)


def version_space(
    num_weights: int, num_examples: int, *, labels: list[int] | None = None, teacher: bool = False, seed: int = 0
) -> Case:
    """Weights of a perceptron that classify normal inputs as asked: y_i x_i w / sqrt(P) >= -0.001.

    The margin puts w = 0, the center, inside. Under any Gaussian around it the mass of a version space without margin
    is the share of the sphere that it holds. Over all 2^n labels of the same inputs these shares have sum 1; over
    inputs, ln of the share has about the mean P `random_labels(n / P)` or P `teacher_labels(n / P)`, and a standard
    deviation of order sqrt(P). The mass of one of them is not known, so the case has none.

    Args:
        num_weights: P.
        num_examples: n.
        labels: y_i, each -1 or 1; default random ones.
        teacher: whether labels are those of a normal teacher.
        seed: of the inputs, the teacher and the labels.

    Raises:
        ValueError: there are not n labels, or one of them is neither -1 nor 1.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num_examples, num_weights, generator=generator, dtype=torch.float64) / math.sqrt(num_weights)
    if labels is not None:
        if len(labels) != num_examples or set(labels) - {-1, 1}:
            raise ValueError(f"`labels` must have one of -1 or 1 for each of {num_examples} examples, got {labels}.")
        signs = torch.tensor(labels, dtype=torch.float64)
    elif teacher:
        signs = (inputs @ torch.randn(num_weights, generator=generator, dtype=torch.float64)).sign()
    else:
        signs = 2.0 * torch.randint(2, (num_examples,), generator=generator).double() - 1.0
    against = -signs[:, None] * inputs
    name = f"version space of {num_examples} {'teacher' if teacher else 'given' if labels else 'random'} labels"
    return gauge_case(name, lambda w: (against @ w).amax(), num_weights, 1e-3, math.inf)


def random_labels(load: float) -> float:
    """The log of the share of weights that give random labels, per weight, for P to infinity, in nats.

    Source: Gardner 1988, with the replica-symmetric saddle point, which is exact here (Shcherbina and Tirozzi 2003).

    >>> import basinvol as bv
    >>> round(bv.ground_truth.random_labels(0.5), 4)
    -0.3777

    Args:
        load: n / P, examples for each weight, above 0 and below 2, where no weights are left.

    Raises:
        ValueError: the load is not between 0 and 2.
    """
    if not 0.0 < load < 2.0:
        raise ValueError(f"`load` must be above 0 and below 2, got {load}.")

    def share(odds: float) -> float:
        return 0.5 * (odds - math.log1p(odds)) + load * float((_DENSITY * _log_cdf(math.sqrt(odds))).sum())

    return _extreme(share, sign=1.0)


def teacher_labels(load: float) -> float:
    """The log of the share of weights that give the labels of a random teacher, per weight, in the same limit, in nats.

    Source: Gyorgyi 1990; Barbier, Krzakala, Macris, Miolane and Zdeborova 2019, who prove it.

    >>> import basinvol as bv
    >>> round(bv.ground_truth.teacher_labels(2.0), 4)
    -1.031

    Args:
        load: n / P, examples for each weight, above 0.

    Raises:
        ValueError: the load is not above 0.
    """
    if not 0.0 < load < math.inf:
        raise ValueError(f"`load` must be above 0, got {load}.")

    def share(odds: float) -> float:
        log_cdf = _log_cdf(math.sqrt(odds))
        entropy = 0.5 * (odds / (1.0 + odds) - math.log1p(odds))
        return entropy + 2.0 * load * float((_DENSITY * np.exp(log_cdf) * log_cdf).sum())

    return _extreme(share, sign=-1.0)


def _extreme(share: Callable[[float], float], sign: float) -> float:
    """The least (sign 1) or largest (-1) value over the overlap q of two solutions, given as its odds q / (1 - q)."""
    return sign * min(sign * share(math.exp(logit)) for logit in _LOGIT_OVERLAPS)


def _log_cdf(slope: float) -> NDArray[np.float64]:
    """ln Phi(slope t), at every t of `_NORMALS`."""
    values: NDArray[np.float64] = torch.special.log_ndtr(torch.from_numpy(slope * _NORMALS)).numpy()
    return values
