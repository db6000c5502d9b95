"""Samples of the rows on CPUs: they place evaluations, and what is certified does not depend on them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import _native
from basinvol.backends.compiled import native_settings, native_targets
from basinvol.search import SearchSettings
from basinvol.search.radii import Guess, Status
from basinvol.search.targets import Targets

CENTER, CUTOFF, RTOL = 0.01, 0.5, 1e-4
ANSWERS = {
    "exact": lambda loss: loss,
    "a little off": lambda loss: CENTER + (loss - CENTER) * 1.03,
    "far too large": lambda loss: 1e9,
    "below the center": lambda loss: -1.0,
    "not a number": lambda loss: math.nan,
    "infinite": lambda loss: math.inf,
}
LOSSES = {
    "quartic": lambda r: CENTER + 0.3 * r**4,
    "bent": lambda r: CENTER + 0.1 * r**2 + 0.2 * r**5,
    "wall": lambda r: CENTER if r < 0.9 else 3.0,
    "re-entrant": lambda r: CENTER + r**2 * (1.0 + 0.9 * math.sin(9.0 * r)),
}


def searched(loss, answer, guess: float = 1.0):
    """One ray whose loss is known from whole evaluations, and from samples as `answer` says; what was asked for."""
    generic = Guess.generic(1, 1, guess)
    targets = Targets.of(torch.tensor([CENTER], dtype=torch.float64), (CUTOFF,), (1000,), generic, RTOL)
    search = _native.RaySearch(
        targets=native_targets(targets),
        order=[0],
        settings=native_settings(SearchSettings(rtol=RTOL)),
        unit=1.0,
        first_sampled=0,
    )
    whole, sampled = [], []
    while (probe := search.ask()) is not None:
        radius, level, is_sampled = probe
        if is_sampled:
            assert not sampled or sampled[-1][1] < len(whole), "one sample between two evaluations"
            sampled.append((radius, len(whole)))
            search.tell_sample(radius, level, answer(loss(radius)), 50)
        else:
            whole.append(radius)
            search.tell(radius, level, [loss(radius)])
    return search.brackets(), whole, sampled


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("guess", [0.7, 0.95, 1.2, 4.0])
def test_whole_evaluations_certify_the_bracket_whatever_samples_say(name, answer, guess) -> None:
    loss = LOSSES[name]
    brackets, whole, sampled = searched(loss, ANSWERS[answer], guess)
    lower, upper = brackets["lower"][0, 0], brackets["upper"][0, 0]
    assert brackets["status_code"][0, 0] == Status.CROSSED.code
    assert {lower, upper} <= set(whole), "both ends were evaluated in full"
    assert loss(lower) <= CUTOFF < loss(upper)
    assert upper - lower <= RTOL * upper
    assert brackets["num_evaluations"][0] == len(whole)
    assert brackets["num_examples"][0] == 1000 * len(whole) + 50 * len(sampled)


def test_a_sample_that_tells_the_truth_leaves_three_evaluations() -> None:
    for guess in (0.9, 1.0, 1.1, 1.3):
        _, whole, sampled = searched(LOSSES["quartic"], ANSWERS["exact"], guess)
        assert len(sampled) == 1
        assert len(whole) == 3
        _, without, _ = searched(LOSSES["quartic"], ANSWERS["not a number"], guess)
        assert len(without) > 3


def rays_of(model: nn.Module, data, num_rays: int = 12, **options) -> bv.Radii:
    landscape = bv.Landscape(model, F.cross_entropy, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), num_rays)
    center = float(landscape.losses()[0])
    return bv.RaySolver(landscape, directions, [center + 0.2], backend="native", **options).solve_all()


def network(kind: str) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """A network for one of the two engines, with rows enough for samples, labels as it gives them and a few wrong."""
    torch.manual_seed(3)
    if kind == "perceptron":
        model: nn.Module = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
        inputs = torch.randn(1703, 20)
    else:
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
        inputs = torch.randn(1703, 1, 6, 6)
    labels = (8.0 * model(inputs).detach()).argmax(dim=1)
    labels[::50] = (labels[::50] + 1) % 5
    return model, (inputs, labels)


@pytest.mark.parametrize("kind", ["perceptron", "program"])
@pytest.mark.parametrize("resolve", ["all", "decisive"])
def test_sampled_rays_have_the_same_bytes_for_any_threads_blocks_and_memory(kind, resolve) -> None:
    model, data = network(kind)
    radii = rays_of(model, data, num_threads=1, resolve=resolve)
    rows = (1703 * radii.num_full_evaluations).round()
    torch.testing.assert_close(rows / 1703, radii.num_full_evaluations, rtol=1e-12, atol=0.0)  # counted one by one
    if resolve == "all":
        assert bool((rows % 1703 != 0).any()), "some rays are sampled"
    memory = ({"num_threads": 1, "memory_budget": 256 * slots} for slots in (1, 100, 1171, 1700))
    for options in ({"num_threads": 2}, *memory, {"num_threads": 3}):
        again = rays_of(model, data, resolve=resolve, **options)
        for name in ("lower", "upper", "radius", "slope", "status_code", "num_evaluations", "num_full_evaluations"):
            assert torch.equal(getattr(again, name).nan_to_num(), getattr(radii, name).nan_to_num()), (options, name)


@pytest.mark.parametrize("kind", ["perceptron", "program"])
def test_sampled_rays_end_where_the_reference_finds_them(kind) -> None:
    model, (inputs, labels) = network(kind)
    radii = rays_of(model, (inputs, labels))
    assert bool(radii.is_status(Status.CROSSED).all())
    directions = bv.Directions(bv.ParameterSpace.of(model), len(radii))
    exact = bv.RaySolver(
        bv.Landscape(model, F.cross_entropy, (inputs, labels)), directions, radii.cutoffs, backend="reference"
    ).solve_all()
    overlap = (exact.lower <= radii.upper * (1 + 1e-5)) & (radii.lower <= exact.upper * (1 + 1e-5))
    assert bool(overlap.all())
