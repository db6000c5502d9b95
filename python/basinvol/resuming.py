"""What makes two calls of `estimate_volume` the same call, so that one may go on where the other was ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from .estimators import Method, Task
from .rays import SearchOptions
from .storage.archive import from_bytes, to_bytes
from .storage.fingerprint import fingerprint, name_of
from .storage.journal import Journal, of_digest
from .trust.volume_estimate import TYPES, VolumeEstimate

# Settings that change how long the rays take, and no result.
_OF_SPEED = ("num_threads", "memory_budget", "executor")
_LONGEST = 120  # characters of a setting that a sentence tells
_RESULT = "estimates"


def call_of(task: Task, method: Method, settings: Mapping[str, Any]) -> dict[str, str]:
    """Everything that determines an estimate, by the names of the arguments, as short texts.

    Args:
        task: model, loss and data, and how rays are searched.
        method: the method, with its options.
        settings: all other arguments, by name.
    """
    landscape = task.landscape
    parts = {name: name_of(part) for name, part in landscape.model.named_modules()}
    with landscape.measuring():
        loss = float(landscape.evaluate()[-1])
    searched = {
        part.name: getattr(task.options, part.name)
        for part in dataclasses.fields(SearchOptions)
        if part.name not in _OF_SPEED
    }
    return {
        "model": of_digest(
            fingerprint(parts, dict(landscape.model.named_parameters()), dict(landscape.model.named_buffers()))
        ),
        "data": of_digest(fingerprint(landscape.inputs, landscape.targets)),
        "loss_fn": f"{name_of(landscape.loss_fn)} ({loss:.6g} at the center)",
        "method": _shown(method),
        **{name: _shown(value) for name, value in {**settings, **searched}.items()},
        "device": str(landscape.device),
        "batch_size": str(landscape.batch_size),
        "version of basinvol": _version(),
        "version of torch": torch.__version__,
    }


def kept_result(journal: Journal) -> list[VolumeEstimate] | None:
    """The estimates of a call that came to its end, or None."""
    content = journal.get(_RESULT)
    if content is None:
        return None
    found: list[VolumeEstimate] = from_bytes(content, TYPES, "`resume`")
    return found


def keep_result(journal: Journal, estimates: list[VolumeEstimate]) -> None:
    """Keeps the estimates of a call that came to its end."""
    journal.add(_RESULT, to_bytes(estimates))


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value) or value is None or isinstance(value, (bool, int, float, str, tuple, list)):
        text = repr(value)
        return text if len(text) <= _LONGEST else of_digest(fingerprint(value))
    return str(getattr(value, "name", name_of(value)))


def _version() -> str:
    try:
        return version("basinvol")
    except PackageNotFoundError:  # copied into a path without its metadata
        return "unknown"
