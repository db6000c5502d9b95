"""Data in the forms that users have them, read into two tensors."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

_READ_BATCH = 512  # examples of a Dataset that are read at a time


def read_data(data: Any) -> tuple[Tensor, Tensor]:
    """Inputs [N, ...] and targets [N, ...], in the order of the data.

    The data may be (inputs, targets) as tensors or NumPy arrays, a map-style Dataset, a DataLoader, or any other
    iterable of such batches. Data that can be read twice are read twice: a landscape is one function, and shuffling or
    augmentation would make it another on every reading. Random states are left as they were.

    Raises:
        ValueError: the data have none of these forms, are empty or inconsistent, hold NaN or infinity, or give other
            values on a second pass.
    """
    inputs, targets = _pair(data) if _is_pair(data) else _read_batches(data)
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise ValueError(
            "`data` must hold as many targets as inputs, got inputs of shape "
            f"{list(inputs.shape)} and targets of shape {list(targets.shape)}."
        )
    if len(inputs) == 0:
        raise ValueError("`data` is empty: a loss needs at least one example.")
    for name, values in (("inputs", inputs), ("targets", targets)):
        _check_finite(name, values)
    return inputs.detach(), targets.detach()


def _is_pair(data: Any) -> bool:
    return isinstance(data, (tuple, list)) and len(data) == 2 and all(_is_array(part) for part in data)


def _is_array(part: object) -> bool:
    return isinstance(part, (Tensor, np.ndarray))


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    inputs, targets = (_as_tensor(part) for part in batch)
    return inputs, targets


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


def _read_batches(data: Any) -> tuple[Tensor, Tensor]:
    if isinstance(data, (str, bytes, dict)) or not isinstance(data, (Iterable, Dataset)):
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
    try:
        return torch.cat([inputs for inputs, _ in batches]), torch.cat([targets for _, targets in batches])
    except RuntimeError as error:
        raise ValueError(f"the batches of `data` cannot be joined: {str(error).splitlines()[0]}.") from error


_EXPECTED = (
    "`data` must be (inputs, targets) tensors or give batches of two tensors, as a Dataset or DataLoader does; NumPy "
    "arrays are taken too"
)


def _checked(batch: Any) -> tuple[Tensor, Tensor]:
    if not _is_pair(batch):
        kind = f"a {type(batch).__name__}"
        if isinstance(batch, (tuple, list)):
            kind += f" of {len(batch)} ({', '.join(type(part).__name__ for part in batch)})"
        raise ValueError(f"{_EXPECTED}; got {kind}.")
    return _pair(batch)


def _is_same(batches: list[tuple[Tensor, Tensor]], data: Iterable[Any]) -> bool:
    count = 0
    for first, second in zip(batches, data, strict=False):
        count += 1
        if not all(torch.equal(a, b) for a, b in zip(first, _checked(second), strict=True)):
            return bool(torch.isnan(first[0].double()).any())  # NaN differs from itself, and is refused as such
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
