"""The compiled engine against the reference and against float64."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import basinvol as bv
from basinvol import _native

LOSSES = {"cross_entropy": F.cross_entropy, "bce": F.binary_cross_entropy_with_logits, "mse": F.mse_loss}
TENSORS = ("lower", "upper", "radius", "value_lower", "value_upper", "slope", "status_code", "num_evaluations")

# widths, activation, bias, loss, examples: the sides of the 16-wide panels and of the 240-row blocks.
SHAPES = [
    ([1, 1], "relu", True, "mse", 1),
    ([16, 3], "relu", True, "cross_entropy", 127),
    ([5, 1, 4], "tanh", True, "cross_entropy", 1),
    ([15, 16, 2], "gelu", True, "bce", 129),
    ([17, 15, 16, 3], "relu", False, "cross_entropy", 16),
    ([127, 129, 1], "tanh", True, "mse", 15),
    ([128, 17, 127, 10], "relu", True, "cross_entropy", 241),
    ([129, 1, 15, 5], "gelu", False, "mse", 17),
    ([7, 33, 33, 33, 4], "identity", True, "bce", 240),
    ([9, 40, 1], "relu", True, "bce", 128),
]
IDS = [f"{'x'.join(map(str, w))}-{a}{'' if b else '-no bias'}-{loss}-{n}" for w, a, b, loss, n in SHAPES]


def examples_for(model: nn.Module, loss: str, count: int) -> tuple[Tensor, Tensor]:
    """Data that `model` fits about as well as a trained network would."""
    features = next(model.parameters()).shape[1]
    inputs = torch.randn(2 * count, features)[::2]  # a view with gaps
    outputs = model(inputs).detach()
    if loss == "cross_entropy":
        return inputs, outputs.argmax(dim=1)
    return inputs, (outputs > 0).float() if loss == "bce" else outputs + 0.05 * torch.randn_like(outputs)


def cutoff_for(model: nn.Module, loss: str, data: tuple[Tensor, Tensor]) -> float:
    return 1.3 * float(LOSSES[loss](model(data[0]).detach(), data[1])) + 0.05


def native_moves(directions: bv.Directions, model: nn.Module, scaling: str) -> Tensor:
    """scale x direction from the engine's own normals. [D, P] float32"""
    space, scale = directions.space, directions.space.scale(model, scaling)
    rows = []
    for index in range(directions.count):
        if directions.generator == "legacy":
            normals = directions.normals(index)
        else:
            draws = [_native.philox_normals(directions.seed, index, t, n) for t, n in enumerate(space.sizes)]
            normals = torch.cat([torch.from_numpy(draw) for draw in draws])
        rows.append((normals.double() / normals.double().norm()).float() * scale)
    return torch.stack(rows)


def losses_along(model, loss, data, space, moves: Tensor, radius: Tensor, dtype: torch.dtype) -> Tensor:
    """Losses at center + radius[i] moves[i], by plain torch in `dtype`. [D] float64"""
    model = copy.deepcopy(model).to(dtype)
    inputs, targets = (part.to(dtype) if part.is_floating_point() else part for part in data)
    wide = bv.ParameterSpace(space.names, space.shapes, (dtype,) * len(space.names))
    center, found = wide.flatten(model), []
    with torch.no_grad():
        for r, move in zip(radius.tolist(), moves.to(dtype), strict=True):
            outputs = functional_call(model, wide.unflatten(center + r * move), (inputs,))
            found.append(LOSSES[loss](outputs, targets).double())
    return torch.stack(found)


