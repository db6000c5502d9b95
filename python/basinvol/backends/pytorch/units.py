"""The smallest parts of the data whose losses are known: examples where the loss is known by example, else batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ...inputs.fields import Inputs
from ...inputs.row_loss import RowLoss, row_loss, row_weights
from ...model.caller import ModelCaller, given_targets
from ...model.landscape import Landscape, as_scalar
from .proof_order import classes_of

_SAME = 1e-5  # a loss by example must have this mean, relatively, or it is not that loss
_FLOOR = 1e-6  # ... but for a network that fits exactly


class Units(Protocol):
    """The data as units in order, each of which has a weight, and a loss times that weight at any parameters.

    Attributes:
        weights: the weight of each unit in the mean. [U] float64
        stops: how many units each level has. [L]
        batches: the ranges of units that are evaluated at once.
        data: inputs and targets, on the device. [N, ...] each
        classes: the class of each unit, where it has one. [U] int64
        kind: what a unit is, in a word.
    """

    weights: Tensor
    stops: tuple[int, ...]
    batches: list[tuple[int, int]]
    data: tuple[Inputs, Inputs]
    classes: Tensor | None

    @property
    def kind(self) -> str: ...

    def rows(self, units: slice | Tensor) -> slice | Tensor:
        """The rows of the data that some units are made of."""
        ...

    def factor(self, units: slice | Tensor) -> float:
        """What the losses of some units are multiplied by; where it is 0, they are not evaluated."""
        ...

    def losses(self, caller: ModelCaller, named: Mapping[str, Tensor], inputs: Inputs, targets: Inputs) -> Tensor:
        """The losses of the units that some rows are, before `factor`, on the device. [U] float64

        Args:
            caller: the model.
            named: tensors in place of the parameters of these names.
            inputs, targets: the rows of the units. [n, ...] each
        """
        ...


def weighted_losses(
    units: Units, caller: ModelCaller, named: Mapping[str, Tensor], which: slice | Tensor, out: Tensor
) -> Tensor:
    """Evaluates some units, at most as many as a batch has; writes and returns their weighted losses.

    Args:
        units: the data.
        caller: the model.
        named: tensors in place of the parameters of these names.
        which: the units.
        out: where to write, on any device. [len(which)] float64
    """
    factor = units.factor(which)
    if not factor > 0.0:
        return out.zero_()
    inputs, targets = units.data
    rows = units.rows(which)
    out.copy_(units.losses(caller, named, inputs[rows], targets[rows]))
    return out if factor == 1.0 else out.mul_(factor)


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
        self.data, self._by_row = (landscape.inputs, landscape.targets), by_row
        self.stops = landscape.levels
        self.classes = classes_of(landscape.targets)
        count, size = landscape.num_examples, landscape.batch_size
        # Batches do not end at levels: the loss of a level is then the same number, whichever levels are asked for.
        self.batches = [(first, min(first + size, count)) for first in range(0, count, size)]
        known = row_weights(by_row, landscape.targets)
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
                found = weighted_losses(self, caller, {}, slice(first, last), self.weights.new_empty(last - first))
                expected = float(landscape.loss_at({}, first, last))
                if not abs(float(found.sum()) / weight - expected) <= _SAME * abs(expected) + _FLOOR:
                    raise _Differs
            for first, last in self.batches:
                is_nonnegative = is_nonnegative and self._is_nonnegative(caller, first, last)
        return is_nonnegative

    def _is_nonnegative(self, caller: ModelCaller, first: int, last: int) -> bool:
        inputs, targets = self.data[0][first:last], given_targets(self.data[1][first:last])
        return caller.apply({}, inputs, lambda o: self._by_row.is_nonnegative(o, targets))

    def _terms(self, caller: ModelCaller) -> int:
        inputs, targets = self.data[0][:1], given_targets(self.data[1][:1])
        return caller.apply({}, inputs, lambda outputs: self._by_row.sums(outputs, targets, 1)[1])

    def rows(self, units: slice | Tensor) -> slice | Tensor:
        """See `Units`."""
        return units

    def factor(self, units: slice | Tensor) -> float:
        """See `Units`. The losses are sums over terms already."""
        return 1.0

    def losses(self, caller: ModelCaller, named: Mapping[str, Tensor], inputs: Inputs, targets: Inputs) -> Tensor:
        """See `Units`."""
        given, count = given_targets(targets), len(inputs)
        return caller.apply(named, inputs, lambda outputs: self._by_row.sums(outputs, given, count)[0])


class Batches:
    """Units that are batches, of a loss that is only known as the mean of one. See `Units`."""

    kind = "batch"
    classes: Tensor | None = None

    def __init__(self, landscape: Landscape) -> None:
        self.data = landscape.inputs, landscape.targets
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

    def rows(self, units: slice | Tensor) -> slice | Tensor:
        """See `Units`."""
        return slice(*self._rows[self._only(units)])

    def factor(self, units: slice | Tensor) -> float:
        """See `Units`. The mean of a batch in which no target counts is 0/0."""
        return float(self.weights[self._only(units)])

    def losses(self, caller: ModelCaller, named: Mapping[str, Tensor], inputs: Inputs, targets: Inputs) -> Tensor:
        """See `Units`."""
        return as_scalar(caller.loss(named, inputs, targets)).double().reshape(1)

    def _only(self, units: slice | Tensor) -> int:
        (unit,) = range(*units.indices(len(self._rows))) if isinstance(units, slice) else units.tolist()
        return int(unit)
