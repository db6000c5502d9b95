"""Numbers that leave out most of the mass are not called trustworthy."""

from __future__ import annotations

import math

import pytest
import torch

import basinvol as bv
from basinvol.estimators import Outcome, Task
from basinvol.estimators.groups import volume_of_groups
from basinvol.estimators.mixing import drift, is_drifting, rank_normalized_r_hat
from basinvol.ground_truth.bodies import ball, half_space
from basinvol.ground_truth.case import Case
from basinvol.ground_truth.products import cross
from basinvol.ground_truth.revolution import funnel, golf_hole, hidden_balls, two_basins
from basinvol.trust.measures import log_chi_cdf


def measure(case: Case, **options) -> bv.VolumeEstimate:
    options = {"scaling": "none", "num_directions": 500, "on_censored": "bound", **options}
    return bv.estimate_volume(*case.task(), cutoff=case.cutoff, **options)


HIDDEN = [
    hidden_balls(200, axis=200),
    hidden_balls(200, 1.1, 1.2, axis=3),
    hidden_balls(500, 1.4, 1.5, axis=4),
    hidden_balls(100, 1.05, 1.25, count=2, axis=5),
    funnel(10, 4.0, 0.2, 2.0, axis=6),
    funnel(200, 2.0, 0.8, 1.3, axis=200),
    two_basins(10, 3.0, 0.5, 0.25),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", HIDDEN, ids=lambda case: case.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_cones_that_uniform_rays_do_not_meet_are_found(case: Case, seed: int):
    est = measure(case, seed=seed)
    assert case.log_volume - est.log_volume > 2.0  # or there is nothing to find
    assert est.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert est.interval is None


@pytest.mark.parametrize("case", [ball(200), ball(5), golf_hole(30, 2.0), two_basins(30)], ids=lambda case: case.name)
def test_bodies_that_hide_nothing_stay_trustworthy(case: Case):
    est = measure(case)
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert abs(est.log_volume - case.log_volume) < 0.1
    assert est.diagnostics.num_probes <= 2 * int(est.radii.num_evaluations.sum()) + 1500


class Elsewhere:
    """Chains that agree with each other, and sit in another basin: more of them shrink the spread, not the error."""

    name = "elsewhere"

    def __init__(self, shortfall: float) -> None:
        self.shortfall = shortfall

    def estimate(self, task: Task) -> Outcome:
        rays = task.uniform_rays()
        found = float(log_chi_cdf(torch.ones(1), task.space.dim)) - self.shortfall
        groups = found + torch.tensor([0.1, -0.1, 0.05, -0.05], dtype=torch.float64)
        volume = volume_of_groups(task, groups, bv.Verdict.TRUSTWORTHY, "4 groups of chains agree.")
        return Outcome.of_rays(volume, rays, beyond_star=True)


def test_chains_that_miss_the_center_are_held_against_its_rays():
    case = two_basins(30)
    assert case.log_masses[1.0] == pytest.approx(float(log_chi_cdf(torch.ones(1), 30)), abs=1e-3)
    missed = measure(case, measure="gaussian", sigma=1.0, method=Elsewhere(11.0))
    assert missed.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert "rays from the center alone give -38.76 nats" in missed.diagnostics.reason
    assert missed.lower_bound == -math.inf
    assert "without a bound" in str(missed)
    agreeing = measure(case, measure="gaussian", sigma=1.0, method=Elsewhere(0.05), probe=False)
    assert agreeing.diagnostics.verdict is bv.Verdict.TRUSTWORTHY


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hit-and-run", "annealed"])
def test_chains_that_stay_in_the_arms_of_a_cross_are_not_trusted(method: str):
    case = cross(4, 1e-5)
    est = measure(case, method=method, num_directions=100)
    assert abs(est.log_volume - case.log_volume) > 2.0
    assert est.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert est.lower_bound == -math.inf


def test_an_interval_of_chains_is_their_only_bound():
    est = measure(half_space(10, sigmas=(1.0,)), measure="gaussian", sigma=1.0, method="splitting", num_directions=50)
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert est.interval is not None
    assert est.lower_bound == est.interval[0]


def test_r_hat_is_one_for_independent_samples_and_large_for_chains_apart():
    independent = torch.randn(40, 64, 3, dtype=torch.float64)
    assert (rank_normalized_r_hat(independent) < 1.03).all()
    apart = independent + 3.0 * torch.randn(1, 64, 3, dtype=torch.float64)
    assert (rank_normalized_r_hat(apart) > 2.0).all()
    moving = independent + 0.2 * torch.arange(40, dtype=torch.float64)[:, None, None]
    assert (rank_normalized_r_hat(moving) > 1.5).all()


def test_r_hat_knows_no_moments():
    """A monotone map of the samples changes no rank; constants are equal everywhere."""
    samples = torch.randn(20, 8, 1, dtype=torch.float64)
    assert torch.allclose(rank_normalized_r_hat(samples), rank_normalized_r_hat((5.0 * samples).exp()))
    assert float(rank_normalized_r_hat(torch.ones(20, 8, 1))) == 1.0
    assert math.isnan(float(rank_normalized_r_hat(torch.ones(3, 8, 1))))


def test_drift_is_growth_beyond_its_noise():
    assert drift(torch.tensor([0.5, 0.5, 0.7, 0.3]))[0] == pytest.approx(0.5)
    assert is_drifting(torch.tensor([0.5, 0.5, 0.7, 0.3]))
    assert not is_drifting(torch.tensor([0.9, -0.5, 0.7, -0.3]))  # noise
    assert not is_drifting(-torch.tensor([0.5, 0.5, 0.7, 0.3]))  # walkers that have spread, and come back
    assert not is_drifting(torch.tensor([0.05, 0.05, 0.07, 0.03]))  # too little to matter
