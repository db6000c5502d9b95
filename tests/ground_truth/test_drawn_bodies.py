"""Bodies drawn at random: what is drawn, that their truths hold, and verdicts on bodies that shaped no limit."""

from __future__ import annotations

import math

import pytest
import torch

from basinvol.calibration import calibrate
from basinvol.ground_truth import drawn_bodies
from basinvol.ground_truth.case import Case

_DRAWS = 200_000
_LEAST_MASS = 3e-4  # that so many draws say something about


@pytest.fixture(scope="module")
def small() -> tuple[Case, ...]:
    return drawn_bodies(90, seed=1, most_parameters=16)


def share_inside(case: Case, points: torch.Tensor) -> tuple[float, float]:
    """Of points that lie in the body, and its standard error, that of a share that differs from 0 and 1."""
    gauge = case.task()[0].gauge
    share = float((torch.vmap(gauge)(points) <= case.cutoff).double().mean())
    likely = min(max(share, 1 / len(points)), 1 - 1 / len(points))
    return share, math.sqrt(likely * (1 - likely) / len(points))


def test_the_first_bodies_are_the_same_for_any_number_and_others_for_another_seed(small: tuple[Case, ...]):
    names = [case.name for case in small]
    assert [case.name for case in drawn_bodies(7, seed=1, most_parameters=16)] == names[:7]
    assert len(set(names)) == len(names)
    shapes = {name.split(", body ")[0] for name in names}
    others = {case.name.split(", body ")[0] for case in drawn_bodies(20, seed=2, most_parameters=16)}
    assert len(shapes & others) < 5  # a half-space of the same dimension


def test_no_body_is_larger_than_asked_and_every_kind_is_drawn(small: tuple[Case, ...]):
    assert max(case.dim for case in small) <= 16
    assert max(case.dim for case in drawn_bodies(15, seed=1)) > 100
    names = " ".join(case.name for case in small)
    for kind in ("hidden", "others", "two basins", "golf", "tube", "funnel", "needle", "cross", "disk", "slabs"):
        assert kind in names
    for kind in ("half-space", "of rank", "ellipsoid", "axes", "l_", "exponents", "beside"):
        assert kind in names
    assert any(case.name.startswith("ball, P") for case in small)


def test_every_center_lies_inside(small: tuple[Case, ...]):
    for case in small:
        assert float(case.task()[0].gauge(torch.zeros(case.dim, dtype=torch.float64))) < case.cutoff, case.name


def test_masses_are_those_of_points_drawn_from_the_gaussian(small: tuple[Case, ...]):
    likely = [(case, *item) for case in small for item in case.log_masses.items() if item[1] > math.log(_LEAST_MASS)]
    assert len(likely) >= 30
    assert any("beside" in case.name for case, _, _ in likely)
    for case, sigma, mass in likely:
        generator = torch.Generator().manual_seed(case.dim)
        points = sigma * torch.randn(_DRAWS, case.dim, dtype=torch.float64, generator=generator)
        share, error = share_inside(case, points)
        assert abs(math.exp(mass) - share) < 4.5 * error, case.name


@pytest.mark.parametrize(
    ("count", "seed", "most", "message"),
    [
        (0, 0, 200, "`count` must be at least 1, got 0"),
        (2.0, 0, 200, "`count` must be a whole number, got 2.0"),
        (1, -1, 200, "`seed` must be at least 0, got -1"),
        (1, 0, 15, "`most_parameters` must be at least 16, got 15"),
    ],
)
def test_what_cannot_be_drawn_is_refused(count: int, seed: int, most: int, message: str):
    with pytest.raises(ValueError, match=message):
        drawn_bodies(count, seed, most)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["star", "preconditioned"])
def test_rays_trust_no_wrong_number_on_them(method: str, rays_together: None):
    cases = drawn_bodies(45, seed=3, most_parameters=30)
    scores = [row.score for row in calibrate(cases, method=method, num_directions=200)]
    assert sum(score.is_wrong for score in scores) >= 8, "some of them are hard"
    assert [score.case for score in scores if score.is_trusted and score.is_wrong] == []
    right = [score for score in scores if score.is_right]
    assert sum(score.is_trusted for score in right) >= 0.5 * len(right)
