"""What a part of the set that is not visible from the center adds, measured from a point inside of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import basinvol as bv
from basinvol import ground_truth as gt
from basinvol.estimators import Outcome, Task, find_method
from basinvol.ground_truth.revolution import Ball, union
from basinvol.probing.cones import _Part as Part
from basinvol.probing.parts import measure_part
from basinvol.probing.policy import prober_of
from basinvol.probing.seek import Candidate
from basinvol.trust.volume import log_unit_ball

STAR = find_method("star", None)


class Looking:
    """The plain estimate, with a look at its task."""

    name = "star"

    def __init__(self, look) -> None:
        self.look = look

    def estimate(self, task: Task) -> Outcome:
        outcome = STAR.estimate(task)
        self.found = self.look(task, outcome)
        return outcome


def looked_at(case: gt.Case, look, **options):
    method = Looking(look)
    bv.estimate_volume(
        *case.task(), cutoff=case.cutoff, scaling="none", num_directions=40, method=method, probe=False, **options
    )
    return method.found


def unit_of(dim: int, seed: int) -> Tensor:
    """The axis of bodies of revolution with this seed. [P]"""
    unit = torch.randn(dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return unit / torch.linalg.vector_norm(unit)


FAR_BALLS = [(3, 3.0, 1.2, 1.0), (10, 4.0, 1.5, 1.0), (30, 4.0, 0.9, 1.0), (180, 6.0, 0.99, 0.2), (1000, 3.0, 1.9, 0.1)]


@pytest.mark.parametrize(("dim", "distance", "radius", "sigma"), FAR_BALLS)
@pytest.mark.parametrize("aside", [0.0, 0.3])
def test_a_ball_beside_the_center_adds_its_volume_or_mass(
    dim: int, distance: float, radius: float, sigma: float, aside: float
):
    balls = union("two", dim, [Ball(0.0, 1.0), Ball(distance, radius)], axis=1)
    alone = union("one", dim, [Ball(distance, radius)], (sigma,), axis=1)
    bottom = distance * unit_of(dim, 1) + aside * radius * dim**-0.5 * unit_of(dim, 2)

    def look(task: Task, _: Outcome) -> tuple[float, int]:
        before = task.landscape.num_evaluations
        return measure_part(task, bottom), task.landscape.num_evaluations - before

    volume, evaluations = looked_at(balls, look)
    assert volume == pytest.approx(alone.log_volume - log_unit_ball(dim), abs=0.3)
    assert 250 < evaluations < 650
    mass, evaluations = looked_at(balls, look, measure="gaussian", sigma=sigma)
    assert mass == pytest.approx(alone.log_masses[sigma], abs=0.3)
    assert 250 < evaluations < 650


def test_of_a_ball_around_the_center_only_what_lies_within_counts():
    balls = union("two", 3, [Ball(0.0, 1.0), Ball(4.0, 1.0)], axis=1)
    bottom = 4.0 * unit_of(3, 1)

    def found(limit: float) -> float:
        return looked_at(balls, lambda task, _: measure_part(task, bottom), measure="ball", radius=limit)

    assert found(3.9) == -math.inf
    assert found(6.0) == pytest.approx(0.0, abs=0.1)
    # A sphere around the center cuts it nearly in half.
    assert -1.0 < found(4.05) < -0.4


def test_a_search_that_leaps_over_a_gap_is_found_out():
    """The ball of radius 1 at 2.5 begins at 1.5, where the search for a crossing tries its second point."""
    case = union("two", 20, [Ball(0.0, 1.0), Ball(2.5, 1.01)], axis=1)
    unit = unit_of(20, 1)

    def look(task: Task, outcome: Outcome) -> tuple[float, bool, bool, Part | None]:
        prober = prober_of(task, outcome, 10)
        crossing = prober.crossing(unit)
        return crossing, prober.sees(unit, 0.99), prober.sees(unit, crossing), Part.of(prober, Candidate(unit, 2.5))

    crossing, sees_near, sees_far, part = looked_at(case, look)
    assert crossing == pytest.approx(3.51, abs=0.05)
    assert (sees_near, sees_far) == (True, False)
    assert part is not None
    assert not part.is_visible


@pytest.mark.parametrize(
    "case",
    [
        gt.many_balls(58, 23, 2.43, 0.979, seed=1),
        gt.many_balls(180, 94, 5.93, 0.989, seed=2),
        gt.funnel(16, 4.87, 0.167, 1.31, axis=3),
        gt.many_balls(200, 3, 12.0, 1.01, seed=4),
        gt.many_balls(60, 60, 12.0, 0.97, seed=5),
    ],
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_rays_miss_is_found(case: gt.Case, seed: int):
    """Each of these was called trustworthy before, with some of the seeds of the directions."""
    est = bv.estimate_volume(*case.task(), cutoff=case.cutoff, scaling="none", num_directions=500, seed=seed)
    assert case.log_volume - est.log_volume > 2.0
    assert est.diagnostics.verdict is bv.Verdict.LOWER_BOUND
