"""Models and data in half precision, which are measured in float32.

Steps of half precision are larger than the brackets of radii: no radius along a direction could be certified. Every
number in half precision is one in float32, so that the model at its own parameters is the same function, but for the
rounding between its layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .fields import Fields, Inputs

HALF = (torch.float16, torch.bfloat16)


def widened(values: Tensor) -> Tensor:
    """The tensor in float32 where it is in half precision; otherwise itself."""
    return values.float() if values.dtype in HALF else values


def widened_inputs(values: Inputs) -> Inputs:
    """A batch of any form, each of its tensors as `widened` returns it."""
    if isinstance(values, Fields):
        return Fields({name: widened(part) for name, part in values.values.items()}, values.is_named)
    return widened(values)


def measured_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which parameters of a type are measured."""
    return torch.float32 if dtype in HALF else dtype
