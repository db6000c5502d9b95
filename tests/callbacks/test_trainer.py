"""The callback in a short training by the Trainer of Hugging Face itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import basinvol as bv
from basinvol.callbacks import RowStatus, VolumeRecorder

pytestmark = [pytest.mark.filterwarnings("ignore")]  # transformers has several about how it is used here
transformers: Any = pytest.importorskip("transformers", reason="transformers is optional")
pytest.importorskip("accelerate", reason="the Trainer needs it")


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 11, (32, 6), generator=generator)
    return {"input_ids": ids, "labels": (ids[:, 0] > 6).long()}


def rows() -> list[dict[str, Tensor]]:
    data = batch()
    return [{name: values[i] for name, values in data.items()} for i in range(32)]


def train(folder: Path, recorder: VolumeRecorder | None, attached: bool = True) -> tuple[Any, list[bytes]]:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=11, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8, num_labels=2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=24, per_device_train_batch_size=8, learning_rate=1e-2, logging_steps=5,
        report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True, seed=3,
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows())
    if recorder is not None:
        callback = bv.callbacks.TrainerVolumeCallback(recorder)
        _ = callback.attach(trainer) if attached else trainer.add_callback(callback)
    trainer.train()
    return trainer, [t.numpy().tobytes() for t in [*model.state_dict().values(), torch.get_rng_state()]]


def a_recorder() -> VolumeRecorder:
    # Without filters: the embedding of padding is a row of zeros.
    return VolumeRecorder(None, batch(), cutoff=0.68, every=12, num_directions=6, scaling="none", probe=False)


def test_volumes_are_logged_and_the_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    recorder = a_recorder()
    trainer, measured = train(tmp_path, recorder)
    plain, expected = train(tmp_path, None)
    assert measured == expected
    assert [row.step for row in recorder.rows] == [0, 12, 24]
    assert recorder.rows[-1].status is RowStatus.MEASURED, recorder.rows[-1].sentence
    logged = {line["step"]: line for line in trainer.state.log_history if "volume/is_measured" in line}
    assert sorted(logged) == [0, 12, 24]
    assert recorder.rows[-1].estimate is not None
    assert logged[24]["volume/log_volume"] == recorder.rows[-1].estimate.log_volume
    losses = [[line["loss"] for line in t.state.log_history if "loss" in line] for t in (trainer, plain)]
    assert losses[0] == losses[1]  # what it logs itself is averaged over the same steps


def test_a_callback_that_is_not_attached_adds_to_the_history(tmp_path: Path) -> None:
    recorder = a_recorder()
    trainer, _ = train(tmp_path, recorder, attached=False)
    lines = [line for line in trainer.state.log_history if "volume/is_measured" in line]
    assert [line["step"] for line in lines] == [row.step for row in recorder.rows] == [0, 12, 24]
