"""Levels that an engine adds for its own use: few examples, which tell where to look on many."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ..search.radii import Radii, Status

# A level that is this many times its predecessor gets a scout of that share of its examples: 4 evaluations of a scout
# cost a quarter of one evaluation and save about one.
_SCOUT_SHARE = 16
_MIN_SCOUT = 240  # examples; smaller ones predict badly and are not worth a pass
_FIELDS = ("lower", "upper", "radius", "value_lower", "value_upper", "slope")


def scouts_of(levels: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers of examples of the scouts of some levels, which increase."""
    scouts = []
    for smaller, level in zip((0, *levels), levels, strict=False):
        scout = level // _SCOUT_SHARE
        if scout >= max(_MIN_SCOUT, 2 * smaller):  # the level below already predicts as well as a scout of its size
            scouts.append(scout)
    return tuple(scouts)


def with_scouts(known: Radii, every: tuple[int, ...]) -> Radii:
    """The same radii with scouts between the levels, which are marked as finished; without their trace.

    Args:
        known: the radii on the landscape's levels. [L, C, n]
        every: these levels and the scouts, in increasing order.
    """
    rows = [every.index(level) for level in known.levels]

    def spread(values: Tensor, finished: float) -> Tensor:
        everywhere = torch.full((len(every), *values.shape[1:]), finished, dtype=values.dtype)
        everywhere[rows] = values
        return everywhere

    fields: dict[str, Any] = {name: spread(getattr(known, name), 0.0) for name in _FIELDS}
    status = spread(known.status_code, Status.CENTER_OUTSIDE.code)
    return dataclasses.replace(known, **fields, status_code=status, levels=every, trace=None)
