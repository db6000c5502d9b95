"""Measuring leaves model, data, random state and thread count as they were, also when it fails."""

from __future__ import annotations

import copy
import dataclasses
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth
from basinvol.probing.doctor import examine


class Everything(nn.Module):
    """Buffers, batch norm, dropout, a frozen layer, a gradient, and modes that differ by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(1))
        self.inner[0].weight.requires_grad_(False)
        self.inner[1].eval()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # in place, in eval mode too
        return self.head(self.inner(x))


def perceptron() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    model[2].eval()
    return model.train()


def snapshot(model: nn.Module, data: tuple[Tensor, Tensor]) -> dict[str, object]:
    """Bytes and identities of everything a caller could notice."""
    found: dict[str, object] = {
        "state": {name: value.numpy().tobytes() for name, value in model.state_dict().items()},
        "tensors": {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in model.named_parameters()},
        "buffers": {name: (id(b), b.data_ptr()) for name, b in model.named_buffers()},
        "gradients": {n: None if p.grad is None else p.grad.numpy().tobytes() for n, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: len(module._forward_hooks) for name, module in model.named_modules()},
        "data": [part.numpy().tobytes() for part in data],
        "torch random": torch.get_rng_state().numpy().tobytes(),
        "python random": random.getstate(),
        "numpy random": np.random.get_state()[1].tobytes(),  # noqa: NPY002  (the state that users share)
        "threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        "default type": torch.get_default_dtype(),
    }
    return copy.deepcopy(found)


def ready(model: nn.Module) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The model after a backward pass, and data."""
    data = (torch.randn(30, 4), torch.arange(30) % 3)
    F.cross_entropy(model(data[0]), data[1]).backward()
    return model, data


CASES = [(Everything, "reference"), (Everything, "torch"), (perceptron, "reference"), (perceptron, "native")]
IDS = ["batch norm, reference", "batch norm, torch", "mlp, reference", "mlp, native"]


@pytest.mark.parametrize(("make", "backend"), CASES, ids=IDS)
@pytest.mark.parametrize("method", ["star", "paper"])
def test_estimate_leaves_no_trace(make, backend, method):
    model, data = ready(make())
    cutoff = float(F.cross_entropy(copy.deepcopy(model).eval()(data[0]).detach(), data[1])) + 0.02
    before = snapshot(model, data)
    est = bv.estimate_volume(model, F.cross_entropy, data, cutoff, 3, method=method, backend=backend, num_threads=2)
    assert est.radii.num_evaluations.sum() > 0
    after = snapshot(model, data)
    for name, value in before.items():
        assert after[name] == value, name


@pytest.mark.parametrize(("make", "backend"), CASES, ids=IDS)
def test_refusal_leaves_no_trace(make, backend):
    model, data = ready(make())
    before = snapshot(model, data)
    with pytest.raises(ValueError, match="`cutoff` must be above the loss"):
        bv.estimate_volume(model, F.cross_entropy, data, 1e-9, 3, backend=backend, num_threads=2)
    assert snapshot(model, data) == before


