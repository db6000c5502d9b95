"""Models, losses and data as users have them: taken where they can be, else refused in one sentence."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import basinvol as bv


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(20, 4), torch.arange(20) % 3


def estimate(model, data, loss_fn=F.cross_entropy, **options):
    return bv.estimate_volume(model, loss_fn, data, **{"cutoff": 9.0, "num_directions": 3, **options})


class TwoPasses(Dataset):
    """Draws noise whenever an example is read, as augmentation does."""

    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.inputs, self.targets = data

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index] + 0.1 * torch.randn(4), self.targets[index]


class Plain(Dataset):
    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.pairs = list(zip(*data, strict=True))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pairs[index]


def forms_of(data: tuple[Tensor, Tensor]) -> dict[str, object]:
    inputs, targets = data
    return {
        "NumPy arrays": (inputs.numpy(), targets.numpy()),
        "NumPy's default types": (inputs.double().numpy(), targets.numpy().astype(np.int32)),
        "a TensorDataset": TensorDataset(*data),
        "a Dataset": Plain(data),
        "a DataLoader": DataLoader(TensorDataset(*data), batch_size=7),
        "a list of batches": [(inputs[:11], targets[:11]), (inputs[11:].numpy(), targets[11:].numpy())],
    }


@pytest.mark.parametrize("form", list(forms_of((torch.zeros(20, 4), torch.zeros(20)))))
def test_data_are_taken_in_every_form(model, data, form):
    expected = bv.Landscape(model, F.cross_entropy, data).losses()
    assert torch.equal(bv.Landscape(model, F.cross_entropy, forms_of(data)[form]).losses(), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # raised inside torch.compile
def test_a_wrapped_model_is_looked_through(model, data):
    expected = estimate(model, data)
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        found = estimate(wrapped, data)
        assert found.log_volume == expected.log_volume
        assert bv.ParameterSpace.of(wrapped).names == bv.ParameterSpace.of(model).names


def test_data_that_change_between_two_passes_are_refused(model, data):
    loader = DataLoader(TwoPasses(data), batch_size=5)
    with pytest.raises(ValueError, match="`data` gives other values on a second pass, by shuffling or augmentation"):
        estimate(model, loader)
    shuffled = DataLoader(TensorDataset(*data), batch_size=5, shuffle=True)
    with pytest.raises(ValueError, match="shuffle=False"):
        estimate(model, shuffled)


def test_reading_data_leaves_random_states_alone(model, data):
    class Drawing(Plain):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            torch.rand(1), np.random.rand()  # noqa: NPY002
            return super().__getitem__(index)

    states = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    bv.Landscape(model, F.cross_entropy, Drawing(data))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == np.random.get_state()[1].tobytes()  # noqa: NPY002


BAD_MODELS = [
    ("resnet18", "`model` must be a torch.nn.Module, got a str"),
    (nn.Linear(2, 2).state_dict(), "`model` must be .* got a state dict; build the module and call load_state_dict"),
    (lambda x: x, "`model` must be .* got a function; .* write the function as the forward of a"),
    (nn.Linear, "`model` must be .* got the class Linear and not an instance"),
    (None, "`model` must be a torch.nn.Module, got a NoneType"),
    (nn.Linear(4, 3, device="meta"), "`model` has 'weight' on the meta device"),
    (nn.LazyLinear(3), "`model` has the lazy parameter 'weight'"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_MODELS)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_is_no_model_is_refused(data, bad, message):
    with pytest.raises(ValueError, match=message):
        estimate(bad, data)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_model_is_refused(data):
    with pytest.raises(ValueError, match=r"`model` is scripted by torch.jit.*; pass the module that was scripted"):
        estimate(torch.jit.trace(nn.Linear(4, 3), torch.zeros(1, 4)), data)


BAD_LOSSES = [
    ("cross_entropy", "`loss_fn` must be a function .*, got 'cross_entropy' of type str"),
    (None, "`loss_fn` must be a function .*, got None"),
    (nn.CrossEntropyLoss, r"`loss_fn` is the class CrossEntropyLoss and not an instance; pass CrossEntropyLoss\(\)"),
    (
        lambda model, o, t: F.cross_entropy(o, t),
        r"must take \(outputs, targets\), and this one takes \(model, o",
    ),
    (lambda o: o.mean(), r"`loss_fn` must take \(outputs, targets\), and this one takes \(o\)"),
    (lambda o, t: None, "as a scalar tensor, got a NoneType"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_LOSSES)
def test_what_is_no_loss_is_refused(model, data, bad, message):
    with pytest.raises(ValueError, match=message):
        estimate(model, data, bad)


def bad_data(name: str) -> tuple[object, str]:
    inputs, targets = torch.randn(20, 4), torch.arange(20) % 3
    return {
        "none": (None, "`data` must be .*; got None"),
        "a number": (3, "`data` must be .*; got a int"),
        "a path": ("mnist.npz", "`data` must be .*; got a str"),
        "features": ((inputs[:, :3], targets), r"`model` fails on the inputs .* shape \[20, 3\]: RuntimeError: mat1"),
        "integers": ((inputs.long(), targets), "inputs in `data`, which are torch.int64 .* pass them as torch.float32"),
        "float64": (
            (inputs.double(), targets),
            "which are torch.float64 .* pass them as torch.float32",
        ),
        "float labels": ((inputs, targets.float()), r"class labels must be int64, pass targets.long\(\)"),
        "int32 labels": ((inputs, targets.int()), r"class labels must be int64, pass targets.long\(\)"),
    }[name]


@pytest.mark.parametrize(
    "name", ["none", "a number", "a path", "features", "integers", "float64", "float labels", "int32 labels"]
)
def test_data_that_do_not_fit_are_refused(model, name):
    data, message = bad_data(name)
    with pytest.raises(ValueError, match=message):
        estimate(model, data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": [0.1, "b"]}, r"`cutoffs` must be a number, got 'b' of type str"),
        ({"cutoff": "0.1"}, "`cutoff` must be a number, got '0.1' of type str"),
        ({"num_directions": 8.0}, "`num_directions` must be a whole number, got 8.0 of type float"),
        ({"num_threads": "2"}, "`num_threads` must be a whole number, got '2' of type str"),
        ({"seed": 1.5}, "`seed` must be a whole number, got 1.5 of type float"),
        ({"rtol": "tight"}, "`rtol` must be a number, got 'tight'"),
        ({"max_steps": 10.0}, "`max_steps` must be a whole number, got 10.0"),
        ({"probe_rays": -1}, "`probe_rays` must be at least 0, got -1"),
        ({"device": "tpu"}, "`device` must be one that torch has here, such as 'cpu', got 'tpu'"),
        ({"device": "meta"}, "`device` is 'meta', where tensors have no values"),
    ],
)
def test_settings_of_another_type_are_refused(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        estimate(model, data, **options)


def test_settings_from_numpy_are_taken(model, data):
    found = estimate(model, data, cutoff=np.float32(9.0), num_directions=np.int64(3), seed=np.uint8(1))
    assert found.log_volume == estimate(model, data, num_directions=3, seed=1).log_volume


def test_find_radii_of_a_model_says_what_it_wants(model):
    directions = bv.Directions(bv.ParameterSpace.of(model), 3)
    with pytest.raises(ValueError, match=r"`landscape` must be a basinvol.Landscape, got a Sequential; make one with"):
        bv.find_radii(model, directions, [0.1])
    with pytest.raises(ValueError, match=r"`directions` must be a basinvol.Directions, got a int"):
        bv.find_radii(bv.Landscape(model, F.cross_entropy, (torch.randn(6, 4), torch.arange(6) % 3)), 5, [0.1])


def test_targets_that_torch_would_broadcast_are_refused():
    model, inputs, targets = nn.Linear(4, 1), torch.randn(20, 4), torch.randn(20)
    for loss_fn in (F.mse_loss, nn.L1Loss(), lambda o, t: (o - t).square().mean()):
        with pytest.raises(ValueError, match=r"`loss_fn` compares every output with every target: .* \[20, 1\]"):
            bv.Landscape(model, loss_fn, (inputs, targets))
    for loss_fn, right in ((F.mse_loss, targets[:, None]), (lambda o, t: F.mse_loss(o.squeeze(-1), t), targets)):
        exact = float((model(inputs)[:, 0] - targets).square().mean().detach())
        assert float(bv.Landscape(model, loss_fn, (inputs, right)).losses()[0]) == pytest.approx(exact, rel=1e-5)


def test_a_forward_that_returns_its_loss_too_is_refused_by_its_name():
    class WithLoss(nn.Linear):
        def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            return super().forward(x), None if y is None else F.cross_entropy(super().forward(x), y)

    with pytest.raises(ValueError, match=r"\(Tensor, NoneType\) .* because forward\(\) returns a tuple; let it return"):
        estimate(WithLoss(4, 3), (torch.randn(20, 4), torch.arange(20) % 3))


def test_the_class_dimension_of_sequences_is_named():
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.embedding(x)  # [N, T, V]

    tokens = torch.randint(0, 7, (10, 5))
    with pytest.raises(ValueError, match=r"classes .* are the second dimension .* outputs.movedim\(-1, 1\)"):
        bv.Landscape(Sequences(), F.cross_entropy, (tokens, tokens))


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), None])
def test_functional_dropout_does_not_accuse_a_module_that_is_off(dropout):
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.dropout = nn.Linear(4, 3), dropout or nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.dropout(self.linear(x)), 0.5)  # training=True is its default

    with pytest.raises(ValueError, match=r"draws random numbers in eval mode\. Look for functional dropout"):
        estimate(Functional(), (torch.randn(20, 4), torch.arange(20) % 3))


def test_batch_normalization_without_statistics_is_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match=r"not a mean over examples.* Suspects: batch statistics in '1'"):
        estimate(model, (torch.randn(20, 4), torch.arange(20) % 3))


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("batch_size", [3, 7, 8192])
def test_class_weights_and_ignored_labels_weigh_batches_and_levels(model, data, batch_size, bound):
    inputs, labels = data[0], data[1].clone()
    labels[[0, 4, 5, 6]] = 2
    labels[[1, 12]] = -1
    weight = torch.tensor([0.2, 3.0, 1.0])
    loss_fn = nn.CrossEntropyLoss(weight, ignore_index=-1)
    if bound:
        loss_fn = functools.partial(F.cross_entropy, weight=weight, ignore_index=-1)
    landscape = bv.Landscape(model, loss_fn, (inputs, labels), levels=[9, 20], batch_size=batch_size)
    exact = [float(F.cross_entropy(model(inputs[:n]), labels[:n], weight, ignore_index=-1).detach()) for n in (9, 20)]
    assert landscape.losses().tolist() == pytest.approx(exact, rel=1e-6)
    loss, gradients = landscape.gradient(dict(model.named_parameters()))
    F.cross_entropy(model(inputs), labels, weight, ignore_index=-1).backward()
    assert loss == pytest.approx(exact[-1], rel=1e-6)
    torch.testing.assert_close(gradients["0.weight"], model[0].weight.grad)


def test_data_without_a_label_that_counts_are_refused(model, data):
    with pytest.raises(ValueError, match="no target in `data` counts: all labels are ignored"):
        bv.Landscape(model, F.cross_entropy, (data[0], torch.full((20,), -100)))


def test_a_network_that_fits_exactly_is_measured_on_levels_and_batches():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    inputs = torch.randn(300, 4)
    data = (inputs, model(inputs).detach())  # in one batch: others round differently, and the loss is 1e-15
    landscape = bv.Landscape(model, F.mse_loss, data, levels=[100, 300], batch_size=37)
    assert float(landscape.losses()[-1]) < 1e-12
    assert bv.estimate_volume(model, F.mse_loss, data, 0.1, 3).radii.is_status(bv.Status.CROSSED).all()


def test_a_network_that_fits_exactly_does_not_hide_a_loss_that_is_no_mean():
    model, inputs = nn.Linear(4, 2), torch.randn(30, 4)

    def summed(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum()

    with pytest.raises(ValueError, match="the loss is not a mean over examples"):
        bv.Landscape(model, summed, (inputs, model(inputs).detach()))


def test_complex_parameters_are_refused_and_others_left_out_are_named():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.real = nn.Linear(4, 3)
            self.phase = nn.Parameter(torch.ones(3, dtype=torch.complex64))
            self.table = nn.Parameter(torch.arange(5), requires_grad=False)
            self.real.bias.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.real(x) * self.phase.abs()

    with pytest.raises(ValueError, match=r"parameter 'phase' is torch.complex64.* exclude='phase'"):
        bv.ParameterSpace.of(Mixed())
    data = (torch.randn(20, 4), torch.arange(20) % 3)
    found = str(estimate(Mixed(), data, exclude="phase"))
    assert "15 of 23 are perturbed, 3 of them frozen (trainable_only=True leaves those out)" in found
    assert "left out: phase (3): exclude='phase'; table (5): it is torch.int64" in found
    assert "real.bias (3): frozen" in estimate(Mixed(), data, exclude="phase", trainable_only=True).parameters


def test_a_constant_loss_names_its_cause():
    class Adapted(nn.Module):
        """A fresh low-rank adapter: its second factor is zero, so the first has no effect."""

        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(4, 3).requires_grad_(False)
            self.a, self.b = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(3, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + x @ self.a.T @ self.b.T

    data = (torch.randn(20, 4), torch.arange(20) % 3)
    with (
        pytest.warns(UserWarning, match=r"scale 0 are never perturbed: b \(6\), so the verdict will be `invalid`"),
        pytest.raises(bv.CensoredError, match=r"does not change along any of them: parameters of scale 0 .* b \(6\)"),
    ):
        estimate(Adapted(), data, trainable_only=True)
    with pytest.raises(bv.CensoredError, match="it does not depend on the perturbed parameters"):
        estimate(nn.Linear(4, 3), data, lambda o, t: (0.0 * o).sum())


def test_a_loss_may_read_the_parameters():
    """Weight decay inside the loss is perturbed with the weights: that of |w|^2 / 2 is a ball, whatever the data."""
    model = nn.Linear(3, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    decayed = bv.Landscape(
        model,
        lambda outputs, targets: 0.5 * sum(p.square().sum() for p in model.parameters()) + 0.0 * outputs.sum(),
        (torch.randn(5, 3), torch.zeros(5)),
    )
    radii = bv.find_radii(decayed, bv.Directions(bv.ParameterSpace.of(model), 4), [0.5], scaling="none").at()
    torch.testing.assert_close(radii.radius, torch.ones(4, dtype=torch.float64), rtol=1e-4, atol=0.0)
    gradient = decayed.gradient({"weight": torch.full((2, 3), 2.0)})[1]["weight"]
    torch.testing.assert_close(gradient, torch.full((2, 3), 2.0))
    body = bv.estimate_volume(model, decayed.loss_fn, (torch.randn(5, 3), torch.zeros(5)), 0.5, 4, scaling="none")
    assert body.log_volume == pytest.approx(4 * math.log(math.pi) - math.lgamma(5), abs=1e-3)
