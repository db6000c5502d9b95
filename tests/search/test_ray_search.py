from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from basinvol.search import RaySearch, SearchSettings
from basinvol.search.portable_math import portable_exp, portable_log
from basinvol.search.radii import Guess, Radii, Status
from basinvol.search.targets import Targets

CENTER = 0.01


def solve(
    loss_at: Callable[[float], float],
    cutoffs: tuple[float, ...] = (0.1,),
    center: float = CENTER,
    guess: float = 1.0,
    slope: float = 2.0,
    unit: Tensor | None = None,
    rtol: float = 1e-4,
    **options,
) -> tuple[Radii, list[float]]:
    """One ray on one level: its radii [1, C, 1] and the radii that were evaluated."""
    generic = Guess.generic(1, len(cutoffs), guess)
    targets = Targets.of(
        torch.tensor([center], dtype=torch.float64),
        cutoffs,
        (1,),
        Guess(generic.radius, torch.full_like(generic.slope, slope), generic.spread),
        rtol,
    )
    search = RaySearch(targets, SearchSettings(**options), 1, unit)
    asked: list[float] = []
    while (queries := search.ask()) is not None:
        asked.append(float(queries.radius[0]))
        search.tell(queries, torch.tensor([[loss_at(asked[-1])]], dtype=torch.float64))
    return search.radii(), asked


@given(
    log_radius=st.floats(-15.0, 15.0),
    exponent=st.floats(0.3, 30.0),
    guess=st.floats(1e-6, 1e6),
    slope=st.floats(0.5, 50.0),
    rtol=st.sampled_from([1e-10, 1e-4, 1e-2, 0.5]),
    method=st.sampled_from(["interpolate", "bisect"]),
)
@settings(max_examples=25, deadline=None)
def test_crossing_of_a_power_law_is_bracketed(log_radius, exponent, guess, slope, rtol, method):
    truth = math.exp(log_radius)

    def loss_at(r: float) -> float:
        return CENTER + 0.09 * math.exp(min(exponent * math.log(r / truth), 700.0))

    radii, _ = solve(loss_at, guess=guess, slope=slope, rtol=rtol, method=method)
    ray = radii.at()
    assert ray.status[0] is Status.CROSSED
    assert float(ray.lower) <= truth * (1 + 1e-14)
    assert float(ray.upper) >= truth * (1 - 1e-14)
    assert float(ray.upper - ray.lower) <= rtol * float(ray.upper)
    assert float(ray.value_lower) <= 0.1 < float(ray.value_upper)
    assert float(ray.value_lower) == (loss_at(float(ray.lower)) if float(ray.lower) > 0 else CENTER)
    assert float(ray.value_upper) == loss_at(float(ray.upper))
    assert float(ray.lower) <= float(ray.radius) <= float(ray.upper)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 6.0])
def test_power_law_of_known_slope_takes_four_evaluations_and_its_radius_is_exact(exponent):
    truth = 0.37
    radii, asked = solve(lambda r: CENTER + 0.09 * (r / truth) ** exponent, slope=exponent, rtol=1e-4)
    # The guess, one step across with overshoot, and two points next to the estimate, one on each side.
    assert len(asked) <= 4
    assert float(radii.radius) == pytest.approx(truth, rel=1e-12)
    assert float(radii.slope) == pytest.approx(exponent, rel=1e-9)


def test_several_cutoffs_share_the_evaluations_of_a_ray():
    cutoffs = (0.02, 0.05, 0.1, 0.3)
    together, asked = solve(lambda r: CENTER + r**2, cutoffs)
    assert together.num_evaluations.tolist() == [len(asked)]
    apart = sum(len(solve(lambda r: CENTER + r**2, (c,))[1]) for c in cutoffs)
    assert len(asked) < apart
    for cutoff in cutoffs:
        assert float(together.at(cutoff=cutoff).radius) == pytest.approx(math.sqrt(cutoff - CENTER), rel=1e-4)


def solve_levels(scouts: tuple[int, ...] = ()) -> tuple[Radii, list[tuple[int, float]]]:
    """Two levels, on the second of which the loss is four times as steep: radii, and the (level, radius) asked."""
    targets = Targets.of(
        torch.full((2,), CENTER, dtype=torch.float64),
        (0.1,),
        (10, 20),
        Guess.generic(2, 1, 0.15),
        1e-4,
        scouts,
    )
    search, asked = RaySearch(targets, SearchSettings(), 1), []
    while (queries := search.ask()) is not None:
        level, r = int(queries.level[0]), float(queries.radius[0])
        asked.append((level, r))
        above = CENTER + 4 * r**2 if level == 1 else math.nan  # not read below its level
        search.tell(queries, torch.tensor([[CENTER + r**2, above]], dtype=torch.float64))
    return search.radii(), asked


def test_levels_are_solved_from_the_smallest_up_and_each_predicts_the_next():
    radii, asked = solve_levels()
    levels = [level for level, _ in asked]
    assert levels == sorted(levels)
    assert levels[0] == 0
    assert radii.radius.reshape(-1).tolist() == pytest.approx([0.3, 0.15], rel=1e-4)
    assert (radii.status == Status.CROSSED).all()
    # Twice the typical radius on the small level, so twice the typical one is tried first on the large one.
    assert asked[levels.index(1)][1] == pytest.approx(2 * 0.15, rel=1e-4)


