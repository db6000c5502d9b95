"""A log-volume in its terms, when it has an interval, and what rays without an end do to it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator

import pytest
import torch
from scipy import stats
from scipy.special import gammaln
from torch import Tensor, nn

import basinvol as bv
from basinvol import ground_truth
from basinvol.search.radii import Radii, Status
from basinvol.trust.result import Volume

DIM = 6
LOG_BALL = 0.5 * DIM * math.log(math.pi) - float(gammaln(0.5 * DIM + 1))
SCALE = torch.tensor([0.5, 1.0, 2.0, 3.0, 1.0, 0.25])
LOG_DET = float(SCALE.double().log().sum())


def space() -> bv.ParameterSpace:
    return bv.ParameterSpace.of(nn.Linear(DIM, 1, bias=False))


def radii_of(radius: list[float], status: list[Status] | None = None, lower: list[float] | None = None) -> Radii:
    """Exact radii; a ray with another status than CROSSED has none, and is known to be inside up to `lower`."""
    statuses = status or [Status.CROSSED] * len(radius)
    ends = torch.tensor(lower or radius, dtype=torch.float64)
    ones = torch.ones_like(ends)
    return Radii(
        lower=ends,
        upper=torch.tensor(radius, dtype=torch.float64),
        radius=torch.where(
            torch.tensor([s is Status.CROSSED for s in statuses]), torch.tensor(radius, dtype=torch.float64), math.nan
        ),
        value_lower=0.1 * ones,
        value_upper=0.1 * ones,
        slope=2.0 * ones,
        status_code=torch.tensor([s.code for s in statuses], dtype=torch.int8),
        num_evaluations=torch.full((len(ends),), 5),
        levels=(1,),
        cutoffs=(0.1,),
    )


def volume(radii: Radii, *args: object, scale: Tensor = SCALE, **options: object) -> Volume:
    return Volume.of(radii, space(), scale, *args, **options)


def log_mean(*powers: float) -> float:
    return math.log(math.fsum(powers) / len(powers))


def test_volume_is_the_unit_ball_times_the_mean_power_times_the_determinant() -> None:
    """An ellipsoid with half-axes 3 x scale: its volume is known."""
    found = volume(radii_of([3.0] * 40))
    assert found.log_unit_ball == pytest.approx(LOG_BALL, rel=1e-12)
    assert found.log_mean_power == pytest.approx(DIM * math.log(3.0), rel=1e-12)
    assert found.log_det_scale == pytest.approx(LOG_DET, rel=1e-6)
    half_axes = 3.0 * SCALE.double()
    assert found.log_volume == pytest.approx(LOG_BALL + float(half_axes.log().sum()), rel=1e-6)
    assert found.dim == DIM


def test_mean_is_of_powers_and_not_of_logs() -> None:
    assert volume(radii_of([1.0, 2.0])).log_mean_power == pytest.approx(log_mean(1.0, 2.0**DIM), rel=1e-12)


def test_mass_under_a_gaussian_is_the_mean_mass_along_a_ray_alone() -> None:
    sigma = 0.7
    found = volume(radii_of([1.0, 2.0]), measure=bv.Measure("gaussian", sigma=sigma))
    expected = log_mean(*stats.chi(DIM).cdf([1.0 / sigma, 2.0 / sigma]))
    assert found.log_mean_power == pytest.approx(expected, rel=1e-10)
    assert found.log_volume == found.log_mean_power, "neither the unit ball nor the determinant belongs to a mass"


def test_radii_beyond_a_ball_count_with_its_radius() -> None:
    found = volume(radii_of([1.0, 2.0]), measure=bv.Measure("ball", radius=1.5))
    assert found.log_volume == pytest.approx(LOG_BALL + LOG_DET + log_mean(1.0, 1.5**DIM), rel=1e-6)


def test_rays_are_weighted_with_the_ratio_of_densities() -> None:
    """The mean over the proposal of uniform density over its own, times r^P."""
    ratio = torch.tensor([1 / 3, 3.0], dtype=torch.float64)
    found = volume(radii_of([1.0, 2.0]), log_ratio=ratio.log())
    assert found.log_mean_power == pytest.approx(log_mean(1 / 3, 3.0 * 2.0**DIM), rel=1e-12)


def test_interval_is_two_sided_normal_around_the_number_and_the_open_brackets() -> None:
    logs = 0.02 * torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)
    found = volume(radii_of(logs.exp()[torch.randperm(400)].tolist()))
    assert found.diagnostics.verdict is bv.Verdict.TRUSTWORTHY, found.diagnostics.reason
    assert found.interval is not None
    low, high = found.interval
    weights = (DIM * logs).exp()
    error = float(weights.std() / weights.mean()) / 20.0
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert 0.5 * (low + high) == pytest.approx(found.log_volume, abs=1e-12)
    assert 0.5 * (high - low) == pytest.approx(float(stats.norm.ppf(0.975)) * error, rel=1e-6)
    wide = dataclasses.replace(found, diagnostics=dataclasses.replace(found.diagnostics, bracket_nats=0.6))
    assert wide.interval == pytest.approx((low - 0.3, high + 0.3), rel=1e-12)


@pytest.mark.parametrize("verdict", [bv.Verdict.LOWER_BOUND, bv.Verdict.CENSORED])
def test_number_that_is_not_trusted_has_no_interval_but_a_lower_bound(verdict: bv.Verdict) -> None:
    trusted = volume(radii_of([3.0] * 40))
    assert trusted.interval is not None
    doubted = dataclasses.replace(trusted, diagnostics=trusted.diagnostics.doubted(verdict, "because."))
    assert doubted.interval is None
    assert doubted.lower_bound == trusted.lower_bound
    # Markov: an unbiased estimate is twenty times too large at most once in twenty.
    assert doubted.lower_bound == pytest.approx(doubted.log_volume - math.log(20.0), rel=1e-12)


def test_number_that_is_no_volume_or_comes_from_chains_has_no_bound_either() -> None:
    trusted = volume(radii_of([3.0] * 40))
    invalid = dataclasses.replace(trusted, diagnostics=trusted.diagnostics.doubted(bv.Verdict.INVALID, "because."))
    assert invalid.interval is None
    assert invalid.lower_bound == -math.inf
    chains = dataclasses.replace(trusted, diagnostics=dataclasses.replace(trusted.diagnostics, has_bound=False))
    assert chains.lower_bound == chains.interval[0]
    unmixed = dataclasses.replace(chains, diagnostics=chains.diagnostics.doubted(bv.Verdict.LOWER_BOUND, "because."))
    assert unmixed.lower_bound == -math.inf


ENDLESS = ([1.0, 2.0, math.inf], [Status.CROSSED, Status.CROSSED, Status.CENSORED], [1.0, 2.0, 10.0])


def test_censored_rays_raise_with_the_radii_that_were_measured() -> None:
    radii = radii_of(*ENDLESS)
    with pytest.raises(bv.CensoredError, match=r"1 of 3 directions are censored at radius_max=10; raise") as caught:
        volume(radii)
    assert caught.value.radii is radii


def test_censored_rays_are_dropped_or_count_up_to_where_they_were_followed() -> None:
    dropped, bounded = volume(radii_of(*ENDLESS), "drop"), volume(radii_of(*ENDLESS), "bound")
    assert dropped.log_mean_power == pytest.approx(log_mean(1.0, 2.0**DIM), rel=1e-12)
    assert bounded.log_mean_power == pytest.approx(log_mean(1.0, 2.0**DIM, 10.0**DIM), rel=1e-12)
    for found, used in ((dropped, 2), (bounded, 3)):
        assert found.diagnostics.verdict is bv.Verdict.CENSORED
        assert found.diagnostics.num_used == used
        assert found.interval is None


def test_all_rays_censored_and_dropped_leave_no_number() -> None:
    radii = radii_of([math.inf] * 2, [Status.CENSORED] * 2, [10.0] * 2)
    with pytest.raises(bv.CensoredError, match="all 2 directions are censored and dropped") as caught:
        volume(radii, "drop")
    assert caught.value.radii is radii


@pytest.mark.parametrize("on_censored", ["raise", "drop", "bound"])
def test_rays_without_an_end_count_in_full_in_a_finite_measure(on_censored: str) -> None:
    found = volume(radii_of(*ENDLESS), on_censored, measure=bv.Measure("ball", radius=4.0))
    assert found.log_mean_power == pytest.approx(log_mean(1.0, 2.0**DIM, 4.0**DIM), rel=1e-12)
    assert found.diagnostics.num_used == 3


def test_policies_without_a_censored_ray_are_the_same() -> None:
    numbers = {policy: volume(radii_of([1.0, 2.0]), policy).log_volume for policy in ("raise", "drop", "bound")}
    assert len(set(numbers.values())) == 1


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="`on_censored` must be one of 'raise', 'drop', 'bound', got 'ignore'"):
        volume(radii_of([1.0]), "ignore")


@pytest.mark.parametrize(
    ("status", "lower", "counts"),
    [(Status.NON_FINITE, 1.5, 1.5), (Status.MAX_STEPS, 1.5, 1.5), (Status.NEGLIGIBLE, 0.0, 0.0)],
)
def test_ray_without_a_crossing_counts_with_what_is_certainly_inside(
    status: Status, lower: float, counts: float
) -> None:
    found = volume(radii_of([1.0, 2.0], [Status.CROSSED, status], [1.0, lower]))
    assert found.log_mean_power == pytest.approx(log_mean(1.0, counts**DIM), rel=1e-12)


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for part in value.values():
            yield from leaves(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from leaves(part)
    else:
        yield value


@pytest.mark.parametrize(
    "case",
    [ground_truth.ball(3), ground_truth.half_space(3), ground_truth.with_dead_parameters(3, 1)],
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("count", [1, 40])
def test_dictionary_of_any_estimate_is_json_without_nan_or_infinity(case: ground_truth.Case, count: int) -> None:
    est = bv.estimate_volume(
        *case.task(), cutoff=case.cutoff, num_directions=count, scaling="none", on_censored="bound"
    )
    numbers = est.to_dict()
    assert all(math.isfinite(value) for value in leaves(numbers) if isinstance(value, float))
    assert json.loads(json.dumps(numbers, allow_nan=False))["log_volume"] == est.log_volume
    assert (numbers["interval"] is None) == (est.interval is None)
    assert numbers["verdict"] == str(est.diagnostics.verdict)
    assert numbers["reason"] == est.diagnostics.reason
    if count == 1:
        assert math.isnan(est.diagnostics.z)
        assert numbers["z"] is None, "one direction has no spread"
    for name in ("cutoff", "seed", "method", "backend", "num_evaluations", "ess", "log_unit_ball", "measure", "sigma"):
        assert name in numbers


def test_dictionary_holds_what_a_method_says_of_itself_and_no_radii() -> None:
    case = ground_truth.ball(3)
    est = bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=5, scaling="none")
    told = dataclasses.replace(est, details={"spread": math.inf, "shares": (0.25, math.nan), "fit": "none"})
    numbers = told.to_dict()
    assert (numbers["spread"], numbers["shares"], numbers["fit"]) == (None, [0.25, None], "none")
    assert "radii" not in numbers
    assert not any(isinstance(value, Tensor) for value in leaves(numbers))
