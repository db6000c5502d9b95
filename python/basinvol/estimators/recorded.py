"""Batched functions whose operations are recorded once and then called one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

_LARGEST = 2**20  # numbers in a pass; in larger ones the operations take longer than calling them
_SMALLEST = 2**13  # numbers in a pass; smaller ones take no less time, and another record
_CALLS_BEFORE = 2  # recording costs as much as a hundred calls, which functions that are called once do not repay
_FEWEST = 8  # points


class Recorded:
    """A function of one tensor that gives the same bytes as `function`, three times as fast where tensors are small.

    `torch.func` decides anew at every call how each operation is batched and differentiated, which for small tensors
    takes most of the time. Here its decisions are recorded (`torch.fx`), once for each number of points. These numbers
    are rounded up to a power of two, and small ones to one number, by repeating a point, so that chains that finish one
    after the other need few records. A function that cannot be recorded is called as it is.

    Args:
        function: what `torch.func.vmap` returned, which has no control flow that depends on numbers: points [K, P] to
            one tensor or a tuple of tensors whose first dimension is K.
        cost: numbers that a pass computes with, at least, for each point.
        calling: what is to be entered around every call of `function`. A record does without: it calls no model.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Any],
        cost: int,
        calling: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._function, self._most, self._calling = function, _LARGEST // cost, calling
        self._fewest = max(_FEWEST, 2 ** (_SMALLEST // cost).bit_length() // 2)
        self._calls: dict[int, int] = {}
        self._programs: dict[int, Callable[[Tensor], Any] | None] = {}  # None: cannot be recorded

    def __call__(self, points: Tensor) -> Any:
        """What the function returns at these points. [K, P]"""
        count = len(points)
        size = max(self._fewest, 1 << (count - 1).bit_length())
        if count == 0 or size > self._most:
            with self._calling():
                return self._function(points)
        found = self._at(torch.cat([points, points[-1:].expand(size - count, -1)]) if size > count else points)
        return found[:count] if isinstance(found, Tensor) else tuple(part[:count] for part in found)

    def _at(self, points: Tensor) -> Any:
        program = self._programs.get(len(points))
        if program is not None:
            with torch.no_grad():
                return program(points)
        calls = self._calls[len(points)] = self._calls.get(len(points), 0) + 1
        with self._calling():
            if calls > _CALLS_BEFORE and len(points) not in self._programs:
                self._programs[len(points)] = self._record(points)
            return self._function(points)

    def _record(self, points: Tensor) -> Callable[[Tensor], Any] | None:
        try:
            program: Callable[[Tensor], Any] = make_fx(self._function)(points)
        except Exception:  # noqa: BLE001  (torch.fx raises errors of many kinds; without a record only time is lost)
            return None
        return program
