"""Data in the forms that users have them, read into inputs and targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .arrays import of_array
from .chunks import chunks
from .fields import Fields, Inputs
from .random_states import random_states
from .spool import Spool

_READ_BATCH = 64  # examples of a Dataset that are read at a time: memory holds a few such batches


def read_data(data: Any) -> tuple[Inputs, Inputs]:
    """Inputs [N, ...] and targets [N, ...], in the order of the data.

    The data may be (inputs, targets) as tensors or NumPy arrays, where the inputs may be a tuple of several, or a
    dictionary of named tensors, which is inputs and targets in one; or a map-style Dataset, a DataLoader, or any other
    iterable of such batches. Data that can be read twice are read twice: a landscape is one function, and shuffling or
    augmentation would make it another on every reading. Random states are left as they were. Batches that take
    more than a quarter of the memory that is available go to temporary files, and the tensors read from there.

    Raises:
        ValueError: the data have none of these forms, are empty or inconsistent, hold NaN or infinity, or give other
            values on a second pass.
    """
    inputs, targets = _as_batch(data) if _is_batch(data) else _read_batches(data)
    parts = _parts(inputs, targets)
    if any(values.ndim == 0 or len(values) != len(next(iter(parts.values()))) for values in parts.values()):
        shapes = " and ".join(f"{name} of shape {list(values.shape)}" for name, values in parts.items())
        raise ValueError(f"`data` must hold as many targets as inputs, got {shapes}.")
    if len(inputs) == 0:
        raise ValueError("`data` is empty: a loss needs at least one example.")
    for name, values in parts.items():
        _check_finite(name, values)
    return inputs.detach(), targets.detach()


def _parts(inputs: Inputs, targets: Inputs) -> dict[str, Tensor]:
    """All tensors, by the names that messages use."""
    parts = {"inputs": inputs} if isinstance(inputs, Tensor) else {_field(n): v for n, v in inputs.values.items()}
    return {**parts, "targets": targets} if isinstance(targets, Tensor) else parts


def _field(name: str) -> str:
    return f"inputs {name!r}"


def _whole(form: tuple[Inputs, Inputs], parts: Mapping[str, Tensor]) -> tuple[Inputs, Inputs]:
    """Inputs and targets of these parts, in the form of a batch."""
    first, targets = form
    if isinstance(first, Tensor):
        return parts["inputs"], parts["targets"]
    inputs = Fields({name: parts[_field(name)] for name in first.values}, first.is_named)
    return inputs, parts["targets"] if isinstance(targets, Tensor) else inputs


def _is_batch(data: Any) -> bool:
    """Whether this is one batch: a dictionary of arrays, or a pair of inputs (or a tuple of several) and targets."""
    if isinstance(data, Mapping):
        return len(data) > 0 and all(_is_array(part) for part in data.values())
    if not isinstance(data, (tuple, list)) or len(data) != 2 or not _is_array(data[1]):
        return False
    several = isinstance(data[0], tuple) and len(data[0]) > 0 and all(_is_array(part) for part in data[0])
    return _is_array(data[0]) or several


def _as_batch(batch: Any) -> tuple[Inputs, Inputs]:
    if isinstance(batch, Mapping):
        fields = Fields.of({str(name): _as_tensor(part) for name, part in batch.items()})
        return fields, fields  # a loss of a dictionary finds its targets there
    inputs, targets = batch
    several = isinstance(inputs, tuple)
    return Fields.of(tuple(map(_as_tensor, inputs))) if several else _as_tensor(inputs), _as_tensor(targets)


def _is_array(part: object) -> bool:
    return isinstance(part, (Tensor, np.ndarray))


def _as_tensor(part: Tensor | np.ndarray[Any, Any]) -> Tensor:
    """The array as a tensor; float64, which is only NumPy's default, becomes torch's default type."""
    if isinstance(part, Tensor):
        return part
    try:
        return of_array(part)
    except TypeError as error:
        raise ValueError(f"`data` holds an array that torch cannot take: {error}.") from error


def _read_batches(data: Any) -> tuple[Inputs, Inputs]:
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, (Iterable, Dataset)):
        raise ValueError(f"{_EXPECTED}; got {'None' if data is None else f'a {type(data).__name__}'}.")
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        data = DataLoader(data, batch_size=_READ_BATCH)
    with random_states(), Spool() as spool:
        form = _collect(data, spool)
        is_one_pass = iter(data) is data  # a generator is its own iterator, and is used up
        if not is_one_pass and not _is_same(spool, data):
            raise ValueError(
                "`data` gives other values on a second pass, by shuffling or augmentation, and a loss on it is another "
                "function each time; pass a DataLoader with shuffle=False and without random transforms, or tensors."
            )
        return _whole(form, spool.tensors())


def _collect(data: Iterable[Any], spool: Spool) -> tuple[Inputs, Inputs]:
    """Puts all batches into the spool; returns the first, in whose form they are."""
    form: tuple[Inputs, Inputs] | None = None
    for batch in data:
        inputs, targets = _checked(batch)
        form = form or (inputs, targets)
        _check_form(form[0], inputs)
        try:
            spool.add(_parts(inputs, targets))
        except RuntimeError as error:
            ragged = "; pad all examples to one length" if not isinstance(inputs, Tensor) else ""
            reason = str(error).splitlines()[0].rstrip(".")
            raise ValueError(f"the batches of `data` cannot be joined: {reason}{ragged}.") from error
    if form is None:
        raise ValueError("`data` is empty: a loss needs at least one example.")
    spool.flush()
    return form


def _check_form(first: Inputs, inputs: Inputs) -> None:
    if type(inputs) is not type(first):
        raise ValueError("the batches of `data` cannot be joined: some are dictionaries, and others are not.")
    if isinstance(first, Fields) and isinstance(inputs, Fields) and first.values.keys() != inputs.values.keys():
        names = sorted((tuple(first.values), tuple(inputs.values)))
        raise ValueError(f"the batches of `data` cannot be joined: their fields differ, {names}.")


_EXPECTED = (
    "`data` must be (inputs, targets) tensors or give batches of two tensors, as a Dataset or DataLoader does; NumPy "
    "arrays, tuples of several inputs and dictionaries of tensors are taken too"
)


def _checked(batch: Any) -> tuple[Inputs, Inputs]:
    if not _is_batch(batch):
        kind = f"a {type(batch).__name__}"
        if isinstance(batch, (tuple, list)):
            kind += f" of {len(batch)} ({', '.join(type(part).__name__ for part in batch)})"
        raise ValueError(f"{_EXPECTED}; got {kind}.")
    return _as_batch(batch)


def _is_same(spool: Spool, data: Iterable[Any]) -> bool:
    """Whether a second pass gives what the first one gave, batch by batch and in the same order."""
    lengths = spool.lengths()
    seen = dict.fromkeys(lengths, 0)
    for batch in data:
        parts = _parts(*_checked(batch))
        if parts.keys() != lengths.keys():
            return False
        for name, theirs in parts.items():
            last = seen[name] + (len(theirs) if theirs.ndim else 1)
            ours = spool.rows(name, seen[name], last)
            if not _is_equal(ours, theirs):
                # NaN differs from itself, and is refused as such.
                return bool(torch.isnan(ours).any())
            seen[name] = last
    return seen == lengths


def _is_equal(ours: Tensor, theirs: Tensor) -> bool:
    # The type of batches of several types is the widest of them.
    is_like = theirs.dtype == ours.dtype or torch.promote_types(theirs.dtype, ours.dtype) == ours.dtype
    return is_like and theirs.device == ours.device and torch.equal(ours, theirs.to(ours.dtype))


def _check_finite(name: str, values: Tensor) -> None:
    if values.is_complex() or not values.is_floating_point():
        return
    count, first_bad = 0, -1
    for first, last in chunks(values):
        bad = ~torch.isfinite(values[first:last].reshape(last - first, -1)).all(dim=1)
        if bool(bad.any()):
            first_bad = first + int(bad.nonzero()[0]) if count == 0 else first_bad
            count += int(bad.sum())
    if count > 0:
        raise ValueError(
            f"the {name} in `data` hold NaN or infinity in {count} of {len(values)} examples, "
            f"the first is example {first_bad}; remove or repair them."
        )