def test_failure_in_the_middle_leaves_no_trace():
    model, data = ready(Everything())
    calls = []

    def failing(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(torch.rand(1))  # moves torch's random state, unless that is protected
        if len(calls) > 8:
            raise RuntimeError("out of memory")
        return F.cross_entropy(outputs, targets)

    before = snapshot(model, data)
    with pytest.raises(bv.RaySearchFailed, match=r"the search failed at directions 0 to .*: out of memory"):
        bv.estimate_volume(model, failing, data, 9.0, 3, backend="reference", num_threads=2)
    assert snapshot(model, data) == before


class Remembering(nn.Module):
    """Counts in a buffer in place and by assignment, caches, appends, and counts in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("more_calls", torch.zeros(1))
        self.cache: Tensor | None = None
        self.history: list[Tensor] = []
        self.seen: dict[str, int] = {}
        self.count = 0
        self.plain = torch.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.more_calls = self.more_calls + 1
        self.plain.add_(1)
        self.count += 1
        self.history.append(x)
        self.seen["rows"] = self.seen.get("rows", 0) + len(x)
        if self.cache is None:  # of the weights: a stale one would make every perturbed network the center
            self.cache = self.first.weight.T * 1.0
        return self.second(torch.tanh(x @ self.cache + self.first.bias))


class Forgetful(Remembering):
    """The same function without any memory."""

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(x @ (self.first.weight.T * 1.0) + self.first.bias))


def remembered(model: Remembering) -> dict[str, object]:
    return {
        "buffers": (model.calls.clone(), model.more_calls.clone(), model.plain.clone()),
        "attributes": (model.cache, list(model.history), dict(model.seen), model.count),
        "names": [sorted(vars(module)) for module in model.modules()],
        "training": [module.training for module in model.modules()],
    }


GAUSSIAN = {"measure": "gaussian", "sigma": 0.3}
FEW_CHAINS = {"num_chains": 4, "num_groups": 2, "num_leapfrog": 2, "num_windows": 1, "window": 2, "num_final": 2}
WAYS = {
    "star": {},
    "star, batched": {"resolve": "decisive"},
    "paper": {"method": "paper"},
    "gaussian": {"method": "gaussian", "sigma": 0.3},
    "preconditioned, radii": {"method": "preconditioned", "method_options": {"fit": "diagonal", "num_pilot": 20}},
    "preconditioned, secant": {"method": "preconditioned", "method_options": {"fit": "secant"}},
    "preconditioned, normals": {"method": "preconditioned", "method_options": {"fit": "gradients", "num_pilot": 20}},
    "preconditioned, ggn": {"method": "preconditioned", "method_options": {"fit": "ggn", "num_pilot": 5}},
    "preconditioned, hessian": {"method": "preconditioned", "method_options": {"fit": "hessian", "num_pilot": 5}},
    "annealed": {"method": "annealed", "method_options": FEW_CHAINS},
    "splitting": {"method": "splitting", **GAUSSIAN, "method_options": {"num_chains": 8, "num_groups": 2}},
    "direct": {"method": "direct", **GAUSSIAN, "method_options": {"most_draws": 100}},
    "hit-and-run": {
        "method": "hit-and-run",
        **GAUSSIAN,
        "method_options": {"num_walkers": 4, "num_groups": 2, "num_steps": 3},
    },
    "check": {**GAUSSIAN, "check": "splitting"},
    "probes": {"probe": True, "probe_rays": 3},
}


def measured(model: nn.Module, data: tuple[Tensor, Tensor], options: dict[str, object]) -> bv.VolumeEstimate:
    options = {"scaling": "none", "on_censored": "bound", "probe": False, **options}
    return bv.estimate_volume(model, F.cross_entropy, data, **{"cutoff": 0.9, "num_directions": 6, **options})


def remembering() -> tuple[Remembering, Forgetful, tuple[Tensor, Tensor]]:
    model, plain = Remembering(), Forgetful()
    plain.load_state_dict(model.state_dict())
    return model, plain, (torch.randn(12, 3), torch.arange(12) % 2)


@pytest.mark.slow
@pytest.mark.parametrize("way", list(WAYS))
def test_a_model_with_a_memory_is_measured_as_one_without_and_left_alone(way):
    model, plain, data = remembering()
    before = remembered(model)
    found = measured(model, data, WAYS[way])
    assert str(remembered(model)) == str(before)
    expected = measured(plain, data, WAYS[way])
    assert found.log_volume == expected.log_volume
    assert found.num_evaluations == expected.num_evaluations > 0


def test_profile_doctor_and_compare_leave_a_model_with_a_memory_alone():
    model, plain, data = remembering()
    before = remembered(model)
    profiles = [bv.loss_profile(m, F.cross_entropy, data, 4, 5, scaling="none") for m in (model, plain)]
    assert np.array_equal(profiles[0].losses, profiles[1].losses)
    report = str(examine(model, F.cross_entropy, data, 0.9, 20, scaling="none"))
    assert "determinism       ok" in report
    estimates = [measured(m, data, {}) for m in (model, plain)]
    assert bv.compare(estimates).pairs[0].difference == 0.0
    assert str(remembered(model)) == str(before)


def test_calibrate_leaves_its_cases_alone():
    model, plain, data = remembering()
    before = remembered(model)
    case = dataclasses.replace(
        ground_truth.ball(3), name="remembering", make=lambda: (model, F.cross_entropy, data), cutoff=0.9
    )
    rows = bv.calibrate([case], num_directions=5)
    assert rows[0].estimate.log_volume == measured(plain, data, {"num_directions": 5}).log_volume
    assert str(remembered(model)) == str(before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_model_on_another_device_than_the_data_is_measured():
    model, plain, data = remembering()
    expected = measured(plain, data, {"backend": "reference"})
    found = measured(plain.cuda(), data, {"backend": "reference"})
    assert found.log_volume == pytest.approx(expected.log_volume, abs=1e-3)
    found = measured(model, data, {"backend": "reference", "device": "cuda"})
    assert found.log_volume == pytest.approx(expected.log_volume, abs=1e-3)
    assert all(p.device.type == "cpu" for p in model.parameters())


@pytest.mark.slow
def test_training_goes_on_as_if_nothing_had_been_measured():
    def train(measure: bool) -> dict[str, Tensor]:
        torch.manual_seed(3)
        model = Everything()
        data = (torch.randn(30, 4), torch.arange(30) % 3)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(data[0]), data[1]).backward()
            optimizer.step()
            if measure:
                bv.estimate_volume(model, F.cross_entropy, data, 9.0, 2)
        return model.state_dict()

    measured, undisturbed = train(True), train(False)
    for name, value in undisturbed.items():
        assert torch.equal(measured[name], value), name
