"""Data in the forms that users have them, read into inputs and targets."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .fields import Fields, Inputs

_READ_BATCH = 512  # examples of a Dataset that are read at a time


def read_data(data: Any) -> tuple[Inputs, Inputs]:
    """Inputs [N, ...] and targets [N, ...], in the order of the data.

    The data may be (inputs, targets) as tensors or NumPy arrays, where the inputs may be a tuple of several, or a
    dictionary of named tensors, which is inputs and targets in one; or a map-style Dataset, a DataLoader, or any other
    iterable of such batches. Data that can be read twice are read twice: a landscape is one function, and shuffling or
    augmentation would make it another on every reading. Random states are left as they were.

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
    parts = {"inputs": inputs} if isinstance(inputs, Tensor) else {f"inputs {n!r}": v for n, v in inputs.values.items()}
    return {**parts, "targets": targets} if isinstance(targets, Tensor) else parts


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
        tensor = torch.from_numpy(np.ascontiguousarray(part))
    except TypeError as error:
        raise ValueError(f"`data` holds an array that torch cannot take: {error}.") from error
    if tensor.dtype == torch.float64:
        return tensor.to(torch.get_default_dtype())
    return tensor.long() if tensor.dtype in (torch.int16, torch.int32) else tensor


def _read_batches(data: Any) -> tuple[Inputs, Inputs]:
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, (Iterable, Dataset)):
        raise ValueError(f"{_EXPECTED}; got {'None' if data is None else f'a {type(data).__name__}'}.")
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        data = DataLoader(data, batch_size=_READ_BATCH)
    with _random_states():
        batches = [_checked(batch) for batch in data]
        if not batches:
            raise ValueError("`data` is empty: a loss needs at least one example.")
        is_one_pass = iter(data) is data  # a generator is its own iterator, and is used up
        if not is_one_pass and not _is_same(batches, data):
            raise ValueError(
                "`data` gives other values on a second pass, by shuffling or augmentation, and a loss on it is another "
                "function each time; pass a DataLoader with shuffle=False and without random transforms, or tensors."
            )
    inputs = _joined([inputs for inputs, _ in batches])
    return inputs, inputs if batches[0][0] is batches[0][1] else _joined([targets for _, targets in batches])


def _joined(parts: list[Inputs]) -> Inputs:
    first = parts[0]
    if any(type(part) is not type(first) for part in parts):
        raise ValueError("the batches of `data` cannot be joined: some are dictionaries, and others are not.")
    try:
        if isinstance(first, Tensor):
            return torch.cat(cast(list[Tensor], parts))
        fields = cast(list[Fields], parts)
        if any(part.values.keys() != first.values.keys() for part in fields):
            names = sorted({tuple(part.values) for part in fields})
            raise ValueError(f"the batches of `data` cannot be joined: their fields differ, {names}.")
        joined = {name: torch.cat([part.values[name] for part in fields]) for name in first.values}
        return Fields(joined, first.is_named)
    except RuntimeError as error:
        ragged = "; pad all examples to one length" if not isinstance(first, Tensor) else ""
        raise ValueError(f"the batches of `data` cannot be joined: {str(error).splitlines()[0]}{ragged}.") from error


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


def _is_same(batches: list[tuple[Inputs, Inputs]], data: Iterable[Any]) -> bool:
    count = 0
    for first, second in zip(batches, data, strict=False):
        count += 1
        ours, theirs = _parts(*first), _parts(*_checked(second))
        if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
            # NaN differs from itself, and is refused as such.
            return any(bool(torch.isnan(part.double()).any()) for part in ours.values())
    return count == len(batches)


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    """Restores the user's random states, from which loaders draw seeds and transforms draw numbers."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the state that users share)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _check_finite(name: str, values: Tensor) -> None:
    if values.is_complex() or not values.is_floating_point():
        return
    bad = ~torch.isfinite(values.reshape(len(values), -1)).all(dim=1)
    if bool(bad.any()):
        raise ValueError(
            f"the {name} in `data` hold NaN or infinity in {int(bad.sum())} of {len(values)} examples, "
            f"the first is example {int(bad.nonzero()[0])}; remove or repair them."
        )
