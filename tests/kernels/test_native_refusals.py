"""What the compiled engine does not compute is refused by name; nothing it takes may mean something else to torch."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import _native
from basinvol.backends.compiled import unsupported_mlp
from basinvol.backends.native import ProgramEngine
from basinvol.backends.pytorch.engine import TorchEngine


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(x + torch.relu(self.inner(x)))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.sum() > 0 else self.linear(-x)


class RawParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.gain = nn.Linear(6, 3), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.gain


class FunctionalDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), training=self.training)


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    model[0].register_forward_hook(lambda module, inputs, output: 2.0 * output)
    return model


def class_data(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    outputs = model.eval()(inputs).detach()
    return inputs, outputs.argmax(dim=1)


def double() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 3)).double()


FLAT, IMAGES = (20, 6), (20, 1, 6, 6)
REFUSED = [
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 3)), IMAGES, r"layer '0' \(Conv2d\)"),
    (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), FLAT, r"layer '1' \(BatchNorm1d\)"),
    (lambda: nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 3)), FLAT, r"layer '1' \(SiLU\)"),
    (lambda: nn.Sequential(nn.ReLU(), nn.Linear(6, 3)), FLAT, r"layer '0' \(ReLU\) comes before the first Linear"),
    (lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Tanh()), FLAT, r"layer '2' \(Tanh\) follows another"),
    (lambda: nn.Sequential(nn.Linear(6, 3), nn.GELU("tanh")), FLAT, r"layer '1' \(GELU\) is approximate"),
    (double, FLAT, r"layer '0' \(Linear\) is torch.float64"),
    (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)), FLAT, "Parametriz|cannot be traced|single chain"),
    (hooked, FLAT, r"layer '0' \(Linear\) has a forward hook"),
    (Residual, FLAT, "single chain"),
    (Branching, FLAT, "cannot be traced"),
    (RawParameter, FLAT, "gain|single chain|mul"),
    (FunctionalDropout, FLAT, "dropout"),
]


@pytest.mark.parametrize(("make", "shape", "reason"), REFUSED)
def test_models_that_are_not_perceptrons_are_told_apart_and_measured_as_programs_or_by_torch(make, shape, reason):
    model = make()
    data = class_data(model, torch.randn(shape, dtype=next(model.parameters()).dtype))
    landscape = bv.Landscape(model, F.cross_entropy, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 3)
    cutoff = float(landscape.losses()[0]) + 0.1
    solver = bv.RaySolver(landscape, directions, [cutoff])
    assert re.search(reason, str(unsupported_mlp(solver.engine._problem)))
    if make in (Branching, double):
        assert isinstance(solver.engine, TorchEngine)
        with pytest.raises(bv.BackendUnavailable, match=f"'native' cannot be used: .*({reason}).*, and as a program"):
            bv.RaySolver(landscape, directions, [cutoff], backend="native")
    else:
        assert isinstance(solver.engine, ProgramEngine)
    found, expected = (
        bv.find_radii(landscape, directions, [cutoff], backend=name).radius for name in ("auto", "reference")
    )
    assert torch.allclose(found, expected, rtol=1e-4, equal_nan=True)


def test_the_reason_for_torch_is_given():
    est = bv.estimate_volume(double(), F.cross_entropy, class_data(double(), torch.randn(FLAT).double()), 5.0, 3)
    assert est.backend == "torch"
    assert est.backend_reason.startswith("not native: layer '0' (Linear) is torch.float64")


def half_squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * F.mse_loss(outputs, targets)


@pytest.mark.parametrize(
    ("loss", "kind", "reason"),
    [
        (half_squared, "real", "the loss 'half_squared' is not cross_entropy.* as a program"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0])), "binary", "option 'pos_weight'.*has weights"),
        (nn.CrossEntropyLoss(), "probabilities", "targets must be int64.* has probabilities as targets"),
    ],
)
def test_losses_it_does_not_compute_are_refused(make_mlp, loss, kind, reason):
    model, data = problem_of(make_mlp, kind)
    with pytest.raises(bv.BackendUnavailable, match=reason):
        bv.estimate_volume(model, loss, data, 9.0, 3, backend="native")


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (nn.L1Loss(), "real"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), "labels"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])), "labels"),
        (nn.CrossEntropyLoss(ignore_index=1), "labels"),
    ],
)
def test_losses_with_options_are_computed_by_programs(make_mlp, loss, kind):
    model, data = problem_of(make_mlp, kind)
    landscape = bv.Landscape(model, loss, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 5)
    cutoff = [float(landscape.losses()[0]) + 0.1]
    found, expected = (bv.find_radii(landscape, directions, cutoff, backend=name) for name in ("native", "reference"))
    assert torch.allclose(found.radius, expected.radius, rtol=1e-4)


def problem_of(make_mlp, kind):
    model, inputs = make_mlp([6, 3]), torch.randn(20, 6)
    outputs = model(inputs).detach()
    targets = {
        "real": outputs,
        "labels": outputs.argmax(dim=1),
        "binary": (outputs > 0).float(),
        "probabilities": outputs.softmax(dim=1),
    }
    return model, (inputs, targets[kind])


def agreeing_radii(model: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[bv.Radii, bv.Radii]:
    landscape = bv.Landscape(model, F.cross_entropy, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 6)
    cutoff = [float(landscape.losses()[0]) + 0.1]
    found = bv.find_radii(landscape, directions, cutoff, rtol=1e-3).at()
    return found, bv.find_radii(landscape, directions, cutoff, rtol=1e-3, backend="reference").at()


def assert_same_basin(model: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    """Whatever "auto" chose, it measured the model that torch runs."""
    found, reference = agreeing_radii(model, data)
    assert torch.equal(found.status_code, reference.status_code)
    crossed = found.is_status(bv.Status.CROSSED)
    assert bool(crossed.any())
    start, stop = torch.maximum(found.lower, reference.lower), torch.minimum(found.upper, reference.upper)
    assert bool((start <= stop)[crossed].all())


@pytest.mark.parametrize("kind", ["forward hook", "forward pre-hook"])
def test_hook_on_the_whole_model_is_not_ignored(make_mlp, kind):
    model, inputs = make_mlp([6, 8, 3]), torch.randn(20, 6)
    if kind == "forward hook":
        model.register_forward_hook(lambda module, args, output: 3.0 * output)
    else:
        model.register_forward_pre_hook(lambda module, args: (3.0 * args[0],))
    assert_same_basin(model, class_data(model, inputs))


class Auxiliary(nn.Module):
    """Computes something else while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.first(x)
        return torch.tanh(self.second(x))


