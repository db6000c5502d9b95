"""Perceptrons without the weights that their inputs never read: the same losses, and the same mass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.compiled import host_array, mlp_arguments
from basinvol.backends.points import NativePoints
from basinvol.backends.reduced_inputs import reduced_inputs

HIDDEN, OUTPUTS = 9, 4


def perceptron(inputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUTPUTS))


def points_of(
    model: nn.Module, data: tuple[Tensor, Tensor], reduces: bool, scale: Tensor | None = None
) -> NativePoints:
    landscape, space = bv.Landscape(model, F.cross_entropy, data), bv.ParameterSpace.of(model)
    return NativePoints(
        landscape, space, space.flatten(model), space.scale(model) if scale is None else scale, 1, reduces
    )


def labels(count: int) -> Tensor:
    return torch.randint(OUTPUTS, (count,))


@pytest.mark.parametrize(("count", "live", "kept"), [(5, 30, 5), (12, 30, 12), (40, 30, 30), (40, 17, 17)])
def test_a_row_of_weights_keeps_as_many_coordinates_as_the_inputs_span(count: int, live: int, kept: int) -> None:
    inputs = torch.zeros(count, 30)
    inputs[:, torch.randperm(30)[:live]] = torch.randn(count, live)
    whole, reduced = (points_of(perceptron(30), (inputs, labels(count)), reduces) for reduces in (False, True))
    assert whole.dim - reduced.dim == HIDDEN * (30 - kept)


def test_a_million_inputs_take_the_memory_of_their_span() -> None:
    """Three examples of a million pixels need a basis of three columns, and not one of a million."""
    inputs = torch.randn(3, 1_000_000)
    model = nn.Sequential(nn.Linear(1_000_000, 1, bias=False))
    landscape, space = bv.Landscape(model, F.mse_loss, (inputs, torch.zeros(3, 1))), bv.ParameterSpace.of(model)
    points = NativePoints(landscape, space, space.flatten(model), space.scale(model, "none"), 1, True)
    assert points.dim == 3


@pytest.mark.parametrize("dead", [0, 25])
def test_losses_and_gradients_are_those_of_the_whole_perceptron(dead: int) -> None:
    inputs = torch.randn(6, 40)
    inputs[4:] = inputs[:2] + inputs[2:4]  # of rank 4
    inputs[:, :dead] = 0.0
    model, data = perceptron(40), (inputs, labels(6))
    whole, reduced = (points_of(model, data, reduces) for reduces in (False, True))
    landscape, space = bv.Landscape(model, F.cross_entropy, data), bv.ParameterSpace.of(model)
    given = mlp_arguments(landscape, space, space.scale(model)) | {"center": host_array(space.flatten(model))}
    # The basis lies in the span of the inputs, so that their products with it give it back.
    basis = torch.linalg.pinv(inputs.double(), rtol=1e-5) @ torch.from_numpy(reduced_inputs(given)["inputs"]).double()
    assert torch.allclose(basis.T @ basis, torch.eye(4, dtype=torch.float64), atol=1e-6)

    def in_basis(vectors: Tensor) -> Tensor:
        first = vectors[:, : HIDDEN * 40].reshape(-1, HIDDEN, 40) @ basis
        return torch.cat([first.flatten(1), vectors[:, HIDDEN * 40 :]], dim=1)

    points = torch.randn(20, whole.dim, dtype=torch.float64)
    losses, gradients = whole.with_gradients(points)
    found, found_gradients = reduced.with_gradients(in_basis(points))
    assert torch.allclose(found, losses, rtol=1e-5)
    assert torch.allclose(found_gradients, in_basis(gradients), rtol=1e-4, atol=1e-6)
    assert torch.equal(found, reduced.losses(in_basis(points)))


def test_only_rows_of_one_scale_are_turned() -> None:
    """A Gaussian with different variances within a row does not stay what it is when the row is turned."""
    model, data = perceptron(40), (torch.randn(6, 40), labels(6))
    scale = torch.ones(bv.ParameterSpace.of(model).dim)
    scale[3] = 2.0
    assert points_of(model, data, True, scale).dim == len(scale)


def test_first_weights_that_are_not_perturbed_stay_whole() -> None:
    model, data = perceptron(40), (torch.randn(6, 40), labels(6))
    landscape, space = bv.Landscape(model, F.cross_entropy, data), bv.ParameterSpace.of(model, exclude=["0.weight"])
    reduced = NativePoints(landscape, space, space.flatten(model), space.scale(model), 1, reduces=True)
    assert reduced.dim == space.dim


@pytest.mark.slow
@pytest.mark.parametrize("method", ["annealed", "splitting"])
def test_the_mass_is_that_of_the_whole_perceptron(method: str) -> None:
    """Inputs with zeros appended, and turned, give the mass without them: neither reduces the same way."""
    torch.manual_seed(1)
    inputs, turn = torch.randn(12, 16), torch.linalg.qr(torch.randn(80, 80))[0][:16]
    targets, model, wide = labels(12), perceptron(16), perceptron(80)
    with torch.no_grad():
        wide[0].weight.copy_(model[0].weight @ turn)
        wide[0].bias.copy_(model[0].bias)
        wide[2].load_state_dict(model[2].state_dict())
    loss = float(F.cross_entropy(model(inputs), targets).detach())
    found = [
        bv.estimate_volume(
            m, F.cross_entropy, (x, targets), 0.8 * loss + 0.4, 20, measure="gaussian", sigma=1.0, scaling="none",
            method=method, probe=False, seed=2,
        )
        for m, x in ((model, inputs), (wide, inputs @ turn))
    ]  # fmt: skip
    assert all(est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY for est in found)
    difference = found[0].log_volume - found[1].log_volume
    assert abs(difference) < 4.0 * (found[0].standard_error ** 2 + found[1].standard_error ** 2) ** 0.5
