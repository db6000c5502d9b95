"""How chains move, how hard they try, and what they say of the cutoff."""

from __future__ import annotations

import math

import pytest
import torch

import basinvol as bv
from basinvol import ground_truth as gt
from basinvol.estimators import annealed, splitting
from basinvol.estimators.conversion import _smoothed
from basinvol.estimators.groups import cutoff_slope, mean_of_groups, mean_of_inverses
from basinvol.estimators.hamiltonian import Gibbs
from basinvol.ground_truth.spectra import power_law, slabs


def measured(case: gt.Case, method: str, **options) -> bv.VolumeEstimate:
    """An estimate with 100 rays, under a Gaussian of width 1 where the case has that mass."""
    if case.log_masses:
        options = {"measure": "gaussian", "sigma": 1.0, **options}
    return bv.estimate_volume(
        *case.task(), cutoff=case.cutoff, num_directions=100, scaling="none", method=method, **options
    )


@pytest.mark.slow
def test_turned_and_ill_conditioned_bodies_are_no_harder_than_upright_ones() -> None:
    """In coordinates, chains would have to move at the step of the stiffest axis."""
    case = power_law(30, 1e3, 2.0, rotated=True, sigmas=(1.0,), seed=3)
    est = measured(case, "annealed", method_options={"rounds": 1})
    assert abs(est.log_volume - case.log_masses[1.0]) <= 2.0
    assert est.diagnostics.cutoff_slope == pytest.approx(15.0, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["annealed", "splitting", "hit-and-run"])
def test_slope_of_a_quadratic_is_half_its_parameters(method: str) -> None:
    case = gt.ball(8, 0.2, sigmas=(1.0,))
    options = {} if method == "splitting" else {"measure": "lebesgue", "sigma": None}
    est = measured(case, method, **options)
    assert est.diagnostics.cutoff_slope == pytest.approx(4.0, rel=0.25)


def test_slope_of_a_power_is_exact_in_the_limit() -> None:
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    loss = 0.3 + 1.7 * uniform ** (1.0 / 3.5)  # the measure below c is (c - 0.3)^3.5
    assert cutoff_slope(loss, 0.3, 2.0) == pytest.approx(3.5, rel=1e-3)


@pytest.mark.slow
def test_thin_slab_is_measured_or_refused_but_never_a_huge_number() -> None:
    case = slabs(20, 1e-6)
    est = measured(case, "annealed", method_options={"rounds": 1})
    verdict = est.diagnostics.verdict
    assert verdict is bv.Verdict.INVALID or abs(est.log_volume - case.log_masses[1.0]) <= 2.0


