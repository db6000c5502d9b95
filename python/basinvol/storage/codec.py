"""Results as a document of plain JSON and the arrays that it refers to, and back."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[Any]]

# What JSON has no word for is an object with one of these keys.
_NUMBER, _TUPLE, _MAPPING, _ENUM, _TENSOR, _ARRAY, _TYPE = (
    "number",
    "tuple",
    "mapping",
    "enum",
    "tensor",
    "array",
    "type",
)


def encode(value: Any, arrays: Arrays, place: str = "") -> Any:
    """The value as plain JSON; its tensors and arrays are added to `arrays` under the names of their fields.

    Args:
        value: a dataclass, a tensor, an array, an enum, a number, a text, or mappings and sequences of these.
        arrays: where tensors and arrays go.
        place: name of the value, for the names of its arrays and for messages.

    Raises:
        ValueError: a value is of another kind; the message says where it is.
    """
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if isinstance(value, enum.Enum):
        return {_ENUM: type(value).__name__, "name": value.name}
    if isinstance(value, np.generic):
        return encode(value.item(), arrays, place)
    if isinstance(value, float):
        return value if math.isfinite(value) else {_NUMBER: str(value)}
    if isinstance(value, Tensor):
        arrays[place] = value.detach().cpu().numpy()
        return {_TENSOR: place}
    if isinstance(value, np.ndarray) and value.dtype != object:
        arrays[place] = value
        return {_ARRAY: place}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            part.name: encode(getattr(value, part.name), arrays, _below(place, part.name))
            for part in dataclasses.fields(value)
        }
        return {_TYPE: type(value).__name__, "fields": fields}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_MAPPING: {key: encode(part, arrays, _below(place, key)) for key, part in value.items()}}
    if isinstance(value, (tuple, list)):
        parts = [encode(part, arrays, _below(place, str(i))) for i, part in enumerate(value)]
        return {_TUPLE: parts} if isinstance(value, tuple) else parts
    raise ValueError(
        f"`{place}` is a {type(value).__name__}, which cannot be saved; numbers, texts, tensors, arrays, and lists and "
        "dictionaries of these can."
    )


def decode(document: Any, arrays: Mapping[str, NDArray[Any]], types: Mapping[str, type]) -> Any:
    """The value that `encode` was given. Only the types that are named are made, and no code of the file runs.

    Args:
        document: what `encode` returned.
        arrays: the arrays that it refers to.
        types: dataclasses and enums by name.

    Raises:
        ValueError: the document refers to a type or a field that is not known.
    """
    if isinstance(document, list):
        return [decode(part, arrays, types) for part in document]
    if not isinstance(document, dict):
        return document
    match document:
        case {"number": text}:
            return float(text)
        case {"tuple": parts}:
            return tuple(decode(part, arrays, types) for part in parts)
        case {"mapping": parts}:
            return {key: decode(part, arrays, types) for key, part in parts.items()}
        case {"enum": kind, "name": name}:
            return _known(types, kind)[name]  # type: ignore[index]  # of an enum, this is the member
        case {"tensor": name}:
            return torch.from_numpy(np.array(arrays[name]))  # a copy, which may be written to
        case {"array": name}:
            return arrays[name]
        case {"type": kind, "fields": fields}:
            values = {name: decode(part, arrays, types) for name, part in fields.items()}
            try:
                return _known(types, kind)(**values)
            except TypeError as error:
                raise ValueError(f"its {kind} has other fields than this version of basinvol knows: {error}") from error
    raise ValueError(f"it holds an object that no version of basinvol writes: {sorted(document)}")


def _known(types: Mapping[str, type], name: str) -> type:
    if name not in types:
        raise ValueError(f"it holds a {name!r}, which this version of basinvol does not know")
    return types[name]


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
