"""Recorded functions give the bytes of those that were recorded, and what cannot be recorded is called as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from basinvol import ground_truth as gt
from basinvol.estimators.recorded import Recorded


def network(seed: int) -> tuple[Callable[[Tensor], Tensor], int, torch.dtype]:
    """The loss of a small network with layers that gauges do not have, its number of parameters, and their type."""
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

    return loss, dim, torch.float32


def gauge(case: gt.Case) -> tuple[Callable[[Tensor], Tensor], int, torch.dtype]:
    """The gauge of a body, its dimension, and the type of its parameters."""
    model = case.task()[0]
    assert isinstance(model, gt.Gauge)
    return model.gauge, case.dim, torch.float64


@pytest.mark.parametrize(
    ("loss", "dim", "dtype"),
    [network(0), gauge(gt.tube(10, 5.0, 0.7)), gauge(gt.two_basins(30)), gauge(gt.cross(4, 1e-2))],
    ids=["network", "tube", "two basins", "cross"],
)
def test_recorded_function_gives_the_same_bytes_at_points_that_were_not_recorded(
    loss: Callable[[Tensor], Tensor], dim: int, dtype: torch.dtype
) -> None:
    function = vmap(grad_and_value(loss))
    recorded, eager = Recorded(function, 1000), Recorded(function, 1000)  # so few points are rounded up to eight
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


def test_small_passes_share_a_record() -> None:
    recorded = Recorded(vmap(torch.sum), 8)
    for count in (1, 3, 9, 100, 700, 1024):
        assert torch.equal(recorded(torch.ones(count, 3)), torch.full((count,), 3.0))
    assert sorted(recorded._programs) == [1024]


def test_only_calls_of_the_function_enter_what_it_is_called_in() -> None:
    entered = []

    @contextlib.contextmanager
    def calling() -> Iterator[None]:
        entered.append(True)
        yield

    recorded = Recorded(vmap(torch.sum), 8, calling)
    counts = []
    for _ in range(6):
        recorded(torch.ones(4, 3))
        counts.append(len(entered))
    assert counts == [1, 2, 3, 3, 3, 3]  # the third records


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
