"""The smallest parts of the data whose losses are known: examples where the loss is known by example, else batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ...inputs.row_loss import RowLoss, row_loss
from ...model.caller import ModelCaller, given_targets
from ...model.landscape import Landscape

_SAME = 1e-5  # a loss by example must have this mean, relatively, or it is not that loss
_FLOOR = 1e-6  # ... but for a network that fits exactly


class Units(Protocol):
    """The data as units in order, each of which has a weight, and a loss times that weight at any parameters.

    Attributes:
        weights: the weight of each unit in the mean. [U] float64
        stops: how many units each level has. [L]
        batches: the ranges of units that are evaluated at once.
        kind: what a unit is, in a word.
    """

    weights: Tensor
    stops: tuple[int, ...]
    batches: list[tuple[int, int]]

    @property
    def kind(self) -> str: ...

    def sums(self, caller: ModelCaller, named: Mapping[str, Tensor], units: slice | Tensor) -> Tensor:
        """The weighted losses of some units, at most as many as a batch has. [len(units)] float64"""
        ...


def units_of(landscape: Landscape) -> tuple[Units, bool]:
    """The units of a landscape, and whether their losses are never negative."""
    by_row = row_loss(landscape.loss_fn)
    if by_row is not None:
        try:
            examples = Examples(landscape, by_row)
            is_nonnegative = examples.check(landscape)
        except (_Differs, RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            pass  # a loss that needs its batch whole has no losses by example
        else:
            return examples, is_nonnegative
    return Batches(landscape), False


class _Differs(Exception):
    """The losses by example do not add up to the loss."""


class Examples:
    """Units that are examples. See `Units`."""

    kind = "example"

    def __init__(self, landscape: Landscape, by_row: RowLoss) -> None:
        self._inputs, self._targets, self._by_row = landscape.inputs, landscape.targets, by_row
        self.stops = landscape.levels
        count, size = landscape.num_examples, landscape.batch_size
        # Batches do not end at levels: the loss of a level is then the same number, whichever levels are asked for.
        self.batches = [(first, min(first + size, count)) for first in range(0, count, size)]
        known = by_row.weights(given_targets(self._targets), count)
        self.weights = torch.ones(count, dtype=torch.float64) if known is None else known.cpu()
        self._has_weights = known is not None

    def check(self, landscape: Landscape) -> bool:
        """Holds the losses by example against the loss itself; returns whether no example's loss can be negative.

        Raises:
            _Differs: they do not add up to it.
        """
        is_nonnegative = True
        caller = landscape.caller
        count = landscape.num_examples
        with landscape.measuring():
            if not self._has_weights:
                self.weights *= self._terms(caller)
            for first, last in {self.batches[0], (count - 1, count), (0, 1), (count // 2, count // 2 + 1)}:
                weight = float(self.weights[first:last].sum())
                if not weight > 0.0:
                    continue
                found = float(self.sums(caller, {}, slice(first, last)).sum()) / weight
                expected = float(landscape.loss_at({}, first, last))
                if not abs(found - expected) <= _SAME * abs(expected) + _FLOOR:
                    raise _Differs
            for first, last in self.batches:
                is_nonnegative = is_nonnegative and self._is_nonnegative(caller, first, last)
        return is_nonnegative

    def _is_nonnegative(self, caller: ModelCaller, first: int, last: int) -> bool:
        targets = given_targets(self._targets[first:last])
        return caller.apply({}, self._inputs[first:last], lambda o: self._by_row.is_nonnegative(o, targets))

    def _terms(self, caller: ModelCaller) -> int:
        targets = given_targets(self._targets[:1])
        return caller.apply({}, self._inputs[:1], lambda outputs: self._by_row.sums(outputs, targets, 1)[1])

    def sums(self, caller: ModelCaller, named: Mapping[str, Tensor], units: slice | Tensor) -> Tensor:
        """See `Units`."""
        inputs, targets = self._inputs[units], given_targets(self._targets[units])
        count = len(inputs)
        return caller.apply(named, inputs, lambda outputs: self._by_row.sums(outputs, targets, count)[0]).cpu()


class Batches:
    """Units that are batches, of a loss that is only known as the mean of one. See `Units`."""

    kind = "batch"

    def __init__(self, landscape: Landscape) -> None:
        self._landscape = landscape
        self._rows: list[tuple[int, int]] = []
        stops, start = [], 0
        for stop in landscape.levels:
            for first in range(start, stop, landscape.batch_size):
                self._rows.append((first, min(first + landscape.batch_size, stop)))
            stops.append(len(self._rows))
            start = stop
        self.stops = tuple(stops)
        self.weights = torch.tensor([landscape.weight(*rows) for rows in self._rows], dtype=torch.float64)
        self.batches = [(unit, unit + 1) for unit in range(len(self._rows))]

    def sums(self, caller: ModelCaller, named: Mapping[str, Tensor], units: slice | Tensor) -> Tensor:
        """See `Units`."""
        (unit,) = range(*units.indices(len(self._rows))) if isinstance(units, slice) else units.tolist()
        weight = self.weights[unit : unit + 1]
        if not float(weight) > 0.0:  # the mean of a batch in which no target counts is 0/0
            return torch.zeros(1, dtype=torch.float64)
        first, last = self._rows[unit]
        loss = self._landscape.loss_at(named, first, last, caller)
        return loss.double().cpu().reshape(1) * weight
