"""Method "direct": the share of independent draws that are inside, against known masses."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import Any

import pytest
import torch
from scipy.stats import chi2
from torch import nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth as gt
from basinvol.estimators import Outcome, Task, find_method


def drawn(case: gt.Case, sigma: float, **settings: Any) -> bv.VolumeEstimate:
    settings = {"num_directions": 8, "scaling": "none", **settings}
    return bv.estimate_volume(*case.task(), case.cutoff, method="direct", measure="gaussian", sigma=sigma, **settings)


@pytest.mark.parametrize(
    ("case", "sigma", "truth"),
    [
        (gt.ball(10), 0.6, chi2.logcdf(1 / 0.6**2, 10)),
        (gt.two_scales(8, 4.0, sigma=0.7), 0.7, None),
        (gt.half_space(10, sigmas=(1.0,)), 1.0, None),  # of which a large part is inside
    ],
    ids=["ball", "ellipsoid", "half-space"],
)
def test_errors_are_those_of_the_error_bars(case: gt.Case, sigma: float, truth: float | None) -> None:
    truth = case.log_masses[sigma] if truth is None else float(truth)
    found = [drawn(case, sigma, seed=seed, probe=False) for seed in range(40)]
    z = [(est.log_volume - truth) / est.standard_error for est in found]
    assert abs(statistics.mean(z)) < 0.4  # 2.5 standard errors of the mean
    assert 0.7 < statistics.stdev(z) < 1.3
    assert all(est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY for est in found)
    assert all(est.details["draws_inside"] == 100 for est in found)


def test_parts_that_rays_do_not_meet_are_counted_and_no_probe_doubts_the_number() -> None:
    """Another basin, wider than the center's, of which no ray from the center comes in sight."""
    case = gt.two_basins(4, 3.5, floor=0.0)
    few, many = drawn(case, 1.0, probe=True), drawn(case, 1.0, probe=True, num_directions=200)
    settings = {"num_directions": 2000, "scaling": "none", "measure": "gaussian", "sigma": 1.0}
    plain = bv.estimate_volume(*case.task(), 1.0, method="gaussian", probe=False, **settings)
    assert plain.log_volume + 4 * plain.standard_error < case.log_masses[1.0]
    for found in (few, many):
        assert abs(found.log_volume - case.log_masses[1.0]) < 3 * found.standard_error
        assert found.diagnostics.verdict is bv.Verdict.TRUSTWORTHY, found.diagnostics.reason


def test_target_error_and_most_draws_end_the_drawing() -> None:
    case = gt.ball(10)
    finer = drawn(case, 0.6, method_options={"target_error": 0.05})
    assert finer.details["draws_inside"] == 400
    assert finer.standard_error == pytest.approx(0.05, rel=0.05)
    fewer = drawn(case, 0.6, method_options={"most_draws": 1000})
    assert 10 <= fewer.details["draws_inside"] < 30
    assert fewer.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert "are inside, fewer than the 100 that `target_error` asks for." in fewer.diagnostics.reason
    wide = drawn(case, 0.01)
    assert (wide.log_volume, wide.details["draws"]) == (0.0, 100)
    assert wide.standard_error == pytest.approx(0.01, rel=0.02)  # not zero, although no point was outside
    few = drawn(case, 0.6, method_options={"most_draws": 300})
    assert few.details["draws"] == 300
    assert few.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert few.log_volume == math.log(few.details["draws_inside"] / 300)
    assert f"only {few.details['draws_inside']} of 300 independent draws are inside" in few.diagnostics.reason


def test_no_draw_inside_is_no_number_and_says_what_is_known() -> None:
    est = drawn(gt.ball(50), 1.0, method_options={"most_draws": 1000})
    assert est.diagnostics.verdict is bv.Verdict.INVALID
    assert est.log_volume == -math.inf
    assert "none of 1,000 independent draws is inside, so that the log mass is below -5.8" in est.diagnostics.reason


def test_results_do_not_depend_on_how_many_points_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = drawn(gt.ball(10), 0.6)
    monkeypatch.setattr("basinvol.estimators.direct._DRAWS_AT_ONCE", 7)
    found = drawn(gt.ball(10), 0.6)
    assert (found.log_volume, found.details) == (expected.log_volume, expected.details)


def test_chains_and_draws_of_a_network_agree() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
    x, y = torch.randn(20, 6), torch.arange(20) % 3
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(400):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    settings: dict[str, Any] = {"cutoff": 0.2, "num_directions": 20, "measure": "gaussian", "sigma": 0.15}
    est = bv.estimate_volume(model, F.cross_entropy, (x, y), method="direct", check="splitting", **settings)
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY, est.diagnostics.agreement
    assert est.log_volume < -1.0


def test_draws_of_which_none_is_inside_check_only_what_they_can_tell() -> None:
    """A log mass of -66 is below the -5.8 that a thousand draws tell, and not below -100."""
    settings: dict[str, Any] = {"measure": "gaussian", "sigma": 1.0, "num_directions": 100, "scaling": "none"}

    class FewDraws:
        name = "few draws"

        def __init__(self, at_most: float) -> None:
            self.at_most = at_most

        def estimate(self, task: Task) -> Outcome:
            found = find_method("direct", {"most_draws": 1000}).estimate(task)
            return dataclasses.replace(found, at_most=min(found.at_most, self.at_most))

    for at_most, verdict in ((math.inf, bv.Verdict.TRUSTWORTHY), (-100.0, bv.Verdict.LOWER_BOUND)):
        est = bv.estimate_volume(*gt.ball(50).task(), 1.0, method="gaussian", check=FewDraws(at_most), **settings)
        assert est.diagnostics.verdict is verdict
        assert f"few draws gives at most {min(at_most, -5.81):,.2f} nats" in est.diagnostics.agreement


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_error": 0.0}, "`target_error` must be at least 0.0001 nats, got 0.0."),
        ({"most_draws": 0}, "`most_draws` must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawn(gt.ball(3), 1.0, method_options=options)


def test_other_measures_are_refused() -> None:
    with pytest.raises(ValueError, match="method='direct' measures a Gaussian mass, got measure='lebesgue'"):
        bv.estimate_volume(*gt.ball(3).task(), 1.0, 8, scaling="none", method="direct")
