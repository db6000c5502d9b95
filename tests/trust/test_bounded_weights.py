"""Where no weight can be larger than those that were met, their spread to the other side is no reason for doubt."""

from __future__ import annotations

import math

import pytest

import basinvol as bv
from basinvol.ground_truth import half_space, hidden_balls, power_law
from basinvol.trust.measures import Measure


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "distance"), [(2, 0.2), (10, 1.0), (50, 0.5), (200, 2.0), (1000, 1.0)])
def test_half_spaces_under_a_gaussian_are_trustworthy(dim: int, distance: float):
    case = half_space(dim, distance, sigmas=(1.0,))
    est = bv.estimate_volume(
        *case.task(), cutoff=case.cutoff, num_directions=500, scaling="none", measure="gaussian", sigma=1.0
    )
    assert abs(est.log_volume - case.log_masses[1.0]) < max(3.5 * est.standard_error, 0.01)
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert "weights bounded" in est.diagnostics.reason


def test_small_masses_leave_room_for_what_was_not_drawn():
    """Of 500 directions none may be of a kind that a 167th of all are: under a mass of e^-12 it could be everything."""
    case = power_law(10, 10.0, 1.0, sigmas=(1.0,))
    est = bv.estimate_volume(
        *case.task(), cutoff=case.cutoff, num_directions=500, scaling="none", measure="gaussian", sigma=1.0
    )
    assert "weights bounded" not in est.diagnostics.reason


def test_the_largest_weight_is_that_of_a_ray_that_never_leaves():
    assert Measure("gaussian", sigma=0.3).log_largest(7) == 0.0
    assert Measure("ball", radius=2.0).log_largest(7) == pytest.approx(7 * math.log(2.0))
    assert Measure().log_largest(7) == math.inf


@pytest.mark.slow
def test_a_hidden_ball_is_found_under_a_bounded_measure_too():
    case = hidden_balls(30, sigmas=(0.25,), axis=33)
    est = bv.estimate_volume(
        *case.task(), cutoff=case.cutoff, num_directions=500, scaling="none", measure="gaussian", sigma=0.25
    )
    is_right = abs(est.log_volume - case.log_masses[0.25]) < max(3.0 * est.standard_error, 0.5)
    assert is_right or est.diagnostics.verdict is not bv.Verdict.TRUSTWORTHY
