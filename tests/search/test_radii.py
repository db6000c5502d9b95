"""Radii by level, cutoff and direction, and what a ray that did not cross is worth."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import basinvol as bv
from basinvol.search.radii import Guess, Radii, Status
from basinvol.search.trace import Trace

LEVELS, CUTOFFS, COUNT = (60, 5000), (0.5, 0.1, 2.0), 5
PER_RAY = ("lower", "upper", "radius", "value_lower", "value_upper", "slope", "status_code")


def numbered() -> Radii:
    """Rays whose radius is 100 x level + 10 x cutoff + ray, by position, with a trace of one evaluation each."""
    places = (torch.arange(2)[:, None, None] * 100 + torch.arange(3)[:, None] * 10 + torch.arange(COUNT)).double()
    codes = torch.arange(COUNT, dtype=torch.int8).expand(2, 3, COUNT).clone()
    trace = Trace(torch.arange(COUNT), torch.arange(COUNT).double(), torch.arange(2 * COUNT).reshape(COUNT, 2).double())
    return Radii(
        lower=places - 0.25,
        upper=places + 0.25,
        radius=places,
        value_lower=places + 0.1,
        value_upper=places + 0.2,
        slope=places + 0.3,
        status_code=codes,
        num_evaluations=torch.arange(COUNT) + 7,
        levels=LEVELS,
        cutoffs=CUTOFFS,
        trace=trace,
    )


def assert_same(found: Radii, expected: Radii) -> None:
    for name in (*PER_RAY, "num_evaluations"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0, msg=name)
    assert (found.levels, found.cutoffs) == (expected.levels, expected.cutoffs)
    assert found.trace is not None
    assert expected.trace is not None
    for name in ("ray", "radius", "losses"):
        assert torch.equal(getattr(found.trace, name), getattr(expected.trace, name)), name


def test_one_level_and_cutoff_are_chosen_by_their_values() -> None:
    found = numbered().at(5000, 0.5)
    assert found.radius.tolist() == [100.0, 101.0, 102.0, 103.0, 104.0]
    for name, added in (("lower", -0.25), ("upper", 0.25), ("value_lower", 0.1), ("value_upper", 0.2), ("slope", 0.3)):
        torch.testing.assert_close(getattr(found, name), found.radius + added, msg=name)
    assert (found.levels, found.cutoffs) == ((5000,), (0.5,))
    assert found.num_evaluations.tolist() == [7, 8, 9, 10, 11], "evaluations serve all levels and cutoffs"
    assert found.trace is not None
    assert found.trace.losses.tolist() == [[1.0], [3.0], [5.0], [7.0], [9.0]], "the losses of the second level"


def test_level_and_cutoff_may_be_left_out_where_there_is_one() -> None:
    one = dataclasses.replace(
        numbered().only([60]), cutoffs=(0.5,), **{n: getattr(numbered(), n)[:1, :1] for n in PER_RAY}
    )
    assert one.at().radius.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((None, 0.1), r"`level` must be one of \[60, 5000\]\."),
        ((60, None), r"`cutoff` must be one of \[0\.5, 0\.1, 2\.0\]\."),
        ((61, 0.1), r"`level` must be one of \[60, 5000\], got 61\."),
        ((60, 0.3), r"`cutoff` must be one of \[0\.5, 0\.1, 2\.0\], got 0\.3\."),
    ],
)
def test_choice_that_is_missing_or_unknown_is_refused(chosen: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numbered().at(*chosen)


def test_some_levels_are_kept_in_the_order_asked_for() -> None:
    swapped = numbered().only([5000, 60])
    assert swapped.levels == (5000, 60)
    assert swapped.radius[:, 0, 0].tolist() == [100.0, 0.0]
    assert swapped.cutoffs == CUTOFFS
    assert swapped.trace is not None
    assert swapped.trace.losses[0].tolist() == [1.0, 0.0]
    (level,) = numbered().only([5000]).radius
    assert torch.equal(level, numbered().radius[1])


def test_directions_are_taken_by_position_in_the_order_asked_for() -> None:
    found = numbered().take(torch.tensor([4, 0]))
    assert found.radius[1, 2].tolist() == [124.0, 120.0]
    assert found.num_evaluations.tolist() == [11, 7]
    assert len(found) == 2
    assert found.trace is not None
    assert found.trace.ray.tolist() == [0, 1]
    assert found.trace.radius.tolist() == [4.0, 0.0], "evaluations follow their rays"


def test_a_range_of_directions_holds_its_start_and_not_its_stop() -> None:
    assert_same(numbered().between(1, 4), numbered().take(torch.tensor([1, 2, 3])))
    assert len(numbered().between(2, 2)) == 0


def test_replaced_directions_are_those_of_the_other_and_the_rest_is_kept() -> None:
    radii = numbered()
    rays = torch.tensor([3, 1])
    fields = {name: getattr(radii, name)[..., rays] + 50 for name in (*PER_RAY, "num_evaluations")}
    other = Radii(**fields, levels=LEVELS, cutoffs=CUTOFFS, trace=Trace.empty(2))
    found = radii.replaced(rays, other)
    assert found.radius[0, 0].tolist() == [0.0, 51.0, 2.0, 53.0, 4.0]
    assert found.num_evaluations.tolist() == [7, 58, 9, 60, 11]
    assert found.status_code[1, 1].tolist() == [0, 51, 2, 53, 4]
    assert found.trace is not None
    assert found.trace.ray.tolist() == [0, 2, 4], "the evaluations of what was replaced went with it"
    assert_same(radii, numbered())


@given(cuts=st.sets(st.integers(1, COUNT - 1)))
def test_ranges_one_after_the_other_are_the_whole(cuts: set[int]) -> None:
    parts = [numbered().between(a, b) for a, b in itertools.pairwise([0, *sorted(cuts), COUNT])]
    assert_same(Radii.concatenate(parts), numbered())


def test_order_of_ranges_is_the_order_of_directions() -> None:
    found = Radii.concatenate([numbered().between(3, 5), numbered().between(0, 3)])
    assert found.radius[0, 0].tolist() == [3.0, 4.0, 0.0, 1.0, 2.0]
    assert found.trace is not None
    assert found.trace.ray.tolist() == [0, 1, 2, 3, 4]
    assert found.trace.radius.tolist() == [3.0, 4.0, 0.0, 1.0, 2.0]


def test_codes_of_statuses_are_those_that_kernels_and_files_hold() -> None:
    names = ["CROSSED", "CENSORED", "CENTER_OUTSIDE", "NON_FINITE", "MAX_STEPS", "NEGLIGIBLE"]
    assert [Status[name].code for name in names] == [0, 1, 2, 3, 4, 5]
    assert len(Status) == 6
    found = numbered().at(60, 0.5)
    assert found.status.tolist() == [Status[name] for name in names[:COUNT]]
    assert found.is_status(Status.NON_FINITE).tolist() == [False, False, False, True, False]


def quadratic(w: Tensor) -> Tensor:
    return w.square().sum()


def to_nan(w: Tensor) -> Tensor:
    """Not a number from radius 1/2 on."""
    r = w.square().sum().sqrt()
    return torch.where(r < 0.5, r, math.nan)


# What ends the search along every ray, and the radius it then has.
ENDS = [
    (quadratic, {}, Status.CROSSED, 2.0),
    (quadratic, {"radius_max": 1.0}, Status.CENSORED, math.nan),
    (lambda w: 5.0 + quadratic(w), {}, Status.CENTER_OUTSIDE, 0.0),
    (to_nan, {}, Status.NON_FINITE, math.nan),
    (quadratic, {"max_steps": 2, "rtol": 1e-9}, Status.MAX_STEPS, math.nan),
]


@pytest.mark.parametrize(("gauge", "options", "status", "radius"), ENDS, ids=[end[2].name for end in ENDS])
def test_only_a_crossing_or_an_empty_basin_has_a_radius(
    body, body_loss, one_example, gauge, options: dict, status: Status, radius: float
) -> None:
    model = body(gauge, 3)
    landscape, directions = bv.Landscape(model, body_loss, one_example), bv.Directions(bv.ParameterSpace.of(model), 3)
    found = bv.find_radii(landscape, directions, [4.0], scaling="none", **options).at()
    assert found.status.tolist() == [status] * 3
    expected = torch.full((3,), radius, dtype=torch.float64)
    torch.testing.assert_close(found.radius, expected, rtol=1e-4, atol=0, equal_nan=True)
    if math.isnan(radius):
        assert math.isnan(float(found.radius.mean())), "it cannot be averaged by accident"


def test_guess_of_solved_rays_is_their_geometric_mean_and_mean_slope() -> None:
    """Of crossed rays alone; where none crossed it is the generic guess."""
    radius = torch.tensor([[[1.0, 4.0, 1e9]], [[1.0, 1.0, 1.0]]], dtype=torch.float64)
    slope = torch.tensor([[[2.0, 4.0, 50.0]], [[9.0, 9.0, 9.0]]], dtype=torch.float64)
    codes = torch.tensor([[[0, 0, 1]], [[1, 1, 1]]], dtype=torch.int8)
    pilot = Radii(
        radius, radius, radius, radius, radius, slope, codes, torch.ones(3, dtype=torch.int64), (60, 5000), (0.1,)
    )
    found = Guess.learned(pilot, Guess.generic(2, 1, 0.7))
    assert found.radius.reshape(-1).tolist() == pytest.approx([2.0, 0.7])
    assert found.slope.reshape(-1).tolist() == pytest.approx([3.0, 2.0])
