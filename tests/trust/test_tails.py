"""The shape of a tail, against samples whose shape is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from basinvol.trust.tails import generalized_pareto_fit, pareto_k


@pytest.mark.parametrize("shape", [-0.3, 0.1, 0.5, 0.8, 1.2])
def test_generalized_pareto_fit_recovers_shape_and_scale(shape: float) -> None:
    """The maximum likelihood estimate has variance (1 + k)^2 / n; this one is as good (Zhang and Stephens 2009)."""
    count, repeats, scale = 1000, 30, 2.5
    rng = np.random.default_rng(0)
    samples = np.sort(stats.genpareto(shape, scale=scale).rvs((repeats, count), random_state=rng), axis=1)
    fits = np.array([generalized_pareto_fit(torch.from_numpy(sample)) for sample in samples])
    error = (1 + shape) / math.sqrt(count)
    assert abs(fits[:, 0].mean() - shape) < 5 * error / math.sqrt(repeats) + 0.01  # its bias is of order 1/n
    assert fits[:, 0].std() < 2 * error
    assert fits[:, 1].mean() == pytest.approx(scale, rel=0.05)


@pytest.mark.parametrize(
    ("name", "sampler", "low", "high"),
    [
        # log-weights c x exponential: the weights are exactly Pareto with shape c.
        ("Pareto of shape 0.3", lambda rng: 0.3 * rng.exponential(size=20_000), 0.2, 0.4),
        ("Pareto of shape 0.9", lambda rng: 0.9 * rng.exponential(size=20_000), 0.75, 1.05),
        ("Pareto of shape 3", lambda rng: 3.0 * rng.exponential(size=20_000), 2.6, 3.4),
        # A bounded weight falls below the exponential law, of shape 0.
        ("uniform", lambda rng: np.log(rng.random(20_000)), -1.2, 0.0),
        # exp(g^2/2) with g normal: a long axis of an ellipsoid; its mean is infinite, shape 1.
        ("long axis", lambda rng: 0.5 * rng.normal(size=20_000) ** 2, 0.8, 1.1),
    ],
)
def test_k_hat_of_weights_whose_tail_is_known(name: str, sampler, low: float, high: float) -> None:
    found = pareto_k(torch.from_numpy(sampler(np.random.default_rng(1))))
    assert low < found < high, name


def test_k_hat_does_not_depend_on_the_scale_of_the_weights() -> None:
    log_weights = torch.from_numpy(np.random.default_rng(2).normal(size=500))
    assert pareto_k(log_weights + 1e5) == pytest.approx(pareto_k(log_weights), abs=1e-6)


def test_k_hat_of_weights_beyond_float64_is_infinite() -> None:
    log_weights = 1e5 * torch.from_numpy(np.random.default_rng(2).normal(size=500))
    assert pareto_k(log_weights) == math.inf


def test_k_hat_of_equal_weights_is_minus_infinity_and_of_few_weights_unknown() -> None:
    assert pareto_k(torch.zeros(100, dtype=torch.float64)) == -math.inf
    assert math.isnan(pareto_k(torch.arange(20, dtype=torch.float64)))
