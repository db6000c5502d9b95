"""NumPy arrays as tensors, also those that are mapped from a file larger than memory."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .chunks import chunks
from .spool import Spool, memory_limit


def of_array(array: np.ndarray[Any, Any]) -> Tensor:
    """The array as a tensor of the type that torch would give such numbers, without a copy where it can be.

    Args:
        array: the numbers; they may be read-only. [N, ...]

    Raises:
        TypeError: torch has no such type.
        ValueError: a copy has to be made, and neither memory nor the temporary folder can take it.
    """
    if array.ndim == 0 or array.flags.c_contiguous:
        whole = _viewed(array)
        if _kept(whole.dtype) == whole.dtype:
            return whole
    ranges = list(chunks(array)) if array.ndim else []
    if len(ranges) <= 1:
        return _converted(array)
    like = _converted(array[:1])
    if array.size * like.element_size() <= memory_limit():
        return _converted(array)
    with Spool() as spool:
        for first, last in ranges:
            spool.add({"array": _converted(array[first:last])})
        return spool.tensors()["array"]


def _converted(array: np.ndarray[Any, Any]) -> Tensor:
    viewed = _viewed(array)
    return viewed.to(_kept(viewed.dtype))


def _viewed(array: np.ndarray[Any, Any]) -> Tensor:
    if array.flags.writeable:
        return torch.from_numpy(np.ascontiguousarray(array))
    with warnings.catch_warnings():
        # A file that is mapped for reading is not writable, and nobody writes to data.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))


def _kept(dtype: torch.dtype) -> torch.dtype:
    """The type in which numbers of this one are kept: float64 is only NumPy's default, and labels are int64."""
    if dtype == torch.float64:
        return torch.get_default_dtype()
    return torch.int64 if dtype in (torch.int16, torch.int32) else dtype
