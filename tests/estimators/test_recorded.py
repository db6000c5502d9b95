"""Recorded functions give the bytes of those that were recorded, and what cannot be recorded is called as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from basinvol import ground_truth as gt
from basinvol.estimators.recorded import Recorded


def perceptron(seed: int) -> tuple[Callable[[Tensor], Tensor], int]:
    """The loss of a small network with the kinds of layers that gauges do not have, and its number of parameters."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv1d(1, 2, 3), nn.GELU(), nn.Flatten(), nn.LayerNorm(12), nn.Dropout(), nn.Linear(12, 3))
    ).eval()
    inputs, labels = torch.randn(20, 1, 8), torch.randint(3, (20,))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    dim = sum(shape.numel() for shape in shapes.values())

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return nn.functional.cross_entropy(functional_call(model, named, (inputs,)), labels)

    return loss, dim


def gauge(number: int) -> tuple[Callable[[Tensor], Tensor], int]:
    """A body's gauge with all its branches, and its dimension."""
    case = (gt.tube(10, 5.0, 0.7), gt.two_basins(30), gt.cross(4, 1e-2))[number]
    model = case.task()[0]
    return model.gauge, case.dim  # type: ignore[return-value]


@pytest.mark.parametrize(("loss", "dim"), [perceptron(0), gauge(0), gauge(1), gauge(2)])
def test_recorded_function_gives_the_same_bytes_at_points_that_were_not_recorded(
    loss: Callable[[Tensor], Tensor], dim: int
) -> None:
    function = vmap(grad_and_value(loss))
    recorded = Recorded(function, dim)
    eager = Recorded(function, dim)
    dtype = torch.float32 if dim > 2 and loss.__name__ == "loss" else torch.float64
    generator = torch.Generator().manual_seed(1)
    for count in (16, 16, 16, 16, 13, 3, 7, 8, 5, 3, 1):
        points = 0.5 * torch.randn(count, dim, generator=generator).to(dtype)
        eager._programs.clear()
        eager._calls.clear()
        for found, expected in zip(recorded(points), eager(points), strict=True):
            assert torch.equal(found.detach(), expected.detach())
        for found, expected in zip(recorded(points), function(points), strict=True):
            torch.testing.assert_close(found.detach(), expected.detach())
    assert sorted(recorded._programs) == [8, 16]
    assert all(program is not function for program in recorded._programs.values())


def test_large_passes_are_not_recorded() -> None:
    recorded = Recorded(vmap(torch.sum), 2**20)
    for _ in range(5):
        assert torch.equal(recorded(torch.ones(2, 3)), torch.full((2,), 3.0))
    assert not recorded._programs


def test_function_that_cannot_be_recorded_is_called() -> None:
    def asks(points: Tensor) -> Tensor:
        return points if float(points.sum()) > 0 else -points

    recorded = Recorded(asks, 1)
    for factor in (1.0, -1.0, 2.0, -2.0, 3.0, -3.0):
        points = factor * torch.ones(8, 1)
        assert torch.equal(recorded(points), points.abs())
