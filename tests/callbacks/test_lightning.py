"""The callback in a short training by Lightning itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import basinvol as bv
from basinvol.callbacks import RowStatus, VolumeRecorder

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Lightning has several about how it is used here
]
pl: Any = pytest.importorskip("lightning.pytorch", reason="Lightning is optional", exc_type=ImportError)


class Classifier(pl.LightningModule):
    """A network with dropout and batch normalization, trained on shuffled batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-2)


class Kept(pl.loggers.Logger):  # type: ignore[misc]
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "kept"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def fit(blobs: tuple[Tensor, Tensor], folder: Path, callbacks: list[Any], **settings: Any) -> tuple[Any, Kept]:
    torch.manual_seed(0)
    model, logger = Classifier(), Kept()
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=8,
        accelerator="cpu",
        logger=logger,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )
    trainer.fit(model, DataLoader(TensorDataset(*blobs), batch_size=30, shuffle=True))
    return model, logger


def bits(model: nn.Module) -> list[bytes]:
    return [t.numpy().tobytes() for t in [*model.state_dict().values(), torch.get_rng_state()]]


def test_volumes_are_logged_and_the_training_is_the_same_to_the_bit(blobs, tmp_path: Path) -> None:
    recorder = VolumeRecorder(F.cross_entropy, blobs, cutoff=0.5, every=8, num_directions=10, probe=False)
    model, logger = fit(blobs, tmp_path, [bv.callbacks.LightningVolumeCallback(recorder)])
    measured = bits(model)
    plain, _ = fit(blobs, tmp_path, [])
    assert measured == bits(plain)
    assert [row.step for row in recorder.rows] == [0, 8, 16, 24]
    assert recorder.rows[0].status is RowStatus.CENTER_OUTSIDE
    assert recorder.rows[-1].status is RowStatus.MEASURED, recorder.rows[-1].sentence
    lines = {step: line for step, line in logger.lines if "volume/is_measured" in line}
    assert sorted(lines) == [0, 8, 16, 24]
    assert recorder.rows[-1].estimate is not None
    assert lines[24]["volume/log_volume"] == recorder.rows[-1].estimate.log_volume


def test_a_part_of_the_module_is_measured_and_steps_are_those_of_the_optimizer(blobs, tmp_path: Path) -> None:
    for part in ("layers", lambda classifier: classifier.layers):
        recorder = VolumeRecorder(F.cross_entropy, blobs, cutoff=5.0, every=2, part=part, num_directions=4, probe=False)
        callback = bv.callbacks.LightningVolumeCallback(recorder)
        fit(blobs, tmp_path, [callback], accumulate_grad_batches=3, max_steps=4)
        assert [row.step for row in recorder.rows] == [0, 2, 4]
        assert all(row.status is RowStatus.MEASURED for row in recorder.rows)


def test_an_error_does_not_end_the_training(blobs, tmp_path: Path) -> None:
    def broken(outputs: Tensor, targets: Tensor) -> Tensor:
        raise RuntimeError("no")

    recorder = VolumeRecorder(broken, blobs, every=12, num_directions=4)
    fit(blobs, tmp_path, [bv.callbacks.LightningVolumeCallback(recorder)])
    assert [row.status for row in recorder.rows] == [RowStatus.FAILED] * 3
    recorder = VolumeRecorder(F.cross_entropy, blobs, every=12, part="absent", num_directions=4)
    fit(blobs, tmp_path, [bv.callbacks.LightningVolumeCallback(recorder)])
    assert "absent" in recorder.rows[0].sentence
