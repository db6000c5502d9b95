"""Losses and gradients at many points in the compiled extension, against autograd in float64 and in float32."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import basinvol as bv
from basinvol import _native
from basinvol.backends.compiled import host_array, mlp_arguments
from basinvol.backends.mlp import Unsupported
from basinvol.backends.motion import PointsInPlanes
from basinvol.backends.points import NativePoints
from basinvol.estimators.batched import BatchedLoss

LOSSES = {"cross_entropy": F.cross_entropy, "bce": F.binary_cross_entropy_with_logits, "mse": F.mse_loss}

# widths, activation, bias, loss, examples: the sides of vectors and panels, of blocks of 96 rows, of passes of 960.
SHAPES = [
    ([3, 2], "identity", True, "cross_entropy", 7),
    ([16, 3], "relu", True, "cross_entropy", 127),
    ([5, 1, 4], "tanh", True, "cross_entropy", 10),
    ([15, 16, 2], "gelu", True, "bce", 129),
    ([17, 15, 16, 3], "relu", False, "cross_entropy", 16),
    ([127, 129, 1], "tanh", True, "mse", 15),
    ([40, 17, 65, 10], "relu", True, "cross_entropy", 961),
    ([33, 20, 15, 5], "gelu", False, "mse", 1923),
    ([7, 33, 33, 33, 4], "relu", True, "bce", 240),
    ([9, 40, 1], "relu", True, "bce", 5000),
]
IDS = [f"{'x'.join(map(str, w))}-{a}{'' if b else '-no bias'}-{loss}-{n}" for w, a, b, loss, n in SHAPES]


def examples_for(model: nn.Module, loss: str, count: int, background: bool = False) -> tuple[Tensor, Tensor]:
    """Data that `model` fits about as well as a trained network would; with a background, most inputs are one value."""
    features = next(model.parameters()).shape[1]
    inputs = torch.randn(count, features)
    if background:
        inputs = torch.where(torch.rand(count, features) < 0.7, torch.tensor(-0.42), inputs)
    outputs = model(inputs).detach()
    if loss == "cross_entropy":
        return inputs, outputs.argmax(dim=1)
    return inputs, (outputs > 0).float() if loss == "bce" else outputs + 0.05 * torch.randn_like(outputs)


def native_points(landscape: bv.Landscape, space: bv.ParameterSpace, num_threads: int = 1) -> NativePoints:
    center, scale = space.flatten(landscape.model), space.scale(landscape.model)
    return NativePoints(landscape, space, center, scale, num_threads)


def points_around(space: bv.ParameterSpace, count: int, radius: float = 0.5) -> Tensor:
    return radius * torch.randn(count, space.dim, dtype=torch.float64) / space.dim**0.5


def by_autograd(model, loss, data, space, points: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Losses and gradients by the points in `dtype`, of the network that float32 parameters make. [K], [K, P]"""
    scale = space.scale(model).double()
    model_of_type = copy.deepcopy(model).to(dtype)
    inputs, targets = (part.to(dtype) if part.is_floating_point() else part for part in data)
    wide = bv.ParameterSpace(space.names, space.shapes, (dtype,) * len(space.names))
    losses, gradients = [], []
    for point in points:
        vector = (space.flatten(model).double() + scale * point).float().to(dtype).requires_grad_()
        value = LOSSES[loss](functional_call(model_of_type, wide.unflatten(vector), (inputs,)), targets)
        losses.append(value.detach().double())
        gradients.append(torch.autograd.grad(value, vector)[0].double() * scale)
    return torch.stack(losses), torch.stack(gradients)


def squared_errors(model, loss, data, space, points: Tensor, found: tuple[Tensor, Tensor]) -> Tensor:
    """Squared errors of each point's loss and gradient against float64: found, and torch's in float32. [K, 2, 2]"""
    exact = by_autograd(model, loss, data, space, points, torch.float64)
    rough = by_autograd(model, loss, data, space, points, torch.float32)
    columns = []
    for ours, theirs, truth in zip(found, rough, exact, strict=True):
        assert ours.dtype == torch.float64
        assert ours.shape == truth.shape
        errors = [(part - truth).square().reshape(len(points), -1).mean(dim=1) for part in (ours, theirs)]
        columns.append(torch.stack(errors, dim=1))
    return torch.stack(columns, dim=1)


def assert_as_exact_as_torch(errors: Tensor) -> None:
    """Errors against float64 are at most twice those of torch in float32. [K, 2, 2]

    Losses are compared in the mean square. Gradients are compared at the median point: where the input of a ReLU is
    zero up to rounding, the gradient jumps, and a point at which one of the two rounds it to the other sign is off by
    that jump.
    """
    losses = errors[:, 0].mean(dim=0).sqrt()
    gradients = errors[:, 1].quantile(0.5, dim=0).sqrt()
    for what, (found, allowed) in (("losses", losses), ("gradients", gradients)):
        assert float(found) <= 2.0 * float(allowed), what