def test_densities_are_not_extended_far_beyond_the_samples() -> None:
    loss = 1.0 + 0.01 * torch.randn(5, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = torch.full((64,), -math.log(64.0), dtype=torch.float64)
    gibbs = Gibbs(beta=1e3, precision=0.0, center_loss=0.0)
    assert math.isfinite(_smoothed(gibbs, 0.99, loss, shares)[0])
    assert _smoothed(gibbs, 0.5, loss, shares)[0] == -math.inf


def test_mean_of_log_normal_groups_has_its_error() -> None:
    """Eight groups, 4,000 times: without the law, errors over error bars are -0.5 on average."""
    generator = torch.Generator().manual_seed(1)
    spread, scores = 0.6, []
    for _ in range(4000):
        logs = spread * torch.randn(8, generator=generator, dtype=torch.float64) - 0.5 * spread**2
        number, error = mean_of_groups(logs)
        scores.append(number / error)
    found = torch.tensor(scores)
    assert abs(float(found.mean())) < 0.25
    assert 0.7 < float(found.std()) < 1.3


def test_estimates_whose_inverses_are_unbiased_are_averaged_as_such() -> None:
    generator = torch.Generator().manual_seed(2)
    spread = 0.4
    logs = spread * torch.randn(4000, generator=generator, dtype=torch.float64) + 0.5 * spread**2
    number, error = mean_of_inverses(logs)
    assert abs(number) < 3.0 * error < 0.03
    assert mean_of_groups(logs)[0] == pytest.approx(spread**2, abs=3.0 * error)


def test_few_chains_form_fewer_groups() -> None:
    assert annealed.Options().num_groups == splitting.Options().num_groups == 16
    assert annealed.Options(num_chains=16).num_groups == splitting.Options(num_chains=32).num_groups == 8
    assert annealed.Options(num_chains=16, num_groups=4).num_groups == 4


def test_groups_that_disagree_are_not_taken_for_log_normal() -> None:
    logs = torch.tensor([0.0] * 7 + [100.0], dtype=torch.float64)
    assert mean_of_groups(logs)[0] == pytest.approx(100.0 - math.log(8.0))


@pytest.mark.parametrize(
    ("spread", "doublings"), [(0.0, 0), (0.7, 0), (0.71, 1), (0.98, 1), (1.0, 2), (3.9, 2), (4.1, 0)]
)
def test_chains_are_doubled_until_groups_should_agree(spread: float, doublings: int) -> None:
    """The variance of a group falls as its number of chains rises; beyond 4 nats two doublings cannot reach one."""
    assert splitting._doublings(spread, aim=0.7, most=2) == doublings
    assert splitting._doublings(spread, aim=0.7, most=0) == 0


@pytest.mark.slow
def test_groups_that_would_spread_get_more_chains() -> None:
    case = power_law(10, 10.0, 1.0, sigmas=(1.0,))
    once, often = (
        measured(case, "splitting", method_options={"rounds": rounds, "num_chains": 32}, probe=False)
        for rounds in (1, 4)
    )
    assert once.details["chains"] == "32 in 8 groups"
    assert once.details["spread_of_log_mass"] > 0.7
    assert often.details["chains"] in {"128 in 8 groups", "256 in 8 groups"}
    assert often.details["spread_of_log_mass"] < once.details["spread_of_log_mass"]


@pytest.mark.slow
def test_run_that_would_not_be_trusted_is_repeated_with_more_chains(monkeypatch) -> None:
    monkeypatch.setattr(splitting, "AIM_SPREAD", math.inf)  # as if the pilot had agreed by luck
    case = power_law(10, 10.0, 1.0, sigmas=(1.0,))
    est = measured(case, "splitting", method_options={"rounds": 4, "num_chains": 32}, probe=False)
    assert est.details["chains"] in {"64 in 8 groups", "128 in 8 groups", "256 in 8 groups"}
    assert est.details["spread_of_log_mass"] <= 1.0


@pytest.mark.slow
def test_pilot_takes_no_part_in_the_number() -> None:
    case = gt.ball(2, sigmas=(1.0,))
    alone, piloted = (measured(case, "splitting", method_options={"rounds": rounds}, probe=False) for rounds in (1, 3))
    assert alone.details["spread_of_log_mass"] < 0.5
    assert (alone.log_volume, alone.standard_error) == (piloted.log_volume, piloted.standard_error)
    assert 1.1 < piloted.num_evaluations / alone.num_evaluations < 1.4


@pytest.mark.slow
def test_groups_beyond_the_reach_of_more_chains_get_none() -> None:
    case, few = gt.two_scales(10, 100.0, sigma=1.0), {"num_chains": 32, "num_moves": 3}
    once, often = (
        measured(case, "splitting", method_options={"rounds": rounds, **few}, probe=False) for rounds in (1, 3)
    )
    assert once.details["spread_of_log_mass"] > 4.0
    assert (often.log_volume, often.details["chains"]) == (once.log_volume, once.details["chains"])
    assert str(often.diagnostics.verdict) == "lower bound"


@pytest.mark.parametrize(("radius", "is_hopeless"), [(0.15, False), (2e-5, True)])
def test_chains_that_will_not_come_down_are_given_up_early(monkeypatch, radius: float, is_hopeless: bool) -> None:
    for name, value in (("_MOST_LEVELS", 60), ("_PACE_LEVELS", 20), ("_FIRST_ASKED", 40)):
        monkeypatch.setattr(splitting, name, value)
    case = gt.ball(20, radius, sigmas=(1.0,))
    levels_needed = -case.log_masses[1.0] / math.log(2.0)
    assert levels_needed > 240 if is_hopeless else 65 < levels_needed < 110  # of the 60 that there are
    few = {"rounds": 1, "num_chains": 64, "num_groups": 4, "num_moves": 3}
    est = measured(case, "splitting", method_options=few, probe=False)
    assert est.diagnostics.verdict is bv.Verdict.INVALID
    assert ("at their pace they would need more than 120" in est.diagnostics.reason) == is_hopeless
    assert (est.details["loss_levels"] < 45) == is_hopeless


def test_pilot_that_is_stuck_is_the_estimate(monkeypatch) -> None:
    """Its groups are of the same size as the others would be, and none of those would come down either."""
    for name, value in (("_MOST_LEVELS", 60), ("_PACE_LEVELS", 20), ("_FIRST_ASKED", 40)):
        monkeypatch.setattr(splitting, name, value)
    case = gt.ball(20, 2e-5, sigmas=(1.0,))
    alone, piloted = (
        measured(case, "splitting", method_options={"rounds": rounds, "num_moves": 3}, probe=False) for rounds in (1, 3)
    )
    assert alone.diagnostics.verdict is piloted.diagnostics.verdict is bv.Verdict.INVALID
    assert "0 of 4 groups" not in piloted.diagnostics.reason
    assert "of 4 groups of chains came down" in piloted.diagnostics.reason
    assert piloted.num_evaluations < 0.4 * alone.num_evaluations
