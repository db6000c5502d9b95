"""Minima whose volumes are known, compared along common directions."""

from __future__ import annotations

import math

import pytest
import torch

import basinvol as bv
from basinvol import ground_truth
from basinvol.trust.comparison import rank_agreement, trace_prediction

pytestmark = pytest.mark.usefixtures("rays_together")


def star(case: ground_truth.Case, count: int = 300, **options) -> bv.VolumeEstimate:
    options = {"scaling": "none", "probe": False, **options}
    return bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=count, **options)


def test_dilated_copies_differ_by_dim_log_a_without_any_error() -> None:
    """Every common direction says the same, though each level has an error of its own."""
    first = star(ground_truth.lp_ball(6, 1.0, radius=1.5), rtol=1e-9)
    second = star(ground_truth.lp_ball(6, 1.0, radius=1.0), rtol=1e-9)
    found = bv.compare([second, first], names=["small", "large"])
    (pair,) = found.pairs
    assert found.names == ("large", "small")
    assert found.is_paired
    assert found.stability == 1.0
    for value in (pair.difference, pair.typical_difference, pair.trace_difference):
        assert value == pytest.approx(6 * math.log(1.5), abs=1e-6)
    assert pair.error < 1e-6 < first.standard_error
    assert pair.probability == 1.0
    assert pair.share_larger == 1.0
    assert pair.is_valid
    assert "large > small" in str(found)


@pytest.mark.slow
def test_error_of_a_paired_difference_covers_the_truth() -> None:
    cases = [ground_truth.ellipsoid(8, 3.0, seed=seed) for seed in (0, 1)] + [ground_truth.ball(8, 0.9)]
    estimates = [star(case) for case in cases]
    found = bv.compare(estimates, names=["a", "b", "ball"])
    truth = dict(zip(["a", "b", "ball"], [case.log_volume for case in cases], strict=True))
    for pair in found.pairs:
        assert abs(pair.difference - (truth[pair.first] - truth[pair.second])) <= 5 * pair.error + 1e-2


def test_trace_prediction_is_the_ball_with_the_same_trace() -> None:
    dim, condition = 1000, 1000.0
    case = ground_truth.ellipsoid(dim, condition)
    curvature = torch.logspace(0, math.log10(condition), dim, dtype=torch.float64)
    est = star(case, 100)
    expected = est.log_unit_ball - 0.5 * dim * math.log(float(curvature.mean()))
    spread = float((est.radii.radius**-2.0).std() / (est.radii.radius**-2.0).mean()) / math.sqrt(100)
    assert abs(trace_prediction(est) - expected) <= 5 * 0.5 * dim * spread
    # The plain number is nearer to the trace than to the truth.
    assert abs(est.log_volume - expected) < abs(est.log_volume - case.log_volume)


def test_numbers_that_are_lower_bounds_are_not_said_to_rank_volumes() -> None:
    found = bv.compare([star(ground_truth.ellipsoid(100, 100.0, seed=seed), 50) for seed in (0, 1)])
    assert "this ranks the numbers on these directions, not the volumes" in str(found)
    assert not found.pairs[0].is_valid
    assert found.stability < 1.0


def test_other_directions_make_independent_errors() -> None:
    case = ground_truth.ellipsoid(5, 2.0)
    first, second = star(case, seed=0), star(case, seed=1)
    found = bv.compare([first, second])
    assert not found.is_paired
    expected = math.hypot(first.standard_error, second.standard_error)
    assert found.pairs[0].error == pytest.approx(expected, rel=0.15)  # of 1,000 normal draws
    assert math.isnan(found.pairs[0].typical_difference)


def test_rank_agreement_is_kendalls_tau() -> None:
    assert rank_agreement([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]) == 1.0
    assert rank_agreement([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == -1.0
    assert rank_agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="two rankings of the same two or more minima are needed, got 1 and 2"):
        rank_agreement([1.0], [1.0, 2.0])


def test_estimates_that_do_not_compare_are_refused() -> None:
    ball = star(ground_truth.ball(3), 5)
    with pytest.raises(ValueError, match="`estimates` must hold two or more, got 1"):
        bv.compare([ball])
    with pytest.raises(ValueError, match="`names` must be 2 different names, got"):
        bv.compare([ball, ball], names=["a", "a"])
    mass = star(ground_truth.ball(3), 5, measure="gaussian", sigma=1.0)
    with pytest.raises(ValueError, match="`estimates` must share measure, scaling and dimension, got lebesgue"):
        bv.compare([ball, mass])
