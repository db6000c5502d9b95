"""What evaluates the losses of units at the parameters of one working copy: threads on the CPU, or a device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ...model.caller import ModelCaller
from ..working_copy import WorkingCopy
from .units import Units, weighted_losses

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Stopped(Exception):
    """The work was given up because another thread failed, or the user interrupted it."""


class Evaluator(Protocol):
    """The weighted losses of units, at the parameters where a working copy was placed.

    Attributes:
        width: how many batches it evaluates at a time.
        kind: how it evaluates, in a few words; empty for the usual way.
    """

    width: int
    kind: str

    def fill(self, values: Tensor, stop: int) -> None:
        """Writes the weighted losses of the batches that hold the first `stop` units.

        Args:
            values: where to write, on the host. [U] float64
            stop: the units that are needed.
        """
        ...

    def totals(self, batches: Sequence[Tensor]) -> list[float]:
        """The summed weighted losses of each of some batches of units, which have at most the usual size."""
        ...


class OnThreads:
    """Evaluates on the CPU, one batch to a thread. See `Evaluator`.

    Args:
        units: the data.
        copy: the perturbed parameters.
        callers: the model, once for every thread.
        stop: set when the work is to be given up.
    """

    kind = ""

    def __init__(self, units: Units, copy: WorkingCopy, callers: Sequence[ModelCaller], stop: threading.Event) -> None:
        self._units, self._copy, self._callers, self._stop = units, copy, callers, stop
        self.width = len(callers)

    def fill(self, values: Tensor, stop: int) -> None:
        """See `Evaluator`."""
        named = self._copy.named

        def evaluate(caller: ModelCaller, batch: tuple[int, int]) -> None:
            part = slice(*batch)
            weighted_losses(self._units, caller, named, part, values[part])

        self._map(evaluate, batches_until(self._units, stop))

    def totals(self, batches: Sequence[Tensor]) -> list[float]:
        """See `Evaluator`."""
        named = self._copy.named

        def total(caller: ModelCaller, units: Tensor) -> float:
            out = torch.empty(len(units), dtype=torch.float64)
            return float(weighted_losses(self._units, caller, named, units, out).sum())

        return self._map(total, batches)

    def _map(self, work: Callable[[ModelCaller, _Item], _Result], items: Sequence[_Item]) -> list[_Result]:
        """The results for all items, in order; thread k of K does every K-th of them."""

        def share(number: int) -> list[_Result]:
            return [self._checked(work, self._callers[number], item) for item in items[number :: len(self._callers)]]

        if len(self._callers) == 1:
            return share(0)
        with ThreadPoolExecutor(len(self._callers), initializer=enter_thread) as pool:
            shares = list(pool.map(share, range(len(self._callers))))
        return [shares[i % len(shares)][i // len(shares)] for i in range(len(items))]

    def _checked(self, work: Callable[[ModelCaller, _Item], _Result], caller: ModelCaller, item: _Item) -> _Result:
        if self._stop.is_set():
            raise Stopped
        return work(caller, item)


class OnDevice:
    """Evaluates on a device, which the host waits for once in each evaluation. See `Evaluator`.

    Args:
        units: the data, on the device.
        copy: the perturbed parameters.
        caller: the model.
        stop: set when the work is to be given up.
    """

    kind = ""
    width = 1

    def __init__(self, units: Units, copy: WorkingCopy, caller: ModelCaller, stop: threading.Event) -> None:
        self.units, self.copy, self.caller, self.stop = units, copy, caller, stop
        self._found = torch.zeros(len(units.weights), dtype=torch.float64, device=copy.device)

    def fill(self, values: Tensor, stop: int) -> None:
        """See `Evaluator`."""
        batches = batches_until(self.units, stop)
        for first, last in batches:
            if self.stop.is_set():
                raise Stopped
            self._evaluate(slice(first, last), self._found[first:last])
        end = batches[-1][1]
        values[:end].copy_(self._found[:end])

    def totals(self, batches: Sequence[Tensor]) -> list[float]:
        """See `Evaluator`."""
        return [float(self._evaluate(which, self._found.new_empty(len(which))).sum()) for which in batches]

    def _evaluate(self, which: slice | Tensor, out: Tensor) -> Tensor:
        return weighted_losses(self.units, self.caller, self.copy.named, which, out)


def batches_until(units: Units, stop: int) -> list[tuple[int, int]]:
    """The batches that hold the first `stop` units."""
    return [(first, last) for first, last in units.batches if first < stop]


def enter_thread() -> None:
    """Sets what belongs to a thread: no gradients are needed in it."""
    torch.set_grad_enabled(False)
