from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from basinvol.trust.volume import (
    log_det_scale,
    log_mean_power,
    log_unit_ball,
    lower_confidence_bound,
    standard_error,
    weights,
)

RADII = st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=30)


@pytest.mark.parametrize(("dim", "volume"), [(1, 2.0), (2, math.pi), (3, 4 * math.pi / 3), (4, math.pi**2 / 2)])
def test_unit_balls_of_low_dimension(dim, volume):
    assert log_unit_ball(dim) == pytest.approx(math.log(volume), abs=1e-14)


@pytest.mark.parametrize("dim", [10, 1000, 10**6, 10**9])
def test_unit_ball_of_high_dimension_follows_the_gamma_function(dim):
    assert log_unit_ball(dim) == pytest.approx(0.5 * dim * math.log(math.pi) - gammaln(0.5 * dim + 1), rel=1e-13)


@given(radii=RADII, dim=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_log_mean_power_is_the_log_of_the_mean_of_powers(radii, dim):
    exact = math.log(math.fsum((r / 1e6) ** dim for r in radii) / len(radii)) + dim * math.log(1e6)
    assert log_mean_power(torch.tensor(radii, dtype=torch.float64), dim) == pytest.approx(exact, abs=1e-11 * dim)


@given(radii=RADII, log_factor=st.floats(-20.0, 20.0), dim=st.sampled_from([1, 10, 10**6]))
@settings(max_examples=25, deadline=None)
def test_dilation_shifts_log_mean_power_by_dim_log_factor(radii, log_factor, dim):
    radius = torch.tensor(radii, dtype=torch.float64)
    shift = log_mean_power(radius * math.exp(log_factor), dim) - log_mean_power(radius, dim)
    assert abs(shift - dim * log_factor) <= 1e-13 * dim


def test_order_of_directions_changes_nothing():
    radius = torch.rand(500, dtype=torch.float64) + 0.5
    shuffled = radius[torch.randperm(500)]
    assert log_mean_power(shuffled, 100) == pytest.approx(log_mean_power(radius, 100), rel=1e-14)


def test_millions_of_dimensions_do_not_overflow():
    radius = torch.tensor([1e3, 2e3], dtype=torch.float64)
    assert log_mean_power(radius, 10**7) == pytest.approx(1e7 * math.log(2e3) - math.log(2.0), rel=1e-14)


def test_empty_directions_count_as_volume_zero():
    assert log_mean_power(torch.tensor([0.0, 2.0], dtype=torch.float64), 3) == pytest.approx(math.log(4.0))
    nothing = torch.zeros(4, dtype=torch.float64)
    assert log_mean_power(nothing, 3) == -math.inf
    assert bool(torch.isnan(weights(nothing, 3)).all()), "no sum, no shares"


def test_censored_or_failed_rays_can_not_be_averaged():
    with pytest.raises(ValueError, match="`radius` holds 2 NaN: censored or failed rays have no radius"):
        log_mean_power(torch.tensor([1.0, math.nan, math.nan], dtype=torch.float64), 3)
    with pytest.raises(ValueError, match="`radius` is empty"):
        log_mean_power(torch.empty(0, dtype=torch.float64), 3)


def test_log_det_scale_is_the_sum_of_logs():
    scale = torch.rand(1000) + 0.1
    assert log_det_scale(scale) == pytest.approx(float(np.log(scale.double().numpy()).sum()), rel=1e-12)
    assert log_det_scale(torch.tensor([1.0, 0.0])) == -math.inf


@given(radii=RADII)
@settings(max_examples=25, deadline=None)
def test_standard_error_is_the_relative_error_of_the_mean(radii):
    powers = np.array(radii) ** 2
    exact = powers.std(ddof=1) / math.sqrt(len(radii)) / powers.mean()
    # A difference of nearly equal numbers where all radii are nearly equal.
    assert standard_error(torch.tensor(radii, dtype=torch.float64), 2) == pytest.approx(exact, rel=1e-6, abs=1e-7)


def test_standard_error_of_one_direction_is_unknown():
    assert math.isnan(standard_error(torch.ones(1, dtype=torch.float64), 3))


def test_standard_error_matches_the_spread_of_repeated_estimates():
    dim, repeats, count = 20, 400, 200
    log_radius = 0.02 * torch.randn(repeats, count, dtype=torch.float64)  # sd of the log weights 0.4
    estimates = torch.tensor([log_mean_power(row.exp(), dim) for row in log_radius])
    errors = torch.tensor([standard_error(row.exp(), dim) for row in log_radius])
    # The spread of 400 estimates is itself known to one part in sqrt(2 x 400).
    assert float(errors.mean() / estimates.std()) == pytest.approx(1.0, abs=5 / math.sqrt(2 * repeats))
    truth = (dim * 0.02) ** 2 / 2
    assert abs(float(estimates.mean()) - truth) <= 5 * float(estimates.std()) / math.sqrt(repeats) + 1 / count


@pytest.mark.parametrize("spread", [0.3, 3.0, 30.0])
def test_lower_bound_holds_as_often_as_it_says_however_heavy_the_tail(spread):
    repeats = 1000
    log_weight = spread * torch.randn(repeats, 50, dtype=torch.float64)
    truth = spread**2 / 2
    bounds = torch.tensor([lower_confidence_bound(log_mean_power(row.exp(), 1), 0.9) for row in log_weight])
    failures = float((bounds > truth).double().mean())
    assert failures <= 0.1 + 5 * math.sqrt(0.1 * 0.9 / repeats)


def test_lower_bound_is_markovs_inequality():
    assert lower_confidence_bound(7.0, 0.95) == pytest.approx(7.0 + math.log(0.05))
    for confidence in (0.0, 1.0):
        with pytest.raises(ValueError, match="`confidence` must be between 0 and 1"):
            lower_confidence_bound(7.0, confidence)
