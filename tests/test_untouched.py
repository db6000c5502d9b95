"""Measuring leaves model, data, random state and thread count as they were, also when it fails."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv


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


CASES = [(Everything, "reference"), (Everything, "auto"), (perceptron, "reference"), (perceptron, "native")]
IDS = ["batch norm, reference", "batch norm, auto", "mlp, reference", "mlp, native"]


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
