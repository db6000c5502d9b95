"""Losses by plain torch, in float64 and in float32: what kernels are compared with."""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import basinvol as bv

os.environ["BASINVOL_MEASURED_TILES"] = "0"  # the same tiles on every device

LossesAlong = Callable[..., Tensor]


def legacy_moves(directions: bv.Directions, model: nn.Module, rays: Sequence[int], scaling: str) -> Tensor:
    """scale x direction, rounded as the engines do. Legacy normals come from torch, the same bits everywhere. [n, P]"""
    assert directions.generator == "legacy"
    rows = []
    for index in rays:
        normals = directions.normals(index).double()
        rows.append((normals * (1.0 / normals.norm())).float() * directions.space.scale(model, scaling))
    return torch.stack(rows)


@pytest.fixture(scope="session")
def losses_along() -> LossesAlong:
    """losses_along(model, loss_fn, data, directions, rays, radius, dtype): at center + radius[i] moves[rays[i]]. [n]"""

    def losses(model, loss_fn, data, directions, rays, radius, dtype, scaling="filter") -> Tensor:
        space, found = directions.space, []
        moves = legacy_moves(directions, model, rays, scaling).to(dtype)
        copied = copy.deepcopy(model).to(dtype)
        inputs, targets = (part.to(dtype) if part.is_floating_point() else part for part in data)
        wide = bv.ParameterSpace(space.names, space.shapes, (dtype,) * len(space.names))
        center = wide.flatten(copied)
        with torch.no_grad():
            for r, move in zip(radius.tolist(), moves, strict=True):
                outputs = functional_call(copied, wide.unflatten(center + r * move), (inputs,))
                found.append(loss_fn(outputs, targets).double())
        return torch.stack(found)

    return losses


@pytest.fixture(scope="session")
def ray_searches() -> ModuleType:
    """The losses, settings and targets with which test_ray_search.py compares searches."""
    spec = importlib.util.spec_from_file_location("ray_searches", Path(__file__).with_name("test_ray_search.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