def test_scout_is_solved_loosely_and_only_where_a_larger_level_has_use_of_it():
    radii, asked = solve_levels(scouts=(10,))
    width = 1 - (radii.lower / radii.upper).reshape(-1)
    assert 1e-4 < float(width[0]) <= 2e-2
    assert float(width[1]) <= 1e-4
    assert len(asked) <= len(solve_levels()[1])

    nothing, asked = solve_levels(scouts=(10, 20))
    assert asked == []
    assert bool(torch.isnan(nothing.radius).all())


def test_first_crossing_wins_once_it_was_seen():
    """Outside on (1, 2), inside again on (2, 3): a search that has seen the shell does not report 3."""
    radii, asked = solve(lambda r: 0.5 if 1 < r < 2 or r > 3 else 0.05, guess=1.5)
    assert 1.5 in asked
    assert float(radii.lower) <= 1.0 <= float(radii.upper)


@pytest.mark.parametrize("method", ["interpolate", "bisect"])
def test_ray_that_never_leaves_is_censored_at_radius_max(method):
    radii, asked = solve(lambda r: CENTER, radius_max=50.0, method=method)
    ray = radii.at()
    assert ray.status[0] is Status.CENSORED
    assert float(ray.lower) == max(asked) == 50.0
    assert float(ray.upper) == math.inf
    assert math.isnan(float(ray.radius))


@pytest.mark.parametrize("method", ["interpolate", "bisect", "grid"])
def test_center_above_the_cutoff_has_radius_zero_without_an_evaluation(method):
    radii, asked = solve(lambda r: 0.0, cutoffs=(0.005,), method=method, grid=(0.5, 1.0))
    assert asked == []
    assert radii.at().status[0] is Status.CENTER_OUTSIDE
    assert float(radii.radius) == float(radii.lower) == float(radii.upper) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("method", ["interpolate", "bisect"])
def test_non_finite_losses_count_as_outside_and_have_no_radius(method, bad):
    radii, _ = solve(lambda r: CENTER + 0.01 * r if r < 0.7 else bad, method=method)
    ray = radii.at()
    assert ray.status[0] is Status.NON_FINITE
    assert float(ray.lower) < 0.7 <= float(ray.upper)
    assert float(ray.upper) - float(ray.lower) <= 1e-4 * float(ray.upper)
    assert math.isnan(float(ray.radius))


def test_too_few_steps_leave_an_open_bracket_that_is_reported():
    radii, asked = solve(lambda r: CENTER + r**2, guess=1e-9, max_steps=2, method="bisect")
    assert len(asked) == 2
    assert radii.at().status[0] is Status.MAX_STEPS
    assert math.isnan(float(radii.radius))
    assert float(radii.lower) == pytest.approx(2e-9)


@given(crossing=st.floats(0.01, 1.3))
@settings(max_examples=25, deadline=None)
def test_grid_rounds_up_to_its_first_point_outside(crossing):
    grid, unit = tuple((k / 19) ** 2 for k in range(1, 20)), 1.25
    radii, asked = solve(
        lambda r: 0.05 if r <= crossing else 0.2, method="grid", grid=grid, unit=torch.tensor([unit]).double()
    )
    points = [point * unit for point in grid]
    outside = [point for point in points if point > crossing]
    assert asked == points[: len(asked)]
    if outside:
        assert float(radii.radius) == float(radii.upper) == outside[0]
        assert radii.at().status[0] is Status.CROSSED
    else:
        assert radii.at().status[0] is Status.CENSORED
        assert asked == points


@given(crossings=st.lists(st.floats(0.01, 1.3), min_size=3, max_size=3))
@settings(max_examples=25)
def test_every_level_of_a_grid_sees_every_point(crossings):
    """Levels whose rays end in any order: each has the first point outside, by a loop over the points."""
    grid = tuple((k / 19) ** 2 for k in range(1, 20))
    center, levels = torch.full((3,), CENTER, dtype=torch.float64), (1, 2, 3)
    search = RaySearch(
        Targets.of(center, (0.1,), levels, Guess.generic(3, 1, 1.0), 1e-4), SearchSettings("grid", grid=grid), 1
    )
    while (queries := search.ask()) is not None:
        r, level = float(queries.radius[0]), int(queries.level[0])
        losses = [
            (0.05 if r <= crossing else 0.2) if row <= level else math.nan for row, crossing in enumerate(crossings)
        ]
        search.tell(queries, torch.tensor([losses], dtype=torch.float64))
    expected = [min((point for point in grid if point > crossing), default=math.inf) for crossing in crossings]
    assert search.radii().upper.reshape(-1).tolist() == expected
    inside = [max((point for point in grid if point <= crossing), default=0.0) for crossing in crossings]
    assert search.radii().lower.reshape(-1).tolist() == inside


@given(x=st.floats(2.3e-308, 1.7e308))
@settings(max_examples=25, deadline=None)
def test_portable_logarithm_is_right_to_the_last_bits(x):
    assert float(portable_log(torch.tensor([x], dtype=torch.float64))) == pytest.approx(
        math.log(x), rel=1e-15, abs=1e-16
    )


@given(x=st.floats(-700.0, 700.0))
@settings(max_examples=25, deadline=None)
def test_portable_exponential_is_right_to_the_rounding_of_its_argument(x):
    assert float(portable_exp(torch.tensor([x], dtype=torch.float64))) == pytest.approx(
        math.exp(x), rel=1e-15 + 2.0**-53 * abs(x)
    )