class InOrder(nn.Module):
    """A linear layer whose sums are single chains of multiply-adds, in the order of the inputs."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        total = x.new_zeros(len(x), len(self.weight)) if self.bias is None else self.bias.expand(len(x), -1)
        for k in range(x.shape[1]):
            total = (total.double() + x[:, k, None].double() * self.weight[:, k].double()).to(x.dtype)
        return total


def in_order(model: nn.Module) -> nn.Module:
    """A copy of a perceptron that sums in order."""
    copied = copy.deepcopy(model)
    for name, layer in list(copied.named_children()):
        if isinstance(layer, nn.Linear):
            setattr(copied, name, InOrder(layer))
    return copied


def assert_certified(model, loss, data, radii: bv.Radii, moves: Tensor, space: bv.ParameterSpace) -> None:
    """loss(lower) <= cutoff < loss(upper) in float64, up to twice what float32 loses.

    That is what torch loses, or what plain sums in order do: where a layer has one output, torch sums as many parts as
    a vector of the processor has lanes, and with 16 of them loses less than half of what a chain does.
    """
    crossed = radii.is_status(bv.Status.CROSSED)
    assert bool(crossed.any()), "no ray crossed, so nothing would be tested"
    (cutoff,) = radii.cutoffs
    lower, upper, moves = radii.lower[crossed], radii.upper[crossed], moves[crossed]
    exact = [losses_along(model, loss, data, space, moves, end, torch.float64) for end in (lower, upper)]
    lost = 0.0
    for plain in (model, in_order(model)):
        rough = [losses_along(plain, loss, data, space, moves, end, torch.float32) for end in (lower, upper)]
        lost = max(lost, *(float((a - b).abs().max()) for a, b in zip(exact, rough, strict=True)))
    noise = 2.0 * lost + 2.0**-22 * cutoff
    assert float(exact[0].max()) <= cutoff + noise
    assert float(exact[1].min()) > cutoff - noise
    assert float((exact[0] - radii.value_lower[crossed]).abs().max()) <= noise
    assert float((exact[1] - radii.value_upper[crossed]).abs().max()) <= noise


def assert_same_rays(found: bv.Radii, expected: bv.Radii) -> None:
    """The same ends, and brackets that overlap wherever both crossed."""
    assert torch.equal(found.status_code, expected.status_code)
    crossed = found.is_status(bv.Status.CROSSED)
    assert bool(crossed.any()), "no ray crossed, so nothing would be tested"
    start, stop = torch.maximum(found.lower, expected.lower), torch.minimum(found.upper, expected.upper)
    assert bool((start <= stop)[crossed].all())


@pytest.mark.parametrize("scaling", ["filter", "none"])
@pytest.mark.parametrize(("widths", "activation", "bias", "loss", "count"), SHAPES, ids=IDS)
def test_brackets_overlap_the_references_and_hold_in_float64(make_mlp, widths, activation, bias, loss, count, scaling):
    model = make_mlp(widths, activation, bias)
    data = examples_for(model, loss, count)
    landscape = bv.Landscape(model, LOSSES[loss], data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 8, seed=2**40 + 1)
    cutoff, options = cutoff_for(model, loss, data), {"scaling": scaling, "rtol": 1e-3}
    native = bv.find_radii(landscape, directions, [cutoff], backend="native", **options).at()
    reference = bv.find_radii(landscape, directions, [cutoff], backend="reference", **options).at()
    assert_same_rays(native, reference)
    assert_certified(model, loss, data, native, native_moves(directions, model, scaling), directions.space)


@pytest.mark.parametrize("search", ["interpolate", "bisect"])
def test_every_radius_of_a_trained_network_holds_in_float64(trained, blobs, search):
    directions = bv.Directions(bv.ParameterSpace.of(trained), 60)
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    radii = bv.find_radii(landscape, directions, [0.1], search=search, backend="native").at()
    assert bool(radii.is_status(bv.Status.CROSSED).all())
    assert bool((radii.upper - radii.lower <= 1e-4 * radii.upper).all())
    assert_certified(
        trained, "cross_entropy", blobs, radii, native_moves(directions, trained, "filter"), directions.space
    )


def test_one_direction_is_the_first_of_many(trained, blobs):
    space, landscape = bv.ParameterSpace.of(trained), bv.Landscape(trained, F.cross_entropy, blobs)
    one = bv.find_radii(landscape, bv.Directions(space, 1), [0.1], search="bisect", backend="native").at()
    many = bv.find_radii(landscape, bv.Directions(space, 9), [0.1], search="bisect", backend="reference").at()
    assert len(one) == 1
    assert_same_rays(one, many.between(0, 1))


def test_levels_and_cutoffs_of_one_pass_agree_and_hold_in_float64(trained, blobs):
    landscape = bv.Landscape(trained, F.cross_entropy, blobs, levels=[1, 17, 90])
    directions = bv.Directions(bv.ParameterSpace.of(trained), 6)
    native, reference = (
        bv.find_radii(landscape, directions, [0.03, 0.5], rtol=1e-3, backend=name) for name in ("native", "reference")
    )
    assert native.lower.shape == (3, 2, 6)
    assert_same_rays(native, reference)
    for level in (17, 90):
        data = (blobs[0][:level], blobs[1][:level])
        radii = native.at(level, 0.5)
        assert_certified(
            trained, "cross_entropy", data, radii, native_moves(directions, trained, "filter"), directions.space
        )


def test_grid_takes_the_references_points(trained, blobs):
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    directions = bv.Directions(bv.ParameterSpace.of(trained), 20, generator="legacy")
    native, reference = (
        bv.find_radii(landscape, directions, [0.05, 0.3], search="grid", backend=name)
        for name in ("native", "reference")
    )
    assert torch.equal(native.status_code, reference.status_code)
    assert torch.equal(native.num_evaluations, reference.num_evaluations)
    # The unit of a ray is a norm in float64, summed in another order.
    assert torch.allclose(native.upper, reference.upper, rtol=1e-13, atol=0.0)


def test_results_are_the_same_bytes_for_any_threads_and_blocks(trained, blobs):
    landscape = bv.Landscape(trained, F.cross_entropy, blobs, levels=[30, 90])
    directions = bv.Directions(bv.ParameterSpace.of(trained), 23)

    def solver(num_threads: int) -> bv.RaySolver:
        return bv.RaySolver(landscape, directions, [0.1, 0.3], backend="native", num_threads=num_threads)

    whole = solver(1).solve(0, 23)
    splits = [(0, 23), (0, 1, 2, 3, 4, 5, 23), (0, 11, 12, 23), (0, 4, 23), tuple(range(24))]
    for num_threads in (1, 2, 3):
        for cuts in splits:
            engine = solver(num_threads)
            blocks = list(itertools.pairwise(cuts))
            solved = {block: engine.solve(*block) for block in reversed(blocks)}  # the order must not matter either
            joined = bv.Radii.concatenate([solved[block] for block in blocks])
            for name in TENSORS:
                assert getattr(joined, name).numpy().tobytes() == getattr(whole, name).numpy().tobytes(), name
        assert torch.equal(solver(num_threads).center_losses, solver(1).center_losses)


@pytest.mark.parametrize(("widths", "activation", "bias", "loss", "count"), SHAPES[1:], ids=IDS[1:])
def test_loss_errs_at_most_twice_as_much_as_torch_in_float32(make_mlp, widths, activation, bias, loss, count):
    model = make_mlp(widths, activation, bias)
    data = examples_for(model, loss, count)
    # The legacy generator's normals come from torch, so that both compute the loss of the same network.
    directions = bv.Directions(bv.ParameterSpace.of(model), 12, generator="legacy")
    center = cutoff_for(model, loss, data)
    radii = bv.find_radii(
        bv.Landscape(model, LOSSES[loss], data),
        directions,
        [center, 2 * center, 4 * center],
        rtol=1e-2,
        backend="native",
    )
    moves = native_moves(directions, model, "filter")
    kernel_errors, torch_errors = [], []
    for cutoff in radii.cutoffs:
        rays = radii.at(cutoff=cutoff)
        crossed = rays.is_status(bv.Status.CROSSED)
        for radius, value in ((rays.lower, rays.value_lower), (rays.upper, rays.value_upper)):
            along = (model, loss, data, directions.space, moves[crossed], radius[crossed])
            if not bool(crossed.any()):
                continue
            exact = losses_along(*along, torch.float64)
            kernel_errors.append((value[crossed] - exact) / exact)
            torch_errors.append((losses_along(*along, torch.float32) - exact) / exact)
    assert sum(map(len, kernel_errors)) >= 12
    kernel, rough = (torch.cat(errors).square().mean().sqrt() for errors in (kernel_errors, torch_errors))
    assert float(kernel) <= 2.0 * float(rough)


class TiedNetwork(nn.Module):
    """Three layers, two of which share a weight; images in, one output that is squeezed away."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x.view(x.size(0), -1)))
        return self.head(torch.tanh(self.second(x))).squeeze(-1)


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_tied_weights_functional_activations_and_squeezed_outputs(loss):
    model, inputs = TiedNetwork(), torch.randn(30, 4, 4)
    outputs = model(inputs).detach()
    data = (inputs, outputs if loss == "mse" else (outputs > 0).float())
    landscape = bv.Landscape(model, LOSSES[loss], data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 10)
    assert directions.space.dim == 16 * 16 + 16 + 16 + 17, "the shared weight counts once"
    radii = [
        bv.find_radii(landscape, directions, [cutoff_for(model, loss, data)], rtol=1e-3, backend=name).at()
        for name in ("native", "reference")
    ]
    assert_same_rays(*radii)


