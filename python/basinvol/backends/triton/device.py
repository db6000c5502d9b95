"""The device on which kernels are launched."""

from __future__ import annotations

import contextlib

import torch


def current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes a device current: Triton launches there, whatever device its arguments are on.

    Args:
        device: a CUDA device, or the CPU in Triton's interpreter.
    """
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