@pytest.mark.parametrize("background", [False, True], ids=["dense", "background"])
@pytest.mark.parametrize(("widths", "activation", "bias", "loss", "count"), SHAPES, ids=IDS)
def test_errors_are_at_most_twice_those_of_torch(make_mlp, widths, activation, bias, loss, count, background):
    errors = []
    # Several networks: the errors of one on few examples depend on how its few outputs happen to be rounded.
    for seed in range(6):
        model = make_mlp(widths, activation, bias, seed)
        data, space = examples_for(model, loss, count, background), bv.ParameterSpace.of(model)
        points = points_around(space, 4)
        found = native_points(bv.Landscape(model, LOSSES[loss], data), space).with_gradients(points)
        errors.append(squared_errors(model, loss, data, space, points, found))
    assert_as_exact_as_torch(torch.cat(errors))


@pytest.mark.parametrize("instruction_set", _native.instruction_sets())
def test_every_instruction_set_meets_the_rule(make_mlp, instruction_set):
    model = make_mlp([40, 17, 65, 10], "relu")
    data, space = examples_for(model, "cross_entropy", 500, background=True), bv.ParameterSpace.of(model)
    landscape, points = bv.Landscape(model, F.cross_entropy, data), points_around(space, 12)
    engine = _native.MlpPoints(
        **mlp_arguments(landscape, space, space.scale(model)),
        levels=[500],
        center=host_array(space.flatten(model)),
        resources=_native.Resources(2, 0, instruction_set),
    )
    losses = torch.empty(12, dtype=torch.float64)
    gradients = torch.zeros(12, space.dim, dtype=torch.float64)
    engine.evaluate(points.numpy(), 0, losses.numpy(), gradients.numpy())
    assert engine.instruction_set() == instruction_set
    assert_as_exact_as_torch(squared_errors(model, "cross_entropy", data, space, points, (losses, gradients)))


@pytest.mark.parametrize(
    "kept",
    [
        {"include": "*weight"},
        {"include": "0.*"},
        {"exclude": ["0.*", "4.bias"]},
        {"include": "2.bias"},
        {"include": "4.*"},
    ],
    ids=str,
)
def test_parameters_that_are_left_out_stay_at_the_center(trained, blobs, kept):
    space = bv.ParameterSpace.of(trained, **kept)
    points = points_around(space, 12)
    found = native_points(bv.Landscape(trained, F.cross_entropy, blobs), space).with_gradients(points)
    assert_as_exact_as_torch(squared_errors(trained, "cross_entropy", blobs, space, points, found))