def test_model_in_train_mode_is_read_as_it_computes_in_eval_mode():
    model = Auxiliary()
    data = class_data(model, torch.randn(20, 6))
    model.train()
    assert_same_basin(model, data)
    assert model.training


@pytest.fixture
def _double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double_by_default")
def test_float32_network_is_measured_where_float64_is_torchs_default(make_mlp):
    model = make_mlp([6, 8, 3]).float()
    data = class_data(model, torch.randn(20, 6, dtype=torch.float32))
    assert_same_basin(model, data)


def test_parameter_of_another_type_that_forward_does_not_use(make_mlp):
    model = make_mlp([6, 8, 3])
    model.register_parameter("unused", nn.Parameter(torch.zeros(2, dtype=torch.float64)))
    data = class_data(model, torch.randn(20, 6))
    assert_same_basin(model, data)


def test_auto_says_when_it_takes_the_compiled_engine(trained, blobs):
    est = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 2)
    assert est.backend == "native"
    assert "fastest" in est.backend_reason


class OnADevice:
    """Shows numbers of a device as torch and others do; the pointer is never followed here."""

    def __init__(self, kind: str, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {"version": 2, "typestr": kind, "shape": shape, "data": (8, False)}


def test_the_cpu_engine_refuses_arrays_that_lie_on_a_device() -> None:
    def engine(inputs: object) -> object:
        layer = {"weight": np.ones((3, 6), np.float32), "weight_offset": 0, "bias": None, "activation": "identity"}
        return _native.MlpRays(
            layers=[layer],
            loss="cross_entropy",
            inputs=inputs,
            labels=np.zeros(20, np.int64),
            targets=np.zeros((0, 0), np.float32),
            levels=[20],
            scale=np.ones(18, np.float32),
            sizes=[18],
            resources=_native.Resources(1, 2**20),
        )

    engine(np.ones((20, 6), np.float32))
    with pytest.raises(ValueError, match="this engine reads arrays in host memory, got one on a device"):
        engine(OnADevice("<f4", (20, 6)))
    with pytest.raises(TypeError, match="incompatible"):  # float64 on a device is refused as it is on the host
        engine(OnADevice("<f8", (20, 6)))
