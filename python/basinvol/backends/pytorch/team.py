"""Teams, each of which evaluates one perturbed network at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ..working_copy import WorkingCopy
from .evaluators import Evaluator, Stopped, enter_thread
from .proof_order import ProofOrder
from .units import Units

# By how much a sum over examples in another order and other batches may differ from that in the order of the data.
_PROOF_MARGIN = 1e-3

_Result = TypeVar("_Result")


class Team:
    """One working copy of the parameters, and what evaluates it.

    A mean loss is summed in the order of the data, whichever thread evaluated which batch.

    Args:
        copy: the perturbed parameters.
        units: the data.
        evaluator: the losses of units at these parameters.
    """

    def __init__(self, copy: WorkingCopy, units: Units, evaluator: Evaluator) -> None:
        self._copy, self._units, self.evaluator = copy, units, evaluator
        self._weights = [float(units.weights[:stop].sum()) for stop in units.stops]
        self._values = torch.zeros(len(units.weights), dtype=torch.float64)

    def aim(self, index: int) -> float:
        """Turns to a direction; returns the norm of its Gaussian vector."""
        return self._copy.aim(index)

    def losses(self, radius: float, num_levels: int) -> list[float]:
        """Mean losses on the first levels at a radius. [num_levels]"""
        self._copy.place(radius)
        self.evaluator.fill(self._values, self._units.stops[num_levels - 1])
        values = self._values.numpy()
        means, total, start = [], 0.0, 0
        for stop, weight in zip(self._units.stops[:num_levels], self._weights, strict=False):
            total += float(values[start:stop].sum())  # by NumPy, whose sums do not depend on threads
            means.append(total / weight)
            start = stop
        return means

    def values(self, radius: float) -> Tensor:
        """The weighted losses of all units at a radius. [U] float64"""
        self._copy.place(radius)
        self.evaluator.fill(self._values, self._units.stops[-1])
        return self._values.clone()

    def proves_outside(self, radius: float, cutoff: float, order: ProofOrder, level: int) -> tuple[float | None, float]:
        """A lower bound of the mean loss on a level that is above the cutoff, from few of its units, or None.

        The second result is the share of the units that the proof needed.

        Args:
            radius: where.
            cutoff: the loss to be above.
            order: in which order the level's units are read.
            level: index of the level.
        """
        self._copy.place(radius)
        weight, total, num_read = self._weights[level], 0.0, 0
        at_once = self.evaluator.width
        batches = order.proof()
        for chosen in batches:
            found: list[float] = []
            for first in range(0, len(chosen), at_once):
                found += self.evaluator.totals(chosen[first : first + at_once])
                for batch, loss in zip(chosen[first:], found[first:], strict=False):
                    total += loss
                    num_read += len(batch)
                    # Written so that a NaN counts as outside.
                    if not total <= cutoff * weight * (1.0 + _PROOF_MARGIN):
                        return total / weight, num_read / order.num_units
            batches.tell(found)
        return None, 1.0


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
