"""The search in C++ against the one in torch, bit for bit: proposals, brackets, statuses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basinvol import _native
from basinvol.backends.compiled import native_settings, native_targets
from basinvol.search import RUNNING, RaySearch, SearchSettings
from basinvol.search.radii import Guess, Radii, Status
from basinvol.search.targets import Targets

# Loss at (ray, radius) on one level; python floats, so that both searches are told the same bits.
LossAt = Callable[[int, float], float]
CENTER = 0.01
NUM_RAYS = 4  # of each loss
BRACKET = ("lower", "upper", "value_lower", "value_upper", "slope", "status_code")

LOSSES: dict[str, LossAt] = {
    "quadratic": lambda ray, r: CENTER + (1 + ray) * r**2,
    "steep wall": lambda ray, r: CENTER + (r / (1 + ray)) ** 30,
    "linear": lambda ray, r: CENTER + 1e-9 * (1 + ray) * r,
    "step": lambda ray, r: CENTER if r < 0.3 * (1 + ray) else 5.0,
    "smooth step": lambda ray, r: 0.05 + 0.04 * math.tanh(8 * (r - 1 - ray)),
    "re-entrant": lambda ray, r: CENTER + r**2 * (1 + 0.99 * math.sin((3 + ray) * r)),
    "dips below the center": lambda ray, r: CENTER * (1 - r) + 0.002 * r**4 / (1 + ray),
    "NaN outside": lambda ray, r: CENTER + r**2 if r < 0.2 + 0.1 * ray else math.nan,
    "infinite outside": lambda ray, r: CENTER if r < 1 + ray else math.inf,
    "minus infinite": lambda ray, r: -math.inf if r < 1 + ray else 1.0,
    "NaN shell": lambda ray, r: math.nan if 0.1 < r < 0.2 + 0.01 * ray else CENTER + 0.1 * r**2,
    "NaN everywhere": lambda ray, r: math.nan,
    "flat, never leaves": lambda ray, r: CENTER,
    "saturates below": lambda ray, r: CENTER + 0.01 * r**2 / (r**2 + 1),
    "falls for ever": lambda ray, r: CENTER - r,
    "one ulp above": lambda ray, r: 0.02 if r < 0.5 + ray else math.nextafter(0.02, 1.0),
}
# Far more steps than any search needs that ends; those that do not end take all of them.
METHODS = {
    "interpolate": SearchSettings("interpolate", rtol=1e-4, radius_max=100.0, max_steps=40),
    "interpolate, tight": SearchSettings("interpolate", rtol=1e-10, radius_max=100.0, max_steps=60),
    "interpolate, few steps": SearchSettings("interpolate", rtol=1e-6, radius_max=100.0, max_steps=4),
    "interpolate, near end": SearchSettings("interpolate", rtol=0.5, radius_max=0.5, max_steps=40),
    "bisect": SearchSettings("bisect", rtol=1e-4, radius_max=100.0, max_steps=40),
    "bisect, few steps": SearchSettings("bisect", rtol=1e-6, radius_max=100.0, max_steps=9),
    "grid": SearchSettings("grid", grid=tuple((k / 29) ** 2 for k in range(1, 30))),
}


def level_losses(loss_at: LossAt, ray: int, radius: float, num_levels: int) -> list[float]:
    """Levels that differ: level k sees the ray stretched by 1 + k / 4."""
    return [loss_at(ray, radius / (1 + 0.25 * level)) for level in range(num_levels)]


_LOSSES = list(LOSSES.values())


def of_all_losses(ray: int, radius: float) -> float:
    """Every loss along `NUM_RAYS` rays, one after the other: the search in torch takes them together."""
    return _LOSSES[ray // NUM_RAYS](ray % NUM_RAYS, radius)


ALL_RAYS = len(LOSSES) * NUM_RAYS


def name_of(ray: int) -> str:
    return f"{list(LOSSES)[ray // NUM_RAYS]}, ray {ray % NUM_RAYS}"


def run_torch(
    targets: Targets, settings_: SearchSettings, loss_at: LossAt, unit: torch.Tensor, known: Radii | None = None
):
    search = RaySearch(targets, settings_, len(unit), unit)
    if known is not None:
        search.restore(known)
    asked: list[list[tuple[float, int]]] = [[] for _ in unit]
    while (queries := search.ask()) is not None:
        rows = []
        for ray, radius, level in zip(
            queries.rays.tolist(), queries.radius.tolist(), queries.level.tolist(), strict=True
        ):
            asked[ray].append((radius, level))
            unread = [math.nan] * (len(targets.levels) - level - 1)
            rows.append(level_losses(loss_at, ray, radius, level + 1) + unread)
        search.tell(queries, torch.tensor(rows, dtype=torch.float64))
    return asked, search.radii()


def run_cpp(
    targets: Targets,
    settings_: SearchSettings,
    loss_at: LossAt,
    ray: int,
    unit: float,
    known: dict[str, torch.Tensor] | None = None,
):
    search = _native.RaySearch(
        targets=native_targets(targets),
        order=targets.order.tolist(),
        settings=native_settings(settings_),
        unit=unit,
    )
    for t in range(len(targets.level) if known is not None else 0):
        search.restore(t, *(known[name][t].item() for name in BRACKET))
    asked: list[tuple[float, int]] = []
    while (query := search.ask()) is not None:
        radius, level, is_sampled = query
        assert not is_sampled
        asked.append((radius, level))
        search.tell(radius, level, level_losses(loss_at, ray, radius, level + 1))
    return asked, search.brackets()


def assert_identical(
    targets: Targets, settings_: SearchSettings, loss_at: LossAt = of_all_losses, num_rays: int = ALL_RAYS
) -> None:
    unit = torch.linspace(0.5, 2.0, NUM_RAYS, dtype=torch.float64).repeat(num_rays // NUM_RAYS)
    asked, radii = run_torch(targets, settings_, loss_at, unit)
    for ray in range(num_rays):
        asked_cpp, brackets = run_cpp(targets, settings_, loss_at, ray, float(unit[ray]))
        assert all(0.0 <= radius < math.inf for radius, _ in asked[ray]), f"proposals are finite: {name_of(ray)}"
        assert asked_cpp == asked[ray], name_of(ray)
        assert brackets["num_evaluations"].tolist() == [radii.num_evaluations[ray].item()], name_of(ray)
        spent = brackets["num_examples"] / max(targets.levels)
        assert spent.tolist() == [radii.num_full_evaluations[ray].item()], name_of(ray)
        for name in BRACKET:
            in_torch = getattr(radii, name).reshape(len(targets.level), num_rays)[:, ray].numpy()
            assert in_torch.dtype == brackets[name].dtype
            same = np.array_equal(in_torch, brackets[name][:, 0], equal_nan=name != "status_code")
            assert same, (name, name_of(ray))


def targets_of(
    num_levels: int,
    cutoffs: tuple[float, ...],
    settings_: SearchSettings,
    center: float = CENTER,
    scouts: tuple[int, ...] = (),
) -> Targets:
    """Guesses that differ, as those learned from rays do, so that relatives scale them by something other than 1."""
    shape = (num_levels, len(cutoffs))
    ramp = torch.arange(num_levels * len(cutoffs), dtype=torch.float64).reshape(shape)
    return Targets.of(
        torch.full((num_levels,), center, dtype=torch.float64),
        cutoffs,
        tuple(range(1, num_levels + 1)),
        Guess(0.3 + 0.07 * ramp, 2.0 + 0.3 * ramp, 0.05 + 0.01 * ramp),
        settings_.rtol,
        scouts,
    )


@pytest.mark.parametrize("method", METHODS)
def test_one_target(method):
    assert_identical(targets_of(1, (0.02,), METHODS[method]), METHODS[method])


@pytest.mark.parametrize("method", METHODS)
def test_levels_and_cutoffs_share_a_ray(method):
    assert_identical(targets_of(3, (0.02, 0.5, 0.011), METHODS[method]), METHODS[method])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [0.1, math.nan, math.inf, 0.02])
def test_center_outside_or_on_the_boundary(center, method):
    targets = targets_of(2, (0.02, 0.3), METHODS[method], center)
    assert_identical(targets, METHODS[method], LOSSES["quadratic"], NUM_RAYS)
    _, radii = run_torch(targets, METHODS[method], LOSSES["quadratic"], torch.ones(NUM_RAYS, dtype=torch.float64))
    outside = radii.is_status(Status.CENTER_OUTSIDE)[:, 0]
    assert bool(outside.all()) == (center != 0.02), "a loss equal to the cutoff is inside"


@pytest.mark.parametrize("method", METHODS)
def test_scouts_and_relatives_share_a_ray(method):
    settings_ = METHODS[method]
    targets = targets_of(4, (0.02, 0.5), settings_, scouts=(1, 3))
    # The smaller cutoff follows the larger one of its level, and that one follows itself on the level below.
    assert targets.relative.tolist() == [1, -1, 3, 1, 5, 3, 7, 5]
    assert targets.is_wanted.tolist() == [False, False, True, True] * 2
    assert_identical(targets, settings_)


def test_relative_moves_the_first_proposal_of_the_next_level():
    """Otherwise the test above would compare searches without relatives."""
    settings_ = METHODS["interpolate"]
    targets = targets_of(2, (0.02,), settings_)
    asked, _ = run_cpp(targets, settings_, LOSSES["quadratic"], 3, 1.0)
    first = next(radius for radius, level in asked if level == 1)
    truth = math.sqrt(0.01 / 4)
    assert first == pytest.approx(0.37 * truth / 0.3, rel=1e-3)


@pytest.mark.parametrize("method", ["interpolate", "interpolate, few steps", "bisect"])
def test_restored_brackets_are_narrowed_alike(method):
    """Loose brackets are closed further, those of every third ray and of CENTER_OUTSIDE are kept."""
    tight = METHODS[method]
    loose = dataclasses.replace(tight, rtol=0.05, max_steps=100)
    cutoffs, unit = (0.02, 0.5, 0.001), torch.ones(ALL_RAYS, dtype=torch.float64)
    _, known = run_torch(targets_of(2, cutoffs, loose), loose, of_all_losses, unit)
    again = known.is_status(Status.CROSSED) & (torch.arange(ALL_RAYS) % NUM_RAYS % 3 != 0)
    known = dataclasses.replace(known, status_code=torch.where(again, RUNNING, known.status_code).to(torch.int8))

    targets = targets_of(2, cutoffs, tight)
    asked, radii = run_torch(targets, tight, of_all_losses, unit, known)
    flat = {name: getattr(known, name).flatten(0, 1) for name in BRACKET}
    for ray in range(ALL_RAYS):
        before = {name: values[:, ray] for name, values in flat.items()}
        asked_cpp, brackets = run_cpp(targets, tight, of_all_losses, ray, 1.0, before)
        assert asked_cpp == asked[ray], name_of(ray)
        for name in BRACKET:
            in_torch = getattr(radii, name).flatten(0, 1)[:, ray].numpy()
            same = np.array_equal(in_torch, brackets[name][:, 0], equal_nan=name != "status_code")
            assert same, (name, name_of(ray))
    for name in BRACKET:
        kept, before = getattr(radii, name)[~again].numpy(), getattr(known, name)[~again].numpy()
        assert np.array_equal(kept, before, equal_nan=name != "status_code"), name
    closed = again & radii.is_status(Status.CROSSED)
    assert bool((radii.upper - radii.lower <= tight.rtol * radii.upper)[closed].all())
    searched = again.flatten(0, 1).any(dim=0).reshape(-1, NUM_RAYS).any(dim=1)
    assert bool(searched.any())
    spent = radii.num_evaluations.reshape(-1, NUM_RAYS).sum(dim=1)
    assert bool((spent[searched] > 0).all()), "of every loss some ray was searched on"


@given(
    exponent=st.floats(0.2, 40.0),
    stretch=st.floats(1e-6, 1e6),
    wave=st.floats(0.0, 1.5),
    frequency=st.floats(0.1, 30.0),
    broken=st.floats(0.01, 5.0),
    guess=st.floats(1e-8, 1e8),
    slope=st.floats(0.5, 50.0),
    method=st.sampled_from(("interpolate", "bisect")),
    rtol=st.sampled_from((1e-12, 1e-6, 1e-3, 0.5)),
)
@settings(max_examples=20, deadline=None)
def test_any_power_law_with_waves_and_holes(exponent, stretch, wave, frequency, broken, guess, slope, method, rtol):
    def loss_at(ray: int, radius: float) -> float:
        r = radius / stretch
        if broken < r < broken * (1 + 0.1 * ray):
            return math.nan
        return CENTER + min(r, 1e6) ** exponent * (1 + wave * math.sin(frequency * r))

    generic = Guess.generic(2, 2, guess)
    targets = Targets.of(
        torch.tensor([CENTER, CENTER], dtype=torch.float64),
        (0.02, 1.0),
        (1, 2),
        Guess(generic.radius, torch.full_like(generic.slope, slope), generic.spread),
        rtol,
    )
    assert_identical(targets, SearchSettings(method, rtol=rtol, radius_max=1e9), loss_at, NUM_RAYS)
