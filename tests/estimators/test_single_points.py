"""Losses of single points that are within limits, of a network whose points are evaluated one after the other."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.motion import PointsInPlanes
from basinvol.estimators.batched import BatchedLoss

COUNT = 12


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 16 * 16, 3))


def task(loss_fn: Any = F.cross_entropy, **settings: Any) -> tuple[bv.Landscape, bv.ParameterSpace]:
    model = convolutions()
    data = torch.randn(400, 1, 16, 16), torch.randint(0, 3, (400,))
    return bv.Landscape(model, loss_fn, data, **settings), bv.ParameterSpace.of(model)


def energy_of(landscape: bv.Landscape, space: bv.ParameterSpace, **settings: Any) -> BatchedLoss:
    model = landscape.model
    return BatchedLoss(landscape, space, space.flatten(model), space.scale(model), **settings)


def points_of(space: bv.ParameterSpace) -> tuple[Tensor, PointsInPlanes]:
    points = 0.2 * torch.randn(COUNT, space.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return points, PointsInPlanes.on_rays(points, torch.arange(COUNT), torch.ones(COUNT, dtype=torch.float64))


def counting(landscape: bv.Landscape, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The examples of every call of the model."""
    read: list[int] = []
    apply = landscape.caller.apply

    def noted(named: Any, inputs: Any, function: Any) -> Any:
        read.append(len(inputs))
        return apply(named, inputs, function)

    monkeypatch.setattr(landscape.caller, "apply", noted)
    return read


def test_what_is_within_its_limit_has_its_loss_and_the_rest_reads_less(monkeypatch: pytest.MonkeyPatch) -> None:
    landscape, space = task(batch_size=100)
    energy = energy_of(landscape, space)
    points, at = points_of(space)
    expected = energy.losses(points)
    limits = torch.full((COUNT,), 1.0001 * float(expected.median()), dtype=torch.float64)
    energy.losses_within(at, limits)  # sets up the order
    read, before = counting(landscape, monkeypatch), landscape.num_evaluations
    found = energy.losses_within(at, limits)
    assert landscape.num_evaluations == before + COUNT
    within = expected <= limits
    assert 0 < int(within.sum()) < COUNT
    assert torch.allclose(found[within], expected[within], rtol=1e-6)
    assert torch.isinf(found[~within]).all()
    assert int(within.sum()) * 400 <= sum(read) < COUNT * 400
    read.clear()
    assert torch.isinf(energy.losses_within(at, torch.full_like(limits, 0.01))).all()
    assert sum(read) == COUNT * 50  # the first batch of each


def test_a_loss_does_not_depend_on_its_limit_nor_on_points_before_it() -> None:
    landscape, space = task()
    energy = energy_of(landscape, space)
    _, at = points_of(space)
    wide = energy.losses_within(at, torch.full((COUNT,), 1e6, dtype=torch.float64))
    assert torch.isfinite(wide).all()
    alone = PointsInPlanes(at.points, at.partners, at.which[5:6], at.first[5:6], at.second[5:6])
    other = energy_of(landscape, space)
    assert other.losses_within(alone, wide[5:6]).item() == wide[5].item()
    assert other.losses_within(alone, wide[5:6] * (1 - 1e-12)).item() == math.inf


def test_workers_give_the_same_bytes() -> None:
    landscape, space = task()
    _, at = points_of(space)
    limits = torch.full((COUNT,), 3.0, dtype=torch.float64)
    here = energy_of(landscape, space, num_threads=1).losses_within(at, limits)
    with ThreadPoolExecutor(2) as executor:
        there = energy_of(landscape, space, num_threads=1, executor=executor).losses_within(at, limits)
    assert torch.equal(here, there)


def test_losses_that_may_be_negative_or_are_of_whole_batches_are_read_whole() -> None:
    """A sum over some examples says nothing of the mean where those that follow may lower it."""

    def shifted(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) - 1.0

    declared = bv.PerExampleLoss(lambda o, t: F.cross_entropy(o, t, reduction="none") - 1.0)
    for loss_fn in (shifted, declared):
        landscape, space = task(loss_fn)
        energy = energy_of(landscape, space)
        points, at = points_of(space)
        expected = energy.losses(points)
        limits = torch.full((COUNT,), 1.0001 * float(expected.median()), dtype=torch.float64)
        found = energy.losses_within(at, limits)
        assert torch.allclose(found, torch.where(expected <= limits, expected, math.inf), rtol=1e-5)


def test_a_loss_that_is_not_a_number_is_beyond_every_limit() -> None:
    landscape, space = task()
    energy = energy_of(landscape, space)
    points, _ = points_of(space)
    points[3] = math.nan
    at = PointsInPlanes.on_rays(points, torch.arange(COUNT), torch.ones(COUNT, dtype=torch.float64))
    found = energy.losses_within(at, torch.full((COUNT,), 1e6, dtype=torch.float64))
    assert found.isinf().tolist() == [number == 3 for number in range(COUNT)]
