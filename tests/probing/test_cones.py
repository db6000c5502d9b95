"""Parts of the set that are small one by one, and together most of it."""

from __future__ import annotations

import math
import random

import pytest
import torch

import basinvol as bv
from basinvol.estimators import Outcome, Task
from basinvol.estimators.groups import volume_of_groups
from basinvol.ground_truth.case import Case
from basinvol.ground_truth.clusters import many_balls
from basinvol.ground_truth.revolution import hidden_balls, two_basins
from basinvol.probing.cones import _number_of_parts as number_of_parts
from basinvol.probing.cones import _raised as raised
from basinvol.probing.strata import share_within

IN_CONES, OUT_OF_SIGHT = many_balls(100, 100, 0.9, 0.98, seed=1), many_balls(20, 20, 4.0, 0.97, seed=2)
FEW = many_balls(100, 3, 0.9, 0.98, seed=3)
A_THOUSAND = many_balls(1000, 1000, 0.95, 0.9955, seed=4)


def measure(case: Case, **options) -> bv.VolumeEstimate:
    return bv.estimate_volume(*case.task(), cutoff=case.cutoff, scaling="none", num_directions=500, **options)


class Known:
    """Chains that have found a part of the mass."""

    name = "known"

    def __init__(self, log_volume: float) -> None:
        self.log_volume = log_volume

    def estimate(self, task: Task) -> Outcome:
        groups = self.log_volume + torch.tensor([0.1, -0.1, 0.05, -0.05], dtype=torch.float64)
        volume = volume_of_groups(task, groups, bv.Verdict.TRUSTWORTHY, "4 groups of chains agree.")
        return Outcome.of_rays(volume, task.uniform_rays(), beyond_star=True)


@pytest.mark.parametrize("case", [IN_CONES, OUT_OF_SIGHT], ids=["in cones", "out of sight"])
def test_many_small_parts_are_counted(case: Case):
    est = measure(case)
    assert case.log_volume - est.log_volume > 2.0  # or there is nothing to find
    assert est.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert "descents from afar found" in est.diagnostics.reason
    assert est.interval is None


def test_few_small_parts_are_no_reason_for_doubt():
    est = measure(FEW)
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert abs(est.log_volume - FEW.log_volume) < 0.5


@pytest.mark.parametrize(
    "case",
    [IN_CONES, OUT_OF_SIGHT, pytest.param(A_THOUSAND, marks=pytest.mark.slow)],
    ids=["in cones", "out of sight", "a thousand"],
)
def test_chains_are_doubted_if_they_missed_them_and_trusted_if_not(case: Case):
    alone = many_balls(case.dim, 1, 3.0, 1e-3).log_volume  # the unit ball
    missed, met = (measure(case, method=Known(number)) for number in (alone, case.log_volume))
    assert missed.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert "there must be so many" in missed.diagnostics.reason
    assert met.diagnostics.verdict is bv.Verdict.TRUSTWORTHY


@pytest.mark.parametrize("case", [hidden_balls(50), two_basins(100, 6.0, 0.5, 0.1, axis=4)], ids=lambda case: case.name)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_chains_that_were_in_a_part_are_trusted_and_those_that_were_not_are_doubted(case: Case, seed: int):
    """The part is nearly all of the set: no number that is right within its error can be far below it."""
    within = measure(case, method=Known(case.log_volume - 0.1), seed=seed)
    assert within.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    below = measure(case, method=Known(case.log_volume - 2.0), seed=seed)
    assert below.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert "that descent from afar found raises the number" in below.diagnostics.reason


def test_few_that_are_seldom_drawn_are_counted():
    """Of 300 parts of 1 %, which add 1.39 nats together, few are drawn, and hardly one twice."""
    case = many_balls(300, 300, 4.0, 0.9848, seed=1)
    est = measure(case)
    assert case.log_volume - est.log_volume > 1.3
    assert est.diagnostics.verdict is bv.Verdict.LOWER_BOUND


@pytest.mark.parametrize("count", [1, 2, 5, 12, 50, 200])
def test_the_number_of_parts_lies_between_its_limits(count: int):
    draw = random.Random(count)
    held = []
    for _ in range(400):
        drawn = [draw.randrange(count) for _ in range(20)]
        least, most = number_of_parts([drawn.count(part) for part in set(drawn)])
        held.append((least <= count, count <= most))
    at_least, at_most = (sum(side) / len(held) for side in zip(*held, strict=True))
    assert at_least > 0.92
    assert at_most > 0.9


@pytest.mark.parametrize(
    ("count", "log_part", "nats"), [(1.0, 0.0, math.log(2.0)), (1.0, 2000.0, 2000.0), (4.0, -50.0, 0.0)]
)
def test_what_parts_add_is_known_at_any_size(count: float, log_part: float, nats: float):
    assert raised(count, log_part) == pytest.approx(nats, abs=1e-3)


def test_no_two_draws_alike_set_no_limit():
    least, most = number_of_parts([1] * 16)
    assert 20 < least < 120
    assert math.isinf(most)


@pytest.mark.parametrize(("dim", "angle"), [(3, 0.7), (3, math.pi / 2), (20, 1.0)])
def test_the_share_within_an_angle_is_that_of_directions(dim: int, angle: float):
    units = torch.randn(400_000, dim, dtype=torch.float64)
    units /= torch.linalg.vector_norm(units, dim=1, keepdim=True)
    share = float((units[:, 0] > math.cos(angle)).double().mean())
    error = math.sqrt(share * (1 - share) / len(units))
    assert share_within(angle, dim) == pytest.approx(share, abs=4 * error + 1e-4)
