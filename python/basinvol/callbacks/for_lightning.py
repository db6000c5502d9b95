"""A recorder as a callback of Lightning."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from ..inputs.optional import optional
from .recorder import VolumeRecorder, VolumeRow

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")  # the same framework under two names
_SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")

# The package that the user has loaded; either takes callbacks of the other.
_loaded = next((name for name in _PACKAGES if name in sys.modules), _PACKAGES[0])
_Callback: Any = optional(_loaded, "lightning", "LightningVolumeCallback").Callback


class LightningVolumeCallback(_Callback):  # type: ignore[misc]  # its type is not known without Lightning
    """Measures volumes while Lightning trains, and logs them with every logger of the trainer.

    The steps are those of the optimizer, `trainer.global_step`. With several processes the first one measures while
    the others wait; a model that is sharded over processes is not measured, and its rows say so.

    Args:
        recorder: what is measured, when, and at which cost; its `rows` are the result. Its `part` says what of the
            LightningModule is measured, if not all of it.

    Raises:
        MissingPackage: Lightning is not installed (when the class is first asked for).
    """

    def __init__(self, recorder: VolumeRecorder) -> None:
        super().__init__()
        self.recorder = recorder

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """See `lightning.pytorch.Callback`."""
        self._record(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """See `lightning.pytorch.Callback`."""
        self._record(trainer, pl_module)

    def _record(self, trainer: Any, pl_module: nn.Module) -> None:
        step = int(trainer.global_step)
        if trainer.is_global_zero and self.recorder.is_due(step):
            metrics = self._measured(trainer, pl_module, step).metrics(self.recorder.prefix)
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=step)

    def _measured(self, trainer: Any, pl_module: nn.Module, step: int) -> VolumeRow:
        strategy = type(trainer.strategy).__name__
        if strategy in _SHARDED:
            return self.recorder.refuse(step, f"under {strategy} no process has the whole model; use a checkpoint.")
        return self.recorder.measure(pl_module, step)
