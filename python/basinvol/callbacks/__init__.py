"""Volumes over training: a recorder for a loop of one's own, and callbacks that hand it to two frameworks.

recorder = basinvol.callbacks.VolumeRecorder(loss_fn, data, every=100, budget_seconds=60)
Trainer(callbacks=[basinvol.callbacks.LightningVolumeCallback(recorder)])      # Lightning
basinvol.callbacks.TrainerVolumeCallback(recorder).attach(trainer)             # Hugging Face
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .recorder import RowStatus, VolumeRecorder, VolumeRow

if TYPE_CHECKING:
    from .for_lightning import LightningVolumeCallback
    from .for_trainer import TrainerVolumeCallback

# Each needs its framework, and is imported on first use.
_HOMES = {"LightningVolumeCallback": "for_lightning", "TrainerVolumeCallback": "for_trainer"}

__all__ = ["LightningVolumeCallback", "RowStatus", "TrainerVolumeCallback", "VolumeRecorder", "VolumeRow"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
