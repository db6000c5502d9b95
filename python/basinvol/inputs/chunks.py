"""Work on data that may be larger than memory, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .fields import Fields, Inputs

_BYTES = 16 * 2**20  # of a chunk


def chunks(values: Inputs | np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """Ranges of rows, in order, each of which is a few MiB or a single row; one range where the data are small.

    Args:
        values: the data. [N, ...]
    """
    parts = list(values.values.values()) if isinstance(values, Fields) else [values]
    count = len(parts[0])
    each = sum(part.nbytes for part in parts) // max(1, count)
    size = max(1, _BYTES // max(1, each))
    return ((first, min(first + size, count)) for first in range(0, count, size))


def by_chunks(values: Inputs, function: Callable[[Any, int], Tensor | None]) -> Tensor | None:
    """What a function gives for every row, joined; None where it gives None for the first rows. [N]

    Args:
        values: the data, of one row or more. [N, ...]
        function: function(rows [n, ...], n) -> a number for each row [n], or None.
    """
    found = []
    for first, last in chunks(values):
        part = function(values[first:last], last - first)
        if part is None:
            return None
        found.append(part)
    return torch.cat(found) if len(found) > 1 else found[0]