@pytest.mark.parametrize("image", [(4, 4), (2, 2, 4)])
def test_flatten_and_dropout_modules_are_read(make_mlp, image):
    model = nn.Sequential(nn.Flatten(), *make_mlp([16, 8, 3]), nn.Dropout(0.5), nn.Identity())
    inputs = torch.randn(25, *image)
    data = (inputs, model.eval()(inputs).argmax(dim=1))
    landscape = bv.Landscape(model.train(), F.cross_entropy, data)
    directions, center = bv.Directions(bv.ParameterSpace.of(model), 8), float(landscape.losses()[0])
    radii = [
        bv.find_radii(landscape, directions, [center + 0.1], rtol=1e-3, backend=name).at()
        for name in ("native", "reference")
    ]
    assert_same_rays(*radii)


@pytest.mark.parametrize(
    "kept", [{"include": "*weight"}, {"include": "0.*"}, {"exclude": ["0.*", "4.bias"]}, {"include": "2.bias"}], ids=str
)
@pytest.mark.parametrize("generator", ["philox", "legacy"])
def test_excluded_parameters_stay_at_the_center(trained, blobs, kept, generator):
    space = bv.ParameterSpace.of(trained, **kept)
    directions = bv.Directions(space, 8, generator=generator)
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    native, reference = (
        bv.find_radii(landscape, directions, [0.1], rtol=1e-3, backend=name).at() for name in ("native", "reference")
    )
    assert_same_rays(native, reference)
    assert_certified(trained, "cross_entropy", blobs, native, native_moves(directions, trained, "filter"), space)


def test_no_statistic_drifts_from_the_reference(trained, blobs):
    native, reference = (
        bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 60, backend=name) for name in ("native", "reference")
    )
    dim, rtol = native.dim, native.rtol
    assert native.backend == "native"
    assert abs(native.log_volume - reference.log_volume) <= dim * rtol
    assert abs(native.diagnostics.z - reference.diagnostics.z) <= dim * rtol
    assert native.diagnostics.verdict is reference.diagnostics.verdict
    assert math.isclose(native.center_loss, reference.center_loss, rel_tol=1e-5)
