"""Keeps products on a CUDA device in float32 while a model is measured.

By torch's default, convolutions and recurrent layers on a CUDA device multiply in TF32, which keeps 11 bits of each
operand, and users may have allowed the same for matrix products. A certified radius needs float32.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

# What multiplies on a CUDA device, by torch's names, each with a setting of its own since torch 2.9.
_OPERATIONS = ("matmul", "conv", "rnn")
_FULL = "ieee"


def multiplies_in_tf32(device: torch.device) -> bool:
    """Whether torch's settings may let products on this device round to TF32."""
    return device.type == "cuda"


def precise_products(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Keeps products on this device in float32."""
    return full_precision() if multiplies_in_tf32(device) else contextlib.nullcontext()


class _FullPrecision:
    """Switches TF32 off when the first measurement begins, and back when the last one ends.

    The settings belong to the process, and measurements may overlap, one inside the other or in several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._restore: Callable[[], None] | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._restore = _switch_off()
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0 and self._restore is not None:
                    self._restore()


full_precision = _FullPrecision()


def _switch_off() -> Callable[[], None]:
    """Switches TF32 off for all products; returns what puts the settings back.

    Torch has two interfaces to one state, and refuses to read the older after settings that only the newer can express.
    So the older is used where it can be read, which keeps both readable for the model, and the newer for what is left.
    """
    matmul, cudnn = _older(torch.get_float32_matmul_precision), _older(torch._C._get_cudnn_allow_tf32)
    newer = _by_operation()
    # What is off already stays as it is: writing it would set more than was set before.
    if matmul not in (None, "highest"):
        _older(torch.set_float32_matmul_precision, "highest")
    if cudnn:
        _older(torch._C._set_cudnn_allow_tf32, False)
    _set({operation: _FULL for operation, setting in _by_operation().items() if setting not in ("none", _FULL)})

    def restore() -> None:
        if matmul not in (None, "highest"):
            _older(torch.set_float32_matmul_precision, matmul)
        if cudnn:
            _older(torch._C._set_cudnn_allow_tf32, True)
        now = _by_operation()
        _set({operation: setting for operation, setting in newer.items() if now[operation] != setting})

    return restore


def _older(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function of the older interface; None where torch refuses because the newer was used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of torch recommend the newer interface
        try:
            return function(*arguments)
        except RuntimeError:
            return None


def _by_operation() -> dict[str, str]:
    """The settings of the newer interface; none where this version of torch does not have it."""
    read = getattr(torch._C, "_get_fp32_precision_getter", None)
    return {} if read is None else {operation: read("cuda", operation) for operation in _OPERATIONS}


def _set(settings: dict[str, str]) -> None:
    for operation, setting in settings.items():
        torch._C._set_fp32_precision_setter("cuda", operation, setting)
