"""The truths of bodies that hide mass, against sampling in few dimensions and identities in many."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from basinvol.ground_truth import hard_table, table
from basinvol.ground_truth.bodies import ball, regression, two_scales
from basinvol.ground_truth.case import Case
from basinvol.ground_truth.clusters import many_balls
from basinvol.ground_truth.combined import dilated, rotated, side_by_side
from basinvol.ground_truth.products import cross, singular_disk
from basinvol.ground_truth.revolution import funnel, golf_hole, hidden_balls, tube, two_basins
from basinvol.ground_truth.spectra import log_quadratic_cdf, power_law, slabs
from basinvol.trust.measures import log_chi_cdf
from basinvol.trust.volume import log_unit_ball

_DRAWS = 200_000


def share_inside(case: Case, points: torch.Tensor) -> tuple[float, float]:
    """Of points that lie in the body, and its standard error."""
    inside = torch.vmap(case.task()[0].gauge)(points) <= case.cutoff
    share = float(inside.double().mean())
    return share, math.sqrt(share * (1 - share) / len(points))


VOLUMES = [
    (hidden_balls(3), 2.5),
    (hidden_balls(2, 0.6, 1.4, count=2), 2.1),
    (many_balls(3, 3, 1.2, 0.5, seed=4), 1.8),
    (many_balls(2, 2, 1.7, 0.6, seed=5), 2.4),
    (tube(3, 3.0, 0.4), 3.1),
    (funnel(3, 3.0, 0.1, 1.5), 3.5),
    (cross(1, 0.1), 1.0),
    (cross(1, 0.1, order=3), 1.0),
    (singular_disk(1e-4), 1.0),
    (side_by_side([cross(1, 0.1), hidden_balls(2)]), 2.5),
    (rotated(cross(2, 0.3), seed=3), 2.0),
    (dilated(tube(2, 2.0, 0.3), 1.5), 3.1),
]
MASSES = [
    two_basins(3),
    hidden_balls(3, sigmas=(1.0,)),
    singular_disk(1e-4, sigmas=(0.5,)),
    funnel(3, 3.0, 0.1, 1.5, sigmas=(0.7,)),
    tube(3, 3.0, 0.4, sigmas=(0.7,)),
    slabs(3, 0.3, 2, rotated=True),
    power_law(3, 4.0, 1.0, sigmas=(1.0,)),
    golf_hole(3, 0.8),
    dilated(two_basins(3), 0.5),
    side_by_side([slabs(2, 0.5), ball(2, sigmas=(1.0,))]),
]


@pytest.mark.parametrize(("case", "half"), VOLUMES, ids=lambda value: getattr(value, "name", ""))
def test_volumes_are_those_of_points_drawn_in_a_cube(case: Case, half: float):
    points = half * (2 * torch.rand(_DRAWS, case.dim, dtype=torch.float64) - 1)
    share, error = share_inside(case, points)
    whole = (2 * half) ** case.dim
    assert abs(math.exp(case.log_volume) - share * whole) < 4.5 * error * whole


@pytest.mark.parametrize("case", MASSES, ids=lambda case: case.name)
def test_masses_are_those_of_points_drawn_from_the_gaussian(case: Case):
    assert case.log_masses
    for sigma, mass in case.log_masses.items():
        share, error = share_inside(case, sigma * torch.randn(_DRAWS, case.dim, dtype=torch.float64))
        assert abs(math.exp(mass) - share) < 4.5 * error


def test_the_hidden_ball_of_two_hundred_dimensions_holds_nearly_all():
    assert hidden_balls(200).log_volume - log_unit_ball(200) == pytest.approx(200 * math.log(1.3), abs=1e-6)


def test_products_of_two_have_their_closed_form():
    assert cross(4, 1e-3).log_volume == pytest.approx(4 * math.log(4e-3 * (1 - math.log(1e-3))), abs=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3, 30, 300])
@pytest.mark.parametrize("limit", [1e-3, 0.3, 1.0, 60.0])
def test_equal_weights_give_the_chi_square_law_far_into_its_tail(dim: int, limit: float):
    exact = float(log_chi_cdf(torch.tensor([math.sqrt(limit)], dtype=torch.float64), dim))
    # The transform falls as |s|^-(1 + P/2), and its tail is cut.
    allowed = {1: 2e-3, 2: 1e-5}.get(dim, 1e-6)
    assert log_quadratic_cdf(np.ones(dim), limit) == pytest.approx(exact, abs=allowed)


def test_two_scales_agree_with_a_quadrature_of_another_kind():
    case = two_scales(40, 100.0, sigma=0.5)
    weights = np.repeat([1.0, 100.0], 20) * 0.5**2
    assert log_quadratic_cdf(weights, 1.0) == pytest.approx(case.log_masses[0.5], abs=1e-6)


def test_a_body_without_a_gauge_cannot_be_turned():
    with pytest.raises(ValueError, match="`case` must be a body with a gauge, got 'regression of rank 6"):
        rotated(regression(6, 10.0))


@pytest.mark.slow
def test_every_body_of_the_tables_has_a_name_of_its_own():
    hard = hard_table()
    assert len(hard) >= 120
    names = Counter(case.name for case in (*table(), *hard))
    assert not [name for name, count in names.items() if count > 1]