class TiedNetwork(nn.Module):
    """Three layers, two of which share a weight; one output that is squeezed away."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(F.relu(self.first(x))))).squeeze(-1)


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_gradients_of_tied_weights_are_added(loss):
    model = TiedNetwork()
    data, space = examples_for(model, loss, 150), bv.ParameterSpace.of(model)
    points = points_around(space, 12)
    found = native_points(bv.Landscape(model, LOSSES[loss], data), space).with_gradients(points)
    assert_as_exact_as_torch(squared_errors(model, loss, data, space, points, found))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_is_the_mean_over_its_examples(make_mlp, level):
    model, levels = make_mlp([12, 20, 3]), [7, 300, 1500]
    data, space = examples_for(model, "cross_entropy", 1500, background=True), bv.ParameterSpace.of(model)
    points = points_around(space, 12)
    engine = native_points(bv.Landscape(model, F.cross_entropy, data, levels=levels), space)
    found = engine.with_gradients(points, level)
    assert torch.equal(engine.losses(points, level), found[0])
    prefix = data[0][: levels[level]], data[1][: levels[level]]
    assert_as_exact_as_torch(squared_errors(model, "cross_entropy", prefix, space, points, found))


def test_results_are_the_same_bytes_for_any_threads_and_number_of_points(make_mlp):
    model = make_mlp([12, 20, 3], "tanh")
    data, space = examples_for(model, "cross_entropy", 3000), bv.ParameterSpace.of(model)
    landscape, points = bv.Landscape(model, F.cross_entropy, data, levels=[100, 3000]), points_around(space, 40)
    losses, gradients = native_points(landscape, space).with_gradients(points)
    for num_threads in (1, 2, 3, 5):
        engine = native_points(landscape, space, num_threads)
        for part in (slice(0, 40), slice(0, 1), slice(3, 5), slice(30, 37), slice(0, 0)):
            some, slopes = engine.with_gradients(points[part])
            assert some.numpy().tobytes() == losses[part].numpy().tobytes()
            assert slopes.numpy().tobytes() == gradients[part].numpy().tobytes()
            assert engine.losses(points[part]).numpy().tobytes() == some.numpy().tobytes()


def test_gradients_are_the_limits_of_differences(make_mlp):
    model = make_mlp([12, 20, 3], "tanh")
    data, space = examples_for(model, "cross_entropy", 90), bv.ParameterSpace.of(model)
    engine, points = native_points(bv.Landscape(model, F.cross_entropy, data), space), points_around(space, 5)
    _, gradients = engine.with_gradients(points)
    norms = gradients.norm(dim=1, keepdim=True)
    step = 1e-2 * gradients / norms
    slopes = (engine.losses(points + step) - engine.losses(points - step)) / 2e-2
    assert torch.allclose(slopes, norms[:, 0], rtol=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_point_whose_loss_is_not_finite_leaves_the_others_alone(make_mlp, loss, value):
    model = make_mlp([12, 20, 3], "relu")
    data, space = examples_for(model, loss, 90), bv.ParameterSpace.of(model)
    engine, points = native_points(bv.Landscape(model, LOSSES[loss], data), space), points_around(space, 5)
    expected = engine.with_gradients(points)
    bad = points.clone()
    bad[2] = value
    losses, gradients = engine.with_gradients(bad)
    kept = [0, 1, 3, 4]
    assert not bool(losses[2].isfinite())
    assert torch.equal(losses[kept], expected[0][kept])
    assert torch.equal(gradients[kept], expected[1][kept])


def test_other_landscapes_are_refused_and_evaluated_by_torch(make_mlp):
    wide, model = make_mlp([12, 20, 3]).double(), make_mlp([12, 20, 3])
    data = examples_for(model, "cross_entropy", 90)
    space = bv.ParameterSpace.of(wide)
    center, scale = space.flatten(wide), space.scale(wide)
    landscape = bv.Landscape(wide, F.cross_entropy, (data[0].double(), data[1]))
    with pytest.raises(Unsupported, match=r"the parameters are torch.float64 on cpu, and it computes in float32"):
        NativePoints(landscape, space, center, scale)
    losses, gradients = BatchedLoss(landscape, space, center, scale).with_gradients(points_around(space, 3))
    assert losses.shape == (3,)
    assert gradients.shape == (3, space.dim)


def test_arrays_of_other_shapes_are_refused(make_mlp):
    model = make_mlp([12, 20, 3])
    space = bv.ParameterSpace.of(model)
    engine = native_points(bv.Landscape(model, F.cross_entropy, examples_for(model, "cross_entropy", 9)), space)
    with pytest.raises(ValueError, match=r"points and gradients must be \[n, dim\]"):
        engine.losses(torch.zeros(3, space.dim + 1))
    with pytest.raises(IndexError):
        engine.losses(torch.zeros(3, space.dim), level=1)


def on_ellipses(space: bv.ParameterSpace, count: int) -> PointsInPlanes:
    """Two points on each of some ellipses, in any order."""
    which, angle = torch.randint(count, (2 * count,)), 6.0 * torch.rand(2 * count, dtype=torch.float64) - 3.0
    return PointsInPlanes.on_ellipses(points_around(space, count), points_around(space, count), which, angle)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_on_ellipses_are_those_at_their_points(make_mlp, loss, num_threads):
    model = make_mlp([20, 33, 1 if loss == "bce" else 4], "relu")
    landscape, space = bv.Landscape(model, LOSSES[loss], examples_for(model, loss, 1500)), bv.ParameterSpace.of(model)
    engine = native_points(landscape, space, num_threads)
    at = on_ellipses(space, 6)
    expected = engine.losses(at.made())
    limits = torch.where(torch.arange(len(at.which)) % 3 > 0, expected.median(), torch.inf)
    for _ in range(2):  # the second time with the order of the rows that the first one taught
        found = engine.losses_within(at, limits)
        assert torch.equal(found, torch.where(expected <= limits, expected, torch.inf))
    assert found.isinf().any()


def test_of_a_point_far_beyond_its_limit_few_rows_are_read(make_mlp):
    model = make_mlp([20, 33, 4], "relu")
    data, space = examples_for(model, "cross_entropy", 6000), bv.ParameterSpace.of(model)
    engine = native_points(bv.Landscape(model, F.cross_entropy, data), space)
    at = on_ellipses(space, 6)
    spent = []
    for limit in (torch.inf, 1e-4):
        before = engine.operations
        engine.losses_within(at, torch.full_like(at.first, limit))
        spent.append(engine.operations - before)
    assert spent[1] < 0.1 * spent[0]


@pytest.mark.parametrize("is_native", [True, False])
def test_every_model_has_losses_on_ellipses(make_mlp, is_native):
    model = make_mlp([20, 33, 4], "relu")
    if not is_native:
        model[1] = nn.Softplus()
    data, space = examples_for(model, "cross_entropy", 50), bv.ParameterSpace.of(model)
    landscape = bv.Landscape(model, F.cross_entropy, data)
    energy = BatchedLoss(landscape, space, space.flatten(model), space.scale(model))
    at = on_ellipses(space, 6)
    expected = energy.losses(at.made())
    before = landscape.num_evaluations
    found = energy.losses_within(at, expected.median().expand(len(at.which)))
    assert landscape.num_evaluations == before + len(at.which)
    assert torch.equal(found.isinf(), expected > expected.median())
    torch.testing.assert_close(found[found.isfinite()], expected[found.isfinite()], rtol=1e-6, atol=0)
