"""What is looked for along a ray, in which order, and the radius in a bracket that is closed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from basinvol.search.radii import Guess, Status
from basinvol.search.targets import NO_RELATIVE, Targets

CUTOFFS = (0.5, 2.0, 1.0)


def targets_of(
    center: list[float],
    levels: tuple[int, ...],
    cutoffs: tuple[float, ...] = CUTOFFS,
    rtol: float = 1e-4,
    scouts: tuple[int, ...] = (),
) -> Targets:
    shape = (len(levels), len(cutoffs))
    radius = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape) + 1.0
    guess = Guess(radius, radius + 0.5, radius + 0.25)
    return Targets.of(torch.tensor(center, dtype=torch.float64), cutoffs, levels, guess, rtol, scouts)


def test_every_level_meets_every_cutoff_level_by_level() -> None:
    targets = targets_of([0.1, 0.2], (60, 5000))
    assert targets.level.tolist() == [0, 0, 0, 1, 1, 1]
    assert targets.cutoff.tolist() == [0.5, 2.0, 1.0] * 2
    assert targets.center.tolist() == [0.1] * 3 + [0.2] * 3
    assert targets.guess_radius.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert targets.guess_slope.tolist() == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert targets.guess_spread.tolist() == [1.25, 2.25, 3.25, 4.25, 5.25, 6.25]
    assert targets.examples.tolist() == [60] * 3 + [5000] * 3
    assert targets.rtol.tolist() == pytest.approx([1e-4] * 6)
    assert targets.is_wanted.tolist() == [True] * 6


def test_relative_width_is_the_one_asked_for_to_the_last_bit() -> None:
    assert targets_of([0.1], (60,), rtol=1e-3).rtol.tolist() == [1e-3] * 3


def test_order_is_from_the_smallest_level_up_and_the_largest_cutoff_down() -> None:
    assert targets_of([0.1, 0.2], (60, 5000)).order.tolist() == [1, 2, 0, 4, 5, 3]


def test_relative_is_the_next_larger_cutoff_and_for_the_largest_the_level_below() -> None:
    targets = targets_of([0.1, 0.2, 0.3], (60, 600, 5000))
    assert targets.relative.tolist() == [2, NO_RELATIVE, 1, 5, 1, 4, 8, 4, 7]


@given(cutoffs=st.lists(st.floats(0.01, 10.0), min_size=1, max_size=5, unique=True), num_levels=st.integers(1, 4))
def test_every_relative_is_solved_before_the_target_that_follows_it(cutoffs: list[float], num_levels: int) -> None:
    targets = targets_of([0.0] * num_levels, tuple(range(1, num_levels + 1)), tuple(cutoffs))
    place = {target: at for at, target in enumerate(targets.order.tolist())}
    assert sorted(place) == list(range(num_levels * len(cutoffs)))
    without = [t for t, relative in enumerate(targets.relative.tolist()) if relative == NO_RELATIVE]
    assert without == [cutoffs.index(max(cutoffs))], "only the first target has none"
    for target, relative in enumerate(targets.relative.tolist()):
        assert relative == NO_RELATIVE or place[relative] < place[target]


@pytest.mark.parametrize(("rtol", "of_scouts"), [(1e-4, 2e-2), (0.1, 0.1)])
def test_scouts_are_not_wanted_and_are_solved_loosely(rtol: float, of_scouts: float) -> None:
    targets = targets_of([0.1] * 3, (60, 600, 5000), (1.0,), rtol, scouts=(60,))
    assert targets.is_wanted.tolist() == [False, True, True]
    assert targets.rtol.tolist() == pytest.approx([of_scouts, rtol, rtol])
    assert targets.order.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("center", "order"),
    [
        ([0.1, 0.1, 0.1], [0, 1, 2, 3, 4, 5]),
        # The larger level is outside the smaller cutoff, as is one whose loss is not a number: its scout is of no use.
        ([0.1, 0.1, 0.7], [0, 2, 3, 4, 5]),
        ([0.1, 0.1, math.nan], [2, 3, 4, 5]),
        # On the boundary is inside.
        ([0.1, 0.1, 0.5], [0, 1, 2, 3, 4, 5]),
        # A scout may be outside itself: that costs nothing, and the wanted levels decide.
        ([9.0, 0.1, 0.1], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_scout_is_solved_only_where_a_larger_level_is_inside(center: list[float], order: list[int]) -> None:
    """Levels 60, 600, 5000 with cutoffs 1 and 0.5; the first is a scout, the second is wanted but outside both."""
    center = [center[0], 9.0, center[2]]
    assert targets_of(center, (60, 600, 5000), (1.0, 0.5), scouts=(60,)).order.tolist() == order


def state_of(lower: Tensor, upper: Tensor, value_lower: Tensor, value_upper: Tensor, status: Status) -> dict:
    return {
        "lower": lower,
        "upper": upper,
        "value_lower": value_lower,
        "value_upper": value_upper,
        "slope": torch.full_like(lower, 2.0),
        "status_code": torch.full(lower.shape, status.code, dtype=torch.int8),
        "num_evaluations": torch.arange(lower.shape[1]),
        "num_examples": 1250 * torch.arange(lower.shape[1]),
    }


def power_law(exponent: float, status: Status = Status.CROSSED) -> tuple[Targets, dict, Tensor]:
    """Loss center + r^exponent on two levels, brackets of different widths; and the radii of all cutoffs. [2, 3, 2]"""
    center = torch.tensor([0.1, 0.2], dtype=torch.float64)
    targets = targets_of(center.tolist(), (60, 5000))
    crossing = (targets.cutoff - targets.center) ** (1.0 / exponent)
    lower = crossing[:, None] * torch.tensor([0.7, 0.99], dtype=torch.float64)
    upper = crossing[:, None] * torch.tensor([1.7, 1.001], dtype=torch.float64)
    values = [targets.center[:, None] + ends**exponent for ends in (lower, upper)]
    return targets, state_of(lower, upper, *values, status), crossing.reshape(2, 3, 1).expand(2, 3, 2)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.5, 20.0])
def test_radius_of_a_power_law_is_exact_however_wide_the_bracket(exponent: float) -> None:
    targets, state, crossing = power_law(exponent)
    radii = targets.radii(state, rounds_up=False)
    torch.testing.assert_close(radii.radius, crossing, rtol=1e-12, atol=0)
    assert radii.lower.shape == (2, 3, 2)
    assert (radii.levels, radii.cutoffs) == ((60, 5000), CUTOFFS)
    assert radii.num_full_evaluations.tolist() == [0.0, 0.25], "in units of the largest level"
    assert radii.num_evaluations.tolist() == [0, 1]
    torch.testing.assert_close(radii.at(5000, 1.0).lower, state["lower"][5], rtol=0, atol=0)


def test_radius_on_a_grid_is_the_upper_end() -> None:
    targets, state, _ = power_law(2.0)
    radii = targets.radii(state, rounds_up=True)
    assert torch.equal(radii.radius, radii.upper)


def test_radius_where_the_loss_fell_below_the_center_is_the_geometric_mean() -> None:
    """The excess loss inside has no logarithm."""
    targets, state, _ = power_law(2.0)
    state["value_lower"] = targets.center[:, None].expand(6, 2) - 0.05
    radii = targets.radii(state, rounds_up=False)
    torch.testing.assert_close(radii.radius, (radii.lower * radii.upper).sqrt(), rtol=1e-15, atol=0)


@pytest.mark.parametrize("rounds_up", [True, False])
@pytest.mark.parametrize(
    ("status", "radius"),
    [(status, 0.0 if status is Status.CENTER_OUTSIDE else math.nan) for status in Status if status.code],
    ids=lambda value: getattr(value, "name", ""),
)
def test_ray_that_did_not_cross_has_no_radius(status: Status, radius: float, rounds_up: bool) -> None:
    targets, state, _ = power_law(2.0, status)
    found = targets.radii(state, rounds_up).radius
    torch.testing.assert_close(found, torch.full_like(found, radius), equal_nan=True)
