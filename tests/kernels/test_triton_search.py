"""The search on the device against the one in torch, bit for bit, in lockstep; on the interpreter without a GPU."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed on this platform")

import triton
import triton.language as tl

from basin_triton import portable_math as on_device
from basin_triton import search_step
from basin_triton.compact import compact
from basinvol.backends.triton.search import DeviceSearch
from basinvol.search import RUNNING, Queries, RaySearch, SearchSettings, portable_math
from basinvol.search.radii import Status
from basinvol.search.targets import Targets

# The interpreter computes with numpy, which warns of overflow, infinities and NaN where a device does not.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")

compact_module = importlib.import_module("basin_triton.compact")
_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FIELDS = (
    "lower",
    "upper",
    "radius",
    "value_lower",
    "value_upper",
    "slope",
    "status_code",
    "num_evaluations",
    "num_full_evaluations",
)
# Passes after which more than a quarter of the searches of test_ray_search.py have ended; all of the few steps.
METHODS = {
    "interpolate": 12,
    "interpolate, tight": 16,
    "interpolate, few steps": 16,
    "interpolate, near end": 8,
    "bisect": 18,
    "bisect, few steps": 12,
    "grid": 29,
}
# Rays that never end would only take more time; their states are compared as they are then.
MOST_PASSES = 10

# The losses of rays at radii, on levels 0 to num_levels - 1: (rays, radius, level, num_levels) -> [A, num_levels]
LossesAt = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def assert_same_bits(found: Tensor, expected: Tensor, what: object = "") -> None:
    """NaN equals NaN; -0 is not 0."""
    found = found.cpu()
    assert found.dtype == expected.dtype, what
    if found.dtype == torch.float64:
        same = (found.view(torch.int64) == expected.view(torch.int64)) | (found.isnan() & expected.isnan())
        assert bool(same.all()), (what, found[~same], expected[~same])
    else:
        assert torch.equal(found, expected), what


def along_all_losses(cases: ModuleType) -> tuple[LossesAt, int]:
    """Every loss of test_ray_search.py along two rays; and the number of rays."""
    all_rays = [(loss_at, shift) for shift in (1, 3) for loss_at in cases.LOSSES.values()]

    def losses_at(rays: Tensor, radius: Tensor, level: Tensor, num_levels: int) -> Tensor:
        found = torch.full((len(rays), num_levels), math.nan, dtype=torch.float64)  # above a level, none must be read
        for row, (ray, r, top) in enumerate(zip(rays.tolist(), radius.tolist(), level.tolist(), strict=True)):
            found[row, : top + 1] = torch.tensor(cases.level_losses(*all_rays[ray], r, top + 1), dtype=torch.float64)
        return found

    return losses_at, len(all_rays)


def pair(targets: Targets, settings: SearchSettings, num_rays: int) -> tuple[RaySearch, DeviceSearch]:
    unit = torch.linspace(0.5, 2.0, num_rays, dtype=torch.float64)
    return RaySearch(targets, settings, num_rays, unit), DeviceSearch(targets.to(_DEVICE), settings, num_rays, unit)


def assert_lockstep(
    expected: RaySearch, found: DeviceSearch, losses_at: LossesAt, most_passes: int = MOST_PASSES
) -> None:
    """Both ask for the same points in the same order and come to the same brackets."""
    for turn in range(most_passes + 1):
        queries, asked = expected.ask(), found.ask()
        if queries is None or asked is None:
            assert queries is asked, f"one has finished in pass {turn}"
            break
        assert_same_bits(asked.rays, queries.rays, turn)
        assert_same_bits(asked.radius, queries.radius, turn)
        assert_same_bits(asked.level, queries.level, turn)
        assert asked.highest == int(queries.level.max())
        if turn < most_passes:
            losses = losses_at(queries.rays, queries.radius, queries.level, len(expected.targets.levels))
            expected.tell(queries, losses)
            found.tell(asked, losses[:, : asked.highest + 1].contiguous().to(_DEVICE))
    for name in FIELDS:
        assert_same_bits(getattr(found.radii(), name), getattr(expected.radii(), name), name)


@pytest.mark.parametrize("method", METHODS)
def test_search_on_the_device_is_the_reference_bit_for_bit(ray_searches: ModuleType, method: str) -> None:
    settings = ray_searches.METHODS[method]
    targets = ray_searches.targets_of(2, (0.02, 0.5), settings, scouts=(1,) if "few" in method else ())
    losses_at, num_rays = along_all_losses(ray_searches)
    expected, found = pair(targets, settings, num_rays)
    assert_lockstep(expected, found, losses_at, METHODS[method])
    assert float((expected.status != RUNNING).double().mean()) > 0.25, "many rays were searched to an end"


@pytest.mark.parametrize("center", [0.1, math.nan, 0.02])
def test_center_outside_or_on_the_boundary(ray_searches: ModuleType, center: float) -> None:
    settings = SearchSettings("interpolate", rtol=1e-2, radius_max=100.0)
    targets = ray_searches.targets_of(2, (0.02, 0.3), settings, center)
    expected, found = pair(targets, settings, 2)
    losses_at, _ = along_all_losses(ray_searches)
    assert_lockstep(expected, found, losses_at, most_passes=6)
    assert bool((found.status[:, 0] == Status.CENTER_OUTSIDE.code).all()) == (center != 0.02)


@pytest.mark.parametrize("num_rays", [33, 600])
def test_rays_of_several_programs_stay_in_order_when_others_finish(ray_searches: ModuleType, num_rays: int) -> None:
    settings = SearchSettings("grid", grid=(1.0, 2.0, 3.0))
    targets = ray_searches.targets_of(1, (0.5,), settings)
    expected, found = pair(targets, settings, num_rays)
    ends = torch.randint(1, 5, (num_rays,))  # the grid point at which a ray is outside; the fourth does not exist
    points = torch.zeros(num_rays, dtype=torch.int64)

    def losses_at(rays: Tensor, radius: Tensor, level: Tensor, num_levels: int) -> Tensor:
        points[rays] += 1
        return torch.where(points[rays] >= ends[rays], 1.0, 0.1).double()[:, None]

    assert_lockstep(expected, found, losses_at)
    assert torch.equal(found.num_evaluations.cpu(), ends.clamp(max=3))
    censored = found.status[:, 0].cpu() == Status.CENSORED.code
    assert torch.equal(censored, ends == 4)


@pytest.mark.parametrize(("method", "most_passes"), [("interpolate", 10), ("bisect", 16)])
def test_known_brackets_are_narrowed_alike(ray_searches: ModuleType, method: str, most_passes: int) -> None:
    """Loose brackets are closed further; those of every third ray, and of rays without an end, are kept."""
    tight = SearchSettings(method, rtol=1e-5, radius_max=100.0)
    loose = dataclasses.replace(tight, rtol=0.05, max_steps=20)
    losses_at, num_rays = along_all_losses(ray_searches)
    search = RaySearch(ray_searches.targets_of(2, (0.02, 0.5), loose), loose, num_rays)
    while (queries := search.ask()) is not None:
        search.tell(queries, losses_at(queries.rays, queries.radius, queries.level, 2))
    known = search.radii()
    again = known.is_status(Status.CROSSED) & (torch.arange(num_rays) % 3 != 0)
    assert bool(again.any())
    known = dataclasses.replace(known, status_code=torch.where(again, RUNNING, known.status_code).to(torch.int8))

    expected, found = pair(ray_searches.targets_of(2, (0.02, 0.5), tight), tight, num_rays)
    expected.restore(known)
    found.restore(known)
    assert_lockstep(expected, found, losses_at, most_passes)
    narrowed = found.radii()
    closed = again & narrowed.is_status(Status.CROSSED)
    assert bool(closed.any())
    assert bool((narrowed.upper - narrowed.lower <= 1e-5 * narrowed.upper)[closed].all())
    for name in ("lower", "upper", "value_lower", "value_upper", "slope", "status_code"):
        assert_same_bits(getattr(narrowed, name)[~again], getattr(known, name)[~again], name)


def test_point_outside_below_one_that_was_inside_begins_again_from_the_center(ray_searches: ModuleType) -> None:
    """While one cutoff is looked for, the bracket of the other is found to be beyond the first crossing."""
    settings = SearchSettings("interpolate", rtol=1e-3, radius_max=100.0)
    targets = ray_searches.targets_of(1, (0.5, 0.02), settings)
    bracket = {"lower": [0.1, 0.35], "upper": [0.4, 1.0], "value_lower": [0.2, 0.015], "value_upper": [0.6, 9.0]}
    state = {name: torch.tensor([values] * 2, dtype=torch.float64).T for name, values in bracket.items()}
    state["slope"] = torch.full((2, 2), 2.0, dtype=torch.float64)
    state["status_code"] = torch.full((2, 2), RUNNING, dtype=torch.int8)
    counts = {name: torch.zeros(2, dtype=torch.int64) for name in ("num_evaluations", "num_examples")}
    known = targets.radii({**state, **counts}, rounds_up=False)
    expected, found = pair(targets, settings, 2)
    expected.restore(known)
    found.restore(known)

    def losses_at(rays: Tensor, radius: Tensor, level: Tensor, num_levels: int) -> Tensor:
        return (ray_searches.CENTER + (1.0 + rays) * 20.0 * radius**2)[:, None]

    assert_lockstep(expected, found, losses_at, most_passes=30)
    assert bool((found.upper[:, 1] < 0.1).all())


@pytest.mark.parametrize("method", ["interpolate", "grid"])
def test_rays_settled_by_a_proof_are_not_searched_and_the_others_start_there(
    ray_searches: ModuleType, method: str
) -> None:
    settings = ray_searches.METHODS[method]
    losses_at, num_rays = along_all_losses(ray_searches)
    expected, found = pair(ray_searches.targets_of(1, (0.02, 0.5), settings), settings, num_rays)
    for target in (1, 0):
        rays, radius = expected.candidates(target, 0.25)
        rays_there, radius_there = found.candidates(target, 0.25)
        assert_same_bits(rays_there, rays)
        assert_same_bits(radius_there, radius)
        level = torch.zeros_like(rays)
        value = losses_at(rays, radius, level, 1)[:, 0]
        expected.settle(Queries(rays, radius, level), target, value)
        found.settle(Queries(rays_there, radius_there, level.to(_DEVICE)), target, value.to(_DEVICE))
    assert_lockstep(expected, found, losses_at)
    negligible = found.radii().is_status(Status.NEGLIGIBLE)
    assert 0 < int(negligible.sum()) < negligible.numel()


def test_first_evaluation_begins_a_bracket_on_the_side_that_it_is_on(ray_searches: ModuleType) -> None:
    settings = SearchSettings("interpolate", rtol=1e-3)
    targets = ray_searches.targets_of(2, (0.5, 0.02), settings)
    search = DeviceSearch(targets.to(_DEVICE), settings, 4)
    losses = torch.tensor([[9.0, 0.02], [0.01, 0.03], [0.01, math.nan]], dtype=torch.float64, device=_DEVICE)
    rays, radius = torch.tensor([0, 2, 3], device=_DEVICE), torch.tensor([0.1, 0.2, 0.3], device=_DEVICE).double()
    search.begin(Queries(rays, radius, torch.ones_like(rays)), 3, losses)
    inside, outside = radius[0].item(), radius[1:].tolist()
    assert search.lower[:, 3].tolist() == [inside, 0.0, 0.0, 0.0]
    assert search.upper[:, 3].tolist() == [math.inf, math.inf, *outside]
    assert search.value_lower[:, 3].tolist() == [0.02, *[ray_searches.CENTER] * 3]
    assert search.value_upper[2, 3].item() == 0.03
    assert search.num_evaluations.tolist() == [1, 0, 1, 1]
    assert search.lower[:, :3].unique().tolist() == [0.0]
    assert search.upper[:, :3].unique().tolist() == [math.inf]


@triton.jit
def _log_and_exp_kernel(logs, exponentials, positive, anything, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(logs + at, on_device.portable_log(tl.load(positive + at)))
    tl.store(exponentials + at, on_device.portable_exp(tl.load(anything + at)))


def test_logarithm_and_exponential_have_the_bits_of_torch() -> None:
    limits = torch.finfo(torch.float64)
    nearly = [math.nextafter(x, to) for x in (0.5, math.sqrt(0.5), 1.0, 2.0) for to in (0.0, x, 9.0)]
    edges = torch.tensor([limits.tiny, limits.max, *nearly], dtype=torch.float64)
    positive = torch.cat([edges, torch.exp(torch.empty(4096 - len(edges), dtype=torch.float64).uniform_(-700, 700))])
    edges = torch.tensor(
        [
            0.0,
            -0.0,
            700.0,
            -700.0,
            701.0,
            -1e300,
            math.inf,
            -math.inf,
            5e-324,
            *(math.log(2) * (k + 0.5) for k in range(9)),
        ],
        dtype=torch.float64,
    )
    spread = torch.empty(4096 - len(edges), dtype=torch.float64).uniform_(-1, 1)
    anything = torch.cat([edges, spread * 10.0 ** torch.randint(-12, 4, spread.shape)])
    logs, exponentials = torch.empty(2, 4096, dtype=torch.float64, device=_DEVICE)
    _log_and_exp_kernel[(1,)](
        logs, exponentials, positive.to(_DEVICE), anything.to(_DEVICE), SIZE=4096, enable_fp_fusion=False
    )
    assert_same_bits(logs, portable_math.portable_log(positive))
    assert_same_bits(exponentials, portable_math.portable_exp(anything))
    torch.testing.assert_close(logs.cpu(), positive.log(), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(exponentials.cpu(), anything.clamp(-700, 700).exp(), rtol=1e-14, atol=0.0)


def test_bad_steps_are_refused(ray_searches: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SearchSettings("bisect")
    search = DeviceSearch(ray_searches.targets_of(1, (0.5,), settings).to(_DEVICE), settings, 2)
    state, task, active = search._state(), search._plan, torch.zeros(2, dtype=torch.int32, device=_DEVICE)
    where = (search._radius, search._level)
    with pytest.raises(ValueError, match="`method` must be one of 'interpolate', 'bisect', 'grid', got 'newton'"):
        search_step(state, dataclasses.replace(task, method="newton"), active, None, *where)
    with pytest.raises(ValueError, match="`active` must hold at most 4096 rays, got 4097"):
        compact(torch.zeros(4097, dtype=torch.int32, device=_DEVICE), search._level)
    monkeypatch.setattr(compact_module, "MAX_RAYS", 40)  # the interpreter takes long for the programs of 4,097 rays
    with pytest.raises(ValueError, match="`active` must hold at most 40 rays, got 41"):
        search_step(state, task, torch.zeros(41, dtype=torch.int32, device=_DEVICE), None, *where)
    single, double = torch.zeros(2, 1, device=_DEVICE), torch.zeros(3, 4, dtype=torch.float64, device=_DEVICE)
    for losses in (single, double[:, :1], double[:2, ::2]):
        with pytest.raises(ValueError, match=r"`losses` must be contiguous float64 \[2, L\], got torch.float"):
            search_step(state, task, active, losses, *where)
