"""How an estimate reads: the verdict first, and no certainty that it does not have."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth

BALL = ground_truth.ball(1200, 2.0)
LONG = ground_truth.long_axes(60, 20.0, rotated=False)
ENDLESS = ground_truth.half_space(3, sigmas=(1.0,))


def measure(case: ground_truth.Case, count: int = 40, **options: object) -> bv.VolumeEstimate:
    return bv.estimate_volume(
        *case.task(), cutoff=case.cutoff, num_directions=count, scaling="none", on_censored="bound", **options
    )


def lines_of(estimate: bv.VolumeEstimate) -> dict[str, str]:
    """Name and text of each line."""
    return {line[:17].strip(): line[17:] for line in str(estimate).splitlines()}


@pytest.fixture(scope="module")
def trusted() -> bv.VolumeEstimate:
    est = measure(BALL, probe=False)
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    return est


@pytest.fixture(scope="module")
def bound() -> bv.VolumeEstimate:
    est = measure(LONG)
    assert est.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    return est


@pytest.fixture(scope="module")
def censored() -> bv.VolumeEstimate:
    est = measure(ENDLESS)
    assert est.diagnostics.verdict is bv.Verdict.CENSORED
    return est


@pytest.mark.parametrize("name", ["trusted", "bound", "censored"])
def test_verdict_with_its_reason_comes_before_the_number(name: str, request: pytest.FixtureRequest) -> None:
    est = request.getfixturevalue(name)
    first, second = str(est).splitlines()[:2]
    assert first == f"verdict          {est.diagnostics.verdict}: {est.diagnostics.reason}"
    assert second.startswith(f"log volume       {est.log_volume:,.2f} nats in {est.dim:,} dimensions, ")
    assert f"{est.log_volume:,.2f}" not in first


def test_number_that_is_trusted_has_an_interval_and_a_valid_error(trusted: bv.VolumeEstimate) -> None:
    found = lines_of(trusted)
    low, high = trusted.interval or (math.nan, math.nan)
    assert found["log volume"].endswith(f", 95% interval {low:,.2f} to {high:,.2f}")
    assert found["standard error"].startswith(f"{trusted.standard_error:.2f}; brackets worth ")
    assert "in 1,200 dimensions" in found["log volume"]
    assert "confidence" not in str(trusted)
    assert "not valid" not in str(trusted)


@pytest.mark.parametrize("name", ["bound", "censored"])
def test_number_that_is_not_trusted_has_a_bound_and_an_error_marked_as_not_valid(
    name: str, request: pytest.FixtureRequest
) -> None:
    est = request.getfixturevalue(name)
    found = lines_of(est)
    assert found["log volume"].endswith(f", above {est.lower_bound:,.2f} with 95% confidence")
    assert f"(not valid: {est.diagnostics.verdict})" in found["standard error"]
    assert "interval" not in str(est)


def test_interval_goes_with_the_verdict_and_not_with_the_numbers(trusted: bv.VolumeEstimate) -> None:
    doubted = dataclasses.replace(
        trusted, diagnostics=trusted.diagnostics.doubted(bv.Verdict.LOWER_BOUND, "the sample is small.")
    )
    assert str(doubted).startswith("verdict          lower bound: the sample is small.\n")
    assert "interval" not in str(doubted)
    assert "(not valid: lower bound)" in str(doubted)


def test_printed_terms_add_up_to_the_printed_number(bound: bv.VolumeEstimate) -> None:
    found = lines_of(bound)
    terms = [float(found[name].replace(",", "")) for name in ("log unit ball", "log mean r^P", "log det scale")]
    number = float(found["log volume"].split(" nats")[0].replace(",", ""))
    assert sum(terms) == pytest.approx(number, abs=4 * 0.005)


def test_mass_under_a_gaussian_is_called_one_and_has_no_other_terms() -> None:
    est = measure(ENDLESS, measure="gaussian", sigma=1.0)
    found = lines_of(est)
    assert found["log mass"].startswith(f"{est.log_volume:,.2f} nats")
    assert "log volume" not in found
    assert not {"log unit ball", "log mean r^P", "log det scale"} & set(found)
    assert "sigma 1" in found["measure"]


def test_share_of_rays_without_an_end_is_printed(censored: bv.VolumeEstimate) -> None:
    share = float((censored.radii.status_code == bv.Status.CENSORED.code).double().mean())
    assert 0.2 < share < 0.8
    assert f"censored {share:.1%}" in lines_of(censored)["weights"]


def test_what_was_not_asked_for_is_not_printed(bound: bv.VolumeEstimate) -> None:
    assert math.isnan(bound.diagnostics.reentrant)
    assert not {"rays", "agreement", "unbounded", "details"} & set(lines_of(bound))
    asked = dataclasses.replace(
        bound,
        details={"num_chains": 8, "spread_of_log_z": 0.123456},
        diagnostics=dataclasses.replace(
            bound.diagnostics,
            reentrant=0.25,
            non_monotone=0.5,
            agreement="method paper gives 3.00 nats",
            unbounded=("the first sentence", "the second"),
        ),
    )
    found = lines_of(asked)
    assert found["rays"] == "re-entrant 25.0%, not monotone 50.0%"
    assert found["agreement"] == "method paper gives 3.00 nats"
    assert found["details"] == "num chains 8, spread of log z 0.1235"
    lines = str(asked).splitlines()
    assert lines[lines.index("unbounded        the first sentence") + 1] == " " * 17 + "the second"


def test_shape_of_the_tail_is_unknown_for_few_directions() -> None:
    assert "k-hat unknown" in str(measure(LONG, 20, probe=False))
    assert re.search(r"k-hat -?\d", str(measure(LONG, 60, probe=False)))


def test_slope_in_the_cutoff_of_a_quadratic_is_half_the_dimension(trusted: bv.VolumeEstimate) -> None:
    printed = lines_of(trusted)["slope"]
    found = re.fullmatch(r"d log V / d log excess loss ([\d,.]+) \(P/2 is 600\.0\)", printed)
    assert found is not None, printed
    assert float(found[1].replace(",", "")) == pytest.approx(600.0, rel=1e-2)


def test_cost_counts_rays_and_probes(trusted: bv.VolumeEstimate, bound: bv.VolumeEstimate) -> None:
    for est in (trusted, bound):
        rays = int(est.radii.num_evaluations.sum())
        assert lines_of(est)["cost"].startswith(f"{rays + est.diagnostics.num_probes:,} evaluations of the loss, ")
        assert f"{rays / 40:.1f} evaluations each" in lines_of(est)["directions"]
    assert "none for probes" in lines_of(trusted)["cost"]
    assert bound.diagnostics.num_probes > 0
    assert lines_of(bound)["cost"].endswith(f"{bound.diagnostics.num_probes:,} of them for probes")


def test_spread_of_skipped_rays_is_said_to_be_the_pilots(trained, blobs) -> None:
    for resolve, said in (("decisive", True), ("all", False)):
        est = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 60, resolve=resolve, probe=False)
        assert (est.diagnostics.negligible > 0) == said
        assert ("(of the first 8 directions)" in lines_of(est)["weights"]) == said
        assert ("of the first" in str(est)) == said


def test_what_made_the_number_is_printed_with_it(bound: bv.VolumeEstimate) -> None:
    found = lines_of(bound)
    assert found["cutoff"] == f"{bound.cutoff:g}, loss at the center {bound.center_loss:.6g}"
    assert found["directions"].startswith("40 (seed 0), scaling none, method star, search interpolate, ")
    assert found["backend"].startswith(f"torch ({bound.backend_reason}), ")
