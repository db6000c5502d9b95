"""A recorder as a callback of the Trainer of Hugging Face transformers."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from ..inputs.optional import optional
from .recorder import VolumeRecorder, VolumeRow

_Callback: Any = optional("transformers", "transformers", "TrainerVolumeCallback").TrainerCallback


class TrainerVolumeCallback(_Callback):  # type: ignore[misc]  # its type is not known without it
    """Measures volumes while a Trainer trains, and logs them wherever it reports to.

    `TrainerVolumeCallback(recorder).attach(trainer)` is how it is added. A Trainer gives its callbacks no way to log,
    so that one passed as `callbacks=[...]` only adds its numbers to `trainer.state.log_history`.

    The steps are those of the optimizer, `state.global_step`. With several processes the first one measures while the
    others wait; a model that is sharded over processes is not measured, and its rows say so.

    Args:
        recorder: what is measured, when, and at which cost; its `rows` are the result. With loss_fn=None and a
            dictionary of tensors, the model's own loss is taken.

    Raises:
        MissingPackage: transformers is not installed (when the class is first asked for).
    """

    def __init__(self, recorder: VolumeRecorder) -> None:
        self.recorder = recorder
        self._trainer: weakref.ref[Any] | None = None  # a Trainer holds its callbacks

    def attach(self, trainer: Any) -> TrainerVolumeCallback:
        """Adds the callback to a Trainer, so that volumes are logged as its own numbers are; returns the callback."""
        self._trainer = weakref.ref(trainer)
        trainer.add_callback(self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See `transformers.TrainerCallback`."""
        self._record(args, state, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See `transformers.TrainerCallback`."""
        self._record(args, state, kwargs["model"])

    def _record(self, args: Any, state: Any, model: nn.Module) -> None:
        if not (state.is_world_process_zero and self.recorder.is_due(state.global_step)):
            return
        metrics = self._measured(args, state.global_step, model).metrics(self.recorder.prefix)
        trainer = None if self._trainer is None else self._trainer()
        if trainer is not None:
            trainer.log(metrics)
        else:
            state.log_history.append({**metrics, "step": state.global_step})

    def _measured(self, args: Any, step: int, model: nn.Module) -> VolumeRow:
        if getattr(args, "fsdp", None) or getattr(args, "deepspeed", None):
            sentence = "under FSDP or DeepSpeed no process has the whole model; use a checkpoint."
            return self.recorder.refuse(step, sentence)
        return self.recorder.measure(model, step)
