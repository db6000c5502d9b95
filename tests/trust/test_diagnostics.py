"""Verdicts on radii of bodies whose volume is known, and on every way a ray can end."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from torch import Tensor

from basinvol.search.radii import Radii, Status
from basinvol.trust.diagnostics import Diagnostics, Verdict, diagnose
from basinvol.trust.volume import log_mean_power, log_unit_ball


def radii_of(radius: Tensor, width: float = 1e-6, status: Status | list[Status] = Status.CROSSED) -> Radii:
    """Rays with these radii in brackets of relative width `width`."""
    statuses = status if isinstance(status, list) else [status] * len(radius)
    ones = torch.ones_like(radius)
    return Radii(
        lower=radius * (1 - width / 2),
        upper=radius * (1 + width / 2),
        radius=radius,
        value_lower=0.1 * ones,
        value_upper=0.1 * ones,
        slope=2.0 * ones,
        status_code=torch.tensor([s.code for s in statuses], dtype=torch.int8),
        num_evaluations=torch.full((len(radius),), 5),
        levels=(1,),
        cutoffs=(0.1,),
    )


def judge(radius: Tensor, dim: int, width: float = 1e-6, status=Status.CROSSED, zero_scale=None) -> Diagnostics:
    radii = radii_of(radius, width, status)
    return diagnose(radii, torch.ones(len(radius), dtype=torch.bool), radius, dim, zero_scale)


def sphere(count: int, dim: int, seed: int) -> Tensor:
    z = torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return z / z.norm(dim=1, keepdim=True)


def body_radii(name: str, dim: int, count: int, seed: int) -> tuple[Tensor, float]:
    """Radii along random directions, and the true log E[r^P]."""
    u = sphere(count, dim, seed)
    if name == "l1 ball":
        return 1 / u.abs().sum(dim=1), dim * math.log(2) - gammaln(1 + dim) - log_unit_ball(dim)
    if name == "box":
        return 1 / u.abs().amax(dim=1), dim * math.log(2) - log_unit_ball(dim)
    squared_axes = torch.logspace(0, math.log10(float(name)), dim, dtype=torch.float64)
    return (u.square() / squared_axes).sum(dim=1).rsqrt(), 0.5 * float(squared_axes.log().sum())


BODIES = [(name, dim) for name in ("2", "10", "100", "1000", "l1 ball", "box") for dim in (10, 30, 100, 1000)]
BODIES += [("l1 ball", 200), ("1e6", 3), ("1e8", 2)]


@pytest.mark.parametrize(("name", "dim"), BODIES)
@pytest.mark.parametrize("count", [100, 1000])
def test_verdict_is_never_trustworthy_where_the_error_exceeds_two_nats(name, dim, count):
    for seed in range(3):
        radius, truth = body_radii(name, dim, count, seed)
        found = judge(radius, dim)
        if found.verdict is Verdict.TRUSTWORTHY:
            assert abs(log_mean_power(radius, dim) - truth) <= 2.0
            assert abs(log_mean_power(radius, dim) - truth) <= 5 * found.standard_error
        else:
            assert found.verdict is Verdict.LOWER_BOUND


@pytest.mark.parametrize(("name", "dim"), [("2", 10), ("2", 30), ("10", 10)])
def test_easy_bodies_are_trustworthy(name, dim):
    """exp(KL) is 1 to 4 for these, so that 2000 directions are plenty (Chatterjee and Diaconis 2018)."""
    assert judge(body_radii(name, dim, 2000, 0)[0], dim).verdict is Verdict.TRUSTWORTHY


def test_statistics_are_those_of_the_weights():
    dim, count = 12, 200
    radius = (0.03 * torch.randn(count, dtype=torch.float64)).exp()
    found, w = judge(radius, dim, width=0.01), radius.numpy() ** dim
    assert found.ess == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-10)
    assert found.max_share == pytest.approx(w.max() / w.sum(), rel=1e-10)
    assert found.z == pytest.approx(np.log(w).std(ddof=1) / math.sqrt(2 * math.log(count)), rel=1e-10)
    assert found.standard_error == pytest.approx(w.std(ddof=1) / math.sqrt(count) / w.mean(), rel=1e-10)
    assert found.bracket_nats == pytest.approx(dim * math.log(1.005 / 0.995), rel=1e-10)
    assert found.num_used == count


def test_equal_radii_have_full_sample_size_and_no_spread():
    found = judge(torch.full((50,), 3.0, dtype=torch.float64), 10**6)
    assert found.ess == pytest.approx(50)
    assert found.max_share == pytest.approx(1 / 50)
    assert found.z == pytest.approx(0.0, abs=1e-9)
    assert found.verdict is Verdict.TRUSTWORTHY


def test_one_direction_that_decides_makes_a_lower_bound():
    radius = torch.ones(1000, dtype=torch.float64)
    radius[17] = 1.5
    found = judge(radius, 1000)
    assert found.verdict is Verdict.LOWER_BOUND
    assert "one direction holds 100% of the weight" in found.reason
    assert found.ess == pytest.approx(1.0)


def test_a_single_direction_is_never_trusted():
    found = judge(torch.ones(1, dtype=torch.float64), 5)
    assert found.verdict is Verdict.LOWER_BOUND
    assert math.isnan(found.z)
    assert math.isnan(found.standard_error)


def test_wide_brackets_in_many_dimensions_are_not_trusted():
    """1e-3 of a radius is 1000 nats of a million-dimensional volume."""
    found = judge(torch.ones(100, dtype=torch.float64), 10**6, width=1e-3)
    assert found.verdict is Verdict.LOWER_BOUND
    assert found.bracket_nats == pytest.approx(1000, rel=1e-3)
    assert "lower `rtol`" in found.reason


@pytest.mark.parametrize(
    ("status", "verdict", "share"),
    [
        (Status.CENSORED, Verdict.CENSORED, "censored"),
        (Status.NON_FINITE, Verdict.INVALID, "non_finite"),
        (Status.MAX_STEPS, Verdict.LOWER_BOUND, "unresolved"),
    ],
)
def test_one_ray_without_a_crossing_decides_the_verdict(status, verdict, share):
    found = judge(torch.ones(100, dtype=torch.float64), 5, status=[Status.CROSSED] * 99 + [status])
    assert found.verdict is verdict
    assert getattr(found, share) == pytest.approx(0.01)
    assert "1 of 100 directions" in found.reason


def test_empty_basin_and_unperturbed_parameters_are_invalid():
    nothing = torch.zeros(10, dtype=torch.float64)
    empty = judge(nothing, 5, status=Status.CENTER_OUTSIDE)
    assert empty.verdict is Verdict.INVALID
    assert "the basin is empty" in empty.reason
    flat = judge(torch.ones(10, dtype=torch.float64), 5, zero_scale={"0.weight": 3})
    assert flat.verdict is Verdict.INVALID
    assert "0.weight (3)" in flat.reason


def test_rays_that_are_dropped_do_not_shift_the_spread_onto_skipped_ones():
    """32 solved, one censored and dropped, the rest proved too short: z is that of the 32."""
    radius = (0.01 * torch.randn(80, dtype=torch.float64)).exp()
    statuses = [Status.CROSSED] * 32 + [Status.CENSORED] + [Status.NEGLIGIBLE] * 47
    radii = radii_of(radius, status=statuses)
    used = ~radii.is_status(Status.CENSORED)
    found = diagnose(radii, used, torch.where(radii.is_status(Status.NEGLIGIBLE), 0.0, radius), 100)
    assert found.num_spread == 32
    deviation = float((100 * radius[:32].log()).std())
    assert found.z == pytest.approx(deviation / math.sqrt(2 * math.log(79)), rel=1e-10)


def test_weights_far_below_the_others_do_no_harm_and_those_far_above_do():
    """A fifth of the weights are e^-50 of the others, as where a proposal also goes where the basin is short."""
    count, dim = 500, 10
    log_weights = 0.2 * torch.randn(count, dtype=torch.float64)
    low, high = log_weights.clone(), log_weights.clone()
    low[::5] -= 50.0
    high[::125] += 8.0
    found, far = (judge((values / dim).exp(), dim) for values in (low, high))
    assert found.z > 5.0
    assert found.upper_z < 0.2
    assert found.verdict is Verdict.TRUSTWORTHY
    assert far.verdict is Verdict.LOWER_BOUND


def test_verdict_prints_as_the_word_users_see():
    assert [str(verdict) for verdict in Verdict] == ["trustworthy", "lower bound", "censored", "invalid"]


def test_heavy_tail_is_not_trusted_though_the_sample_size_is_fair():
    """exp(g^2/2), the weights of a body with one long axis: their mean is infinite."""
    quantiles = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    normal = torch.special.ndtri(quantiles)[torch.randperm(2000)]
    found = judge((normal.square() / 2 / 50).exp(), 50)
    assert found.ess > 60
    assert found.k_hat > 0.7
    assert found.verdict is Verdict.LOWER_BOUND
    assert "a tail too heavy for a mean" in found.reason


def test_halves_that_differ_are_not_trusted():
    radius = torch.ones(400, dtype=torch.float64)
    radius[::2] = math.exp(1.2 / 10)
    found = judge(radius, 10)
    assert found.split_nats == pytest.approx(1.2, rel=1e-9)
    assert found.verdict is Verdict.LOWER_BOUND
    assert found.reason == "the two halves of the sample differ by 1.2 nats."


def test_slope_in_the_cutoff_is_the_mean_of_dim_over_the_slope_of_the_rays():
    radius = torch.ones(4, dtype=torch.float64)
    radii = dataclasses.replace(radii_of(radius), slope=torch.tensor([2.0, 3.0, 4.0, 6.0], dtype=torch.float64))
    found = diagnose(radii, torch.ones(4, dtype=torch.bool), radius, 12)
    assert found.cutoff_slope == pytest.approx(np.mean([6.0, 4.0, 3.0, 2.0]), rel=1e-4)


def test_slope_in_the_cutoff_is_unknown_where_no_ray_learned_a_slope():
    assert math.isnan(judge(torch.ones(4, dtype=torch.float64), 12).cutoff_slope)
