"""Torch's default device, which belongs to the user: it holds while the model runs, and nowhere else.

Users set `torch.set_default_device("cuda")`, and their models may rely on it. The package keeps brackets, levels and
orders on the CPU, and says so for none of them. The setting of torch belongs to a thread.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import torch

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_CPU = torch.device("cpu")
# The user's setting, while the package has its own.
_kept: ContextVar[torch.device | None] = ContextVar("kept", default=None)


def cpu_by_default(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """The same function, in which tensors are made on the CPU where no device is named."""

    @functools.wraps(function)
    def called(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        user = torch.get_default_device()
        if user == _CPU:  # as nearly always; the other way costs something in every call of torch
            return function(*args, **kwargs)
        token = _kept.set(user)
        try:
            with torch.device(_CPU):
                return function(*args, **kwargs)
        finally:
            _kept.reset(token)

    return called


def users_default() -> torch.device:
    """The user's default device, inside the package or not."""
    return _kept.get() or torch.get_default_device()


def with_default(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes a device the default while the user's code runs, in this thread."""
    return contextlib.nullcontext() if device == torch.get_default_device() else torch.device(device)
