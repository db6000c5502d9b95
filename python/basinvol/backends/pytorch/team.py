"""Threads that evaluate one perturbed network at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ...model.caller import ModelCaller
from ..working_copy import WorkingCopy
from .units import Units

# By how much a sum over examples in another order and other batches may differ from that in the order of the data.
_PROOF_MARGIN = 1e-3

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Stopped(Exception):
    """The work was given up because another thread failed, or the user interrupted it."""


class Team:
    """One working copy of the parameters, and one thread for each of its callers.

    A mean loss is summed in the order of the data, whichever thread evaluated which batch.

    Args:
        copy: the perturbed parameters.
        callers: the model, once for every thread.
        units: the data.
        stop: set when the work is to be given up.
    """

    def __init__(self, copy: WorkingCopy, callers: Sequence[ModelCaller], units: Units, stop: threading.Event) -> None:
        self._copy, self._callers, self._units, self._stop = copy, callers, units, stop
        self._weights = [float(units.weights[:stop].sum()) for stop in units.stops]
        self._values = torch.zeros(len(units.weights), dtype=torch.float64)

    @property
    def num_threads(self) -> int:
        """How many batches are evaluated at a time."""
        return len(self._callers)

    def aim(self, index: int) -> float:
        """Turns to a direction; returns the norm of its Gaussian vector."""
        return self._copy.aim(index)

    def losses(self, radius: float, num_levels: int) -> list[float]:
        """Mean losses on the first levels at a radius. [num_levels]"""
        self._copy.place(radius)
        values = self._evaluate(num_levels).numpy()
        means, total, start = [], 0.0, 0
        for stop, weight in zip(self._units.stops[:num_levels], self._weights, strict=False):
            total += float(values[start:stop].sum())  # by NumPy, whose sums do not depend on threads
            means.append(total / weight)
            start = stop
        return means

    def values(self, radius: float) -> Tensor:
        """The weighted losses of all units at a radius. [U] float64"""
        self._copy.place(radius)
        return self._evaluate(len(self._units.stops)).clone()

    def proves_outside(self, radius: float, cutoff: float, order: Sequence[Tensor], level: int) -> float | None:
        """A lower bound of the mean loss on a level that is above the cutoff, from few of its units, or None.

        Args:
            radius: where.
            cutoff: the loss to be above.
            order: batches of the level's units, the hardest first.
            level: index of the level.
        """
        self._copy.place(radius)
        weight, total = self._weights[level], 0.0
        size = len(self._callers)
        for first in range(0, len(order), size):  # as many batches at a time as there are threads
            for part in self._map(self._sum_of, order[first : first + size]):
                total += part
                # Written so that a NaN counts as outside.
                if not total <= cutoff * weight * (1.0 + _PROOF_MARGIN):
                    return total / weight
        return None

    def _evaluate(self, num_levels: int) -> Tensor:
        stop = self._units.stops[num_levels - 1]
        batches = [(first, last) for first, last in self._units.batches if first < stop]

        def evaluate(caller: ModelCaller, batch: tuple[int, int]) -> None:
            first, last = batch
            self._values[first:last] = self._units.sums(caller, self._copy.named, slice(first, last))

        self._map(evaluate, batches)
        return self._values

    def _sum_of(self, caller: ModelCaller, units: Tensor) -> float:
        return float(self._units.sums(caller, self._copy.named, units).sum())

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


def enter_thread() -> None:
    """Sets what belongs to a thread: no gradients are needed in it."""
    torch.set_grad_enabled(False)


def run_teams(
    teams: Iterable[Team], work: Callable[[Team, int], _Result], count: int, stop: threading.Event
) -> list[_Result]:
    """The results of some pieces of work, each done by the next team that is free.

    Args:
        teams: who works.
        work: work(team, number) -> the result of a piece.
        count: number of pieces.
        stop: the event that the teams watch.

    Raises:
        Exception: whatever a piece of work raises, once all teams have stopped.
    """
    free = list(teams)
    lock = threading.Lock()

    def one(number: int) -> _Result:
        if stop.is_set():
            raise Stopped
        with lock:
            team = free.pop()
        try:
            return work(team, number)
        except BaseException:
            stop.set()
            raise
        finally:
            with lock:
                free.append(team)

    stop.clear()
    with ThreadPoolExecutor(len(free), initializer=enter_thread) as pool:
        futures = [pool.submit(one, number) for number in range(count)]
        try:
            return [future.result() for future in futures]
        except Stopped:  # by a failure further on in the list
            raise next(e for e in (f.exception() for f in futures) if e and not isinstance(e, Stopped)) from None
        finally:
            stop.set()  # after a failure or an interrupt, the others end with their next batch
