"""The search in C++ against the one in torch, bit for bit: proposals, brackets, statuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basinvol import _native
from basinvol.backends.native import native_settings, native_targets
from basinvol.radii import Guess, Status
from basinvol.search import RaySearch, SearchSettings
from basinvol.targets import Targets

# Loss at (ray, radius) on one level; python floats, so that both searches are told the same bits.
LossAt = Callable[[int, float], float]
CENTER = 0.01
NUM_RAYS = 6

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
METHODS = {
    "interpolate": SearchSettings("interpolate", rtol=1e-4, radius_max=100.0),
    "interpolate, tight": SearchSettings("interpolate", rtol=1e-10, radius_max=100.0),
    "interpolate, few steps": SearchSettings("interpolate", rtol=1e-6, radius_max=100.0, max_steps=4),
    "interpolate, near end": SearchSettings("interpolate", rtol=0.5, radius_max=0.5),
    "bisect": SearchSettings("bisect", rtol=1e-4, radius_max=100.0),
    "bisect, few steps": SearchSettings("bisect", rtol=1e-6, radius_max=100.0, max_steps=9),
    "grid": SearchSettings("grid", grid=tuple((k / 29) ** 2 for k in range(1, 30))),
}


def level_losses(loss_at: LossAt, ray: int, radius: float, num_levels: int) -> list[float]:
    """Levels that differ: level k sees the ray stretched by 1 + k / 4."""
    return [loss_at(ray, radius / (1 + 0.25 * level)) for level in range(num_levels)]


def run_torch(targets: Targets, settings_: SearchSettings, loss_at: LossAt, unit: torch.Tensor):
    search = RaySearch(targets, settings_, NUM_RAYS, unit)
    asked: list[list[tuple[float, int]]] = [[] for _ in range(NUM_RAYS)]
    while (probes := search.ask()) is not None:
        losses = torch.full((len(probes.rays), len(targets.levels)), math.nan, dtype=torch.float64)
        for row, (ray, radius, level) in enumerate(
            zip(probes.rays.tolist(), probes.radius.tolist(), probes.level.tolist(), strict=True)
        ):
            asked[ray].append((radius, level))
            losses[row, : level + 1] = torch.tensor(level_losses(loss_at, ray, radius, level + 1), dtype=torch.float64)
        search.tell(probes, losses)
    return asked, search.radii()


def run_cpp(targets: Targets, settings_: SearchSettings, loss_at: LossAt, ray: int, unit: float):
    search = _native.RaySearch(
        targets=native_targets(targets),
        order=targets.order.tolist(),
        settings=native_settings(settings_),
        unit=unit,
    )
    asked: list[tuple[float, int]] = []
    while (probe := search.ask()) is not None:
        asked.append(probe)
        search.tell(*probe, level_losses(loss_at, ray, probe[0], probe[1] + 1))
    return asked, search.brackets()


def assert_identical(targets: Targets, settings_: SearchSettings, loss_at: LossAt) -> None:
    unit = torch.linspace(0.5, 2.0, NUM_RAYS, dtype=torch.float64)
    asked, radii = run_torch(targets, settings_, loss_at, unit)
    for ray in range(NUM_RAYS):
        asked_cpp, brackets = run_cpp(targets, settings_, loss_at, ray, float(unit[ray]))
        assert all(0.0 <= radius < math.inf for radius, _ in asked[ray]), "proposals are finite"
        assert asked_cpp == asked[ray]
        assert brackets["num_evaluations"].tolist() == [radii.num_evaluations[ray].item()]
        for name in ("lower", "upper", "value_lower", "value_upper", "slope", "status_code"):
            in_torch = getattr(radii, name).reshape(len(targets.level), NUM_RAYS)[:, ray].numpy()
            assert in_torch.dtype == brackets[name].dtype
            assert np.array_equal(in_torch, brackets[name][:, 0], equal_nan=name != "status_code"), name


def targets_of(num_levels: int, cutoffs: tuple[float, ...], center: float = CENTER, guess: float = 0.3) -> Targets:
    return Targets.of(
        torch.full((num_levels,), center, dtype=torch.float64),
        cutoffs,
        tuple(range(1, num_levels + 1)),
        Guess.generic(num_levels, len(cutoffs), guess),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
def test_one_target(loss, method):
    assert_identical(targets_of(1, (0.02,)), METHODS[method], LOSSES[loss])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
def test_levels_and_cutoffs_share_a_ray(loss, method):
    assert_identical(targets_of(3, (0.02, 0.5, 0.011)), METHODS[method], LOSSES[loss])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [0.1, math.nan, math.inf, 0.02])
def test_center_outside_or_on_the_boundary(center, method):
    targets = targets_of(2, (0.02, 0.3), center)
    assert_identical(targets, METHODS[method], LOSSES["quadratic"])
    _, radii = run_torch(targets, METHODS[method], LOSSES["quadratic"], torch.ones(NUM_RAYS, dtype=torch.float64))
    outside = radii.is_status(Status.CENTER_OUTSIDE)[:, 0]
    assert bool(outside.all()) == (center != 0.02), "a loss equal to the cutoff is inside"


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
        Guess(generic.radius, torch.full_like(generic.slope, slope)),
    )
    assert_identical(targets, SearchSettings(method, rtol=rtol, radius_max=1e9), loss_at)
