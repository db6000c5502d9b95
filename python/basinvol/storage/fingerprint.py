"""Short texts that tell values apart: equal values give equal texts, in every process and on every machine."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BYTES = 16


def fingerprint(*values: Any) -> str:
    """A text that differs where any value differs: tensors by their elements, dataclasses by their fields.

    Functions and objects of other kinds count with their names and types alone.
    """
    digest = hashlib.blake2b(digest_size=_BYTES)
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Adds a value with its kind and its length, so that no two values run into each other."""
    if isinstance(value, Tensor):
        array = value.detach().to("cpu").contiguous()
        digest.update(f"tensor {value.dtype} {list(value.shape)};".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype} {list(value.shape)};".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, enum.Enum):
        digest.update(f"{type(value).__name__}.{value.name};".encode())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        digest.update(f"{type(value).__name__};".encode())
        for part in dataclasses.fields(value):
            digest.update(f"{part.name};".encode())
            _feed(digest, getattr(value, part.name))
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)};".encode())
        for key, part in value.items():
            _feed(digest, key)
            _feed(digest, part)
    elif isinstance(value, (tuple, list)):
        digest.update(f"sequence {len(value)};".encode())
        for part in value:
            _feed(digest, part)
    elif value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device)):
        text = repr(value)
        digest.update(f"{type(value).__name__} {len(text)} {text};".encode())
    else:
        digest.update(f"{name_of(value)};".encode())


def name_of(value: Any) -> str:
    """The name of a function, or of the type of an object, with its module."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}"
