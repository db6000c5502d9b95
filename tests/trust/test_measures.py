"""Measures against closed forms, through the whole pipeline where they are reached by it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth
from basinvol.trust.measures import log_chi_cdf
from basinvol.trust.volume import log_unit_ball

pytestmark = pytest.mark.usefixtures("rays_together")


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 100, 1000])
def test_log_chi_cdf_agrees_with_scipy(dim: int) -> None:
    radius = math.sqrt(dim) * np.array([0.5, 0.8, 0.95, 1.0, 1.05, 1.3, 3.0])
    expected = stats.chi(dim).logcdf(radius)
    known = np.isfinite(expected)
    found = log_chi_cdf(torch.from_numpy(radius), dim).numpy()
    assert np.allclose(found[known], expected[known], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dim", [5, 1000, 235_146])
def test_log_chi_cdf_far_in_the_tail_is_that_of_a_small_ball(dim: int) -> None:
    """Where r is small the density is flat: log omega_P + P ln r - (P/2) ln 2 pi - O(r^2)."""
    radius = 1e-4 * math.sqrt(dim)
    expected = log_unit_ball(dim) + dim * math.log(radius) - 0.5 * dim * math.log(2 * math.pi)
    found = float(log_chi_cdf(torch.tensor([radius], dtype=torch.float64), dim))
    assert abs(found - expected) <= 0.5 * radius**2 + 1e-12 * abs(expected)


def test_log_chi_cdf_at_its_ends() -> None:
    ends = log_chi_cdf(torch.tensor([0.0, math.inf, 1e6]), 7)
    assert ends.tolist() == [-math.inf, 0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "sigma"),
    [
        (ground_truth.ball(10, 1.0, sigmas=(0.5,)), 0.5),
        (ground_truth.half_space(3, sigmas=(1.0,)), 1.0),
        (ground_truth.slab(5, sigmas=(1.0,)), 1.0),
        (ground_truth.with_dead_parameters(30, 1, sigmas=(0.3,)), 0.3),
        (ground_truth.two_scales(8, 4.0, sigma=0.7), 0.7),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_mass_under_a_gaussian_is_finite_where_rays_never_leave(case: ground_truth.Case, sigma: float) -> None:
    est = bv.estimate_volume(
        *case.task(), cutoff=case.cutoff, num_directions=500, scaling="none", method="gaussian", sigma=sigma
    )
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert abs(est.log_volume - case.log_masses[sigma]) <= 5 * est.standard_error + est.diagnostics.bracket_nats + 1e-9
    assert est.log_volume == est.log_mean_power
    assert "gaussian around the center" in str(est)
    assert "log mass" in str(est)


@pytest.mark.slow
def test_ball_measure_cuts_a_half_space_to_a_ball_without_its_cap() -> None:
    """{w_1 <= d} inside |w| <= R misses a cap; in three dimensions the cap is pi h^2 (3R - h) / 3, h = R - d."""
    radius, distance = 2.0, 1.0
    case = ground_truth.half_space(3, distance)
    est = bv.estimate_volume(
        *case.task(), cutoff=distance, num_directions=500, scaling="none", measure="ball", radius=radius
    )
    cap = math.pi * (radius - distance) ** 2 * (2 * radius + distance) / 3
    truth = math.log(4 / 3 * math.pi * radius**3 - cap)
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert abs(est.log_volume - truth) <= 5 * est.standard_error + 1e-3
    assert f"inside a ball around the center, radius {radius:g}" in str(est)


def test_ball_larger_than_the_basin_changes_nothing(trained, blobs) -> None:
    plain = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 30)
    longest = float(plain.radii.upper.max())
    inside = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 30, measure="ball", radius=1.01 * longest)
    brackets = inside.diagnostics.bracket_nats + plain.diagnostics.bracket_nats
    assert inside.log_volume == pytest.approx(plain.log_volume, abs=brackets)


def test_small_basin_has_the_gaussian_mass_of_its_volume(trained, blobs) -> None:
    """With a large sigma the density is flat over the basin: log mass = log volume - log det(S) - (P/2) ln 2 pi s^2."""
    sigma = 1e4
    plain = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 30)
    mass = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 30, measure="gaussian", sigma=sigma)
    density = 0.5 * plain.dim * math.log(2 * math.pi * sigma**2)
    assert mass.log_volume == pytest.approx(plain.log_volume - plain.log_det_scale - density, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "haar"}, "`measure` must be one of 'lebesgue', 'gaussian', 'ball', got 'haar'"),
        ({"measure": "gaussian"}, "measure='gaussian' needs a positive `sigma` in units of the scale, got sigma=None"),
        ({"measure": "ball", "radius": -1.0}, "measure='ball' needs a positive `radius` .* got radius=-1.0"),
        ({"sigma": 1.0}, "`sigma` belongs to measure='gaussian', got it with measure='lebesgue'"),
        ({"measure": "gaussian", "sigma": 1.0, "radius": 2.0}, "`radius` belongs to measure='ball'"),
        (
            {"method": "gaussian", "measure": "ball", "radius": 1.0},
            "method='gaussian' measures a Gaussian mass, got 'ball'",
        ),
        ({"method": "paper", "measure": "ball", "radius": 1.0}, "method='paper' is defined for measure='lebesgue'"),
        ({"measure": "ball", "radius": 1.0, "resolve": "decisive"}, "`resolve` 'decisive' proves that r\\^P cannot"),
        ({"measure": "ball", "radius": 1.0, "radius_max": 2.0}, "`radius_max` is for measure='lebesgue'"),
        ({"check": "star"}, "`check` must be another method than `method`, got 'star' twice"),
        ({"check": "ais"}, "`method` must be one of .*, got 'ais'"),
        ({"method_options": {"temperature": 3}}, "`method_options` of method 'star' are none, got 'temperature'"),
    ],
)
def test_measure_that_does_not_fit_is_refused(trained, blobs, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 2, **options)
