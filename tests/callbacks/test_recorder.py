"""Volumes in a loop of one's own: a row for each step that is due, and a training that does not notice."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.callbacks import RowStatus, VolumeRecorder

Blobs = tuple[Tensor, Tensor]
SMALL: dict[str, Any] = {"num_directions": 8, "probe": False}


class Noisy(nn.Module):
    """A model that trains with dropout and batch normalization, and counts its calls in a buffer and an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.num_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.num_calls += 1
        return self.layers(x)


def drawing_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that draws from all three random states, and does not use what it draws."""
    random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
    return F.cross_entropy(outputs, targets)


def train(blobs: Blobs, recorder: VolumeRecorder | None, num_steps: int = 30) -> list[bytes]:
    """Everything that a training leaves: tensors, gradients, flags and random states."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    model = Noisy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, y = blobs
    for step in range(num_steps):
        rows = torch.randperm(len(x))[:32]
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows] + 0.01 * np.random.randn()), y[rows]).backward()  # noqa: NPY002
        if recorder is not None:  # between backward and step: gradients are there
            recorder(model, step)
        optimizer.step()
        x = x + 1e-3 * random.random()
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    states = [random.getstate(), np.random.get_state(), model.training, model.num_calls]  # noqa: NPY002
    return [t.detach().numpy().tobytes() for t in [*tensors, torch.get_rng_state()]] + [repr(states).encode()]


def test_a_training_is_the_same_to_the_bit_with_and_without_a_recorder(blobs: Blobs) -> None:
    recorder = VolumeRecorder(drawing_loss, blobs, cutoff=1.5, every=7, **SMALL)
    assert train(blobs, recorder) == train(blobs, None)
    assert [row.step for row in recorder.rows] == [0, 7, 14, 21, 28]
    assert recorder.rows[-1].status is RowStatus.MEASURED


def test_rows_are_the_estimates_of_the_checkpoints(blobs: Blobs, trained: nn.Module) -> None:
    recorder = VolumeRecorder(F.cross_entropy, blobs, cutoff=0.1, steps=[3], seed=5, num_directions=12)
    assert recorder(trained, 2) is None
    row = recorder(trained, 3)
    assert row is not None
    assert recorder(trained, 3) is None  # once
    expected = bv.estimate_volume(trained, F.cross_entropy, blobs, cutoff=0.1, num_directions=12, seed=5)
    assert row.estimate is not None
    assert row.estimate.log_volume == expected.log_volume
    assert row.metrics("basin")["basin/log_volume"] == expected.log_volume
    assert row.sentence == f"{expected.diagnostics.verdict}: {expected.diagnostics.reason}"


def test_a_checkpoint_above_the_cutoff_is_a_row_with_that_status(blobs: Blobs, make_mlp) -> None:
    recorder = VolumeRecorder(F.cross_entropy, blobs, cutoff=0.1, every=1, **SMALL)
    row = recorder(make_mlp([12, 4, 3]), 0)
    assert row is not None
    assert row.status is RowStatus.CENTER_OUTSIDE
    assert row.estimate is None
    assert row.center_loss > 0.1
    assert row.sentence.startswith("`cutoff` must be above the loss at the center, got cutoff=0.1 and loss=")
    assert set(row.metrics()) == {"volume/is_measured", "volume/center_loss", "volume/seconds"}


def test_whatever_goes_wrong_is_a_row_and_the_model_is_as_before(
    blobs: Blobs, trained: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(outputs: Tensor, targets: Tensor) -> Tensor:
        raise OSError("the disk is gone")

    recorder = VolumeRecorder(broken, blobs, every=1, **SMALL)
    row = recorder(trained.train(), 4)
    assert row is not None
    assert row.status is RowStatus.FAILED
    assert row.sentence.startswith("the measurement failed: ValueError: `loss_fn` fails on outputs")
    assert row.sentence.endswith("OSError: the disk is gone")
    assert "step 4: the measurement failed" in caplog.text
    assert trained.training

    def diverged(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) * torch.nan

    row = VolumeRecorder(diverged, blobs, every=1, **SMALL)(trained, 0)
    assert row is not None
    assert row.status in (RowStatus.FAILED, RowStatus.CENTER_OUTSIDE)


def test_an_interrupt_is_not_swallowed(blobs: Blobs, trained: nn.Module) -> None:
    def interrupted(outputs: Tensor, targets: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VolumeRecorder(interrupted, blobs, every=1, **SMALL)(trained, 0)


def test_a_budget_bounds_all_measurements_together(blobs: Blobs, trained: nn.Module) -> None:
    def slow(outputs: Tensor, targets: Tensor) -> Tensor:
        time.sleep(1e-3)
        return F.cross_entropy(outputs, targets)

    recorder = VolumeRecorder(
        slow, blobs, every=1, budget_seconds=0.5, num_directions=10_000, probe=False, backend="reference"
    )
    for step in range(3):
        recorder(trained, step)
    assert [row.status for row in recorder.rows] == [RowStatus.OVER_BUDGET] * 3
    assert recorder.rows[1].seconds == recorder.rows[2].seconds == 0.0  # nothing was left to begin with
    assert recorder.rows[0].sentence == "the budget of all measurements together is spent."


def test_a_measurement_that_would_not_fit_is_not_begun(blobs: Blobs, trained: nn.Module) -> None:
    recorder = VolumeRecorder(F.cross_entropy, blobs, every=1, budget_seconds=1e3, **SMALL)
    recorder(trained, 0)
    recorder.seconds = 1e3 - 0.5 * recorder.rows[0].seconds
    row = recorder(trained, 1)
    assert row is not None
    assert (row.status, row.seconds) == (RowStatus.OVER_BUDGET, 0.0)


def test_rows_as_a_table_and_as_json(blobs: Blobs, trained: nn.Module, make_mlp) -> None:
    recorder = VolumeRecorder(F.cross_entropy, blobs, cutoff=0.1, every=10, **SMALL)
    recorder(make_mlp([12, 4, 3]), 0)
    recorder(trained, 10)
    frame = recorder.to_dataframe()
    assert frame["step"].tolist() == [0, 10]
    assert frame["status"].tolist() == ["CENTER_OUTSIDE", "MEASURED"]
    assert frame["log_volume"].isna().tolist() == [True, False]
    rows = json.loads(json.dumps([row.to_dict() for row in recorder.rows], allow_nan=False))
    assert rows[0]["verdict"] is None
    assert rows[1]["verdict"] == "lower bound"


def test_data_of_every_form_are_read_once(trained: nn.Module, blobs: Blobs) -> None:
    class Speaker(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = trained

        def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.inner(features)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = trained

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.inner(torch.cat([first, second], dim=1))

    x, y = blobs
    cases = [
        (trained, F.cross_entropy, iter([(x[:50], y[:50]), (x[50:], y[50:])])),
        (Speaker(), None, {"features": x, "labels": y}),
        (Pair(), F.cross_entropy, ((x[:, :5], x[:, 5:]), y)),
    ]
    for model, loss_fn, data in cases:
        recorder = VolumeRecorder(loss_fn, data, every=1, **SMALL)
        for step in range(2):
            row = recorder(model, step)
            assert row is not None
            assert row.status is RowStatus.MEASURED, row.sentence


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "`every` or `steps` must say when to measure, got neither"),
        ({"every": 0}, "`every` must be at least 1, got 0"),
        ({"steps": [-1]}, "`steps` must be at least 0, got -1"),
        ({"every": 1, "budget_seconds": 0}, "`budget_seconds` must be positive, got 0"),
        ({"every": 1, "cutoff": [0.1, 0.2]}, "`cutoff` must be a number"),
        (
            {"every": 1, "directions": 5},
            "`directions` is not a setting that a recorder takes; there are: num_directions",
        ),
        ({"every": 1, "resume": "x"}, "`resume` is not a setting that a recorder takes"),
    ],
)
def test_bad_arguments_are_refused_before_the_training(blobs: Blobs, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        VolumeRecorder(F.cross_entropy, blobs, **settings)
