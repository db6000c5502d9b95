"""The one way in which work is spread: pure calls on any executor, as many at a time as its workers need."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import queue
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .payload import Call, Carried, Reply, Shared, packed, perform, versions

Item = TypeVar("Item")
Result = TypeVar("Result")

_PER_WORKER = 4  # calls in flight for each worker, so that none waits for the driver
_TRIES = 3  # of a call whose worker ran out of memory: its neighbors there may have ended meanwhile
# A call that takes this many times as long as others is given to a second worker when nothing else is left to do.
_STRAGGLES, _LEAST_SECONDS, _LEAST_KNOWN = 3.0, 1.0, 3
_REMEMBERED = 32  # calls whose times are looked at
_BUNDLED_SECONDS, _MOST_BUNDLED = 0.02, 64  # a call costs about a millisecond of the driver


class TaskFailed(RuntimeError):
    """The error for a call that failed on its worker; the message names the call, and what was done is kept."""


@dataclass
class _Flight(Generic[Item]):
    """Items on their way in one call, with their numbers."""

    number: int
    items: list[tuple[int, Item]]
    name: str
    started: float
    tries: int = 1
    futures: list[Future[Reply]] = field(default_factory=list)


def num_workers(executor: Executor) -> int:
    """How many calls an executor works on at a time; where it does not say, the number of cores here."""
    found = getattr(executor, "num_workers", None) or getattr(executor, "_max_workers", None) or os.cpu_count()
    return int(found or 1)


class Placed:
    """A value that calls share, where an executor keeps it: for several spreads, of which the first sends it.

    Args:
        value: what calls share.
        executor: where they run.
        what: what the value is called in messages.
    """

    def __init__(self, value: Any, executor: Executor, what: str) -> None:
        self._value, self._executor, self._what = value, executor, what

    @functools.cached_property
    def handle(self) -> Shared:
        """What calls carry instead of the value.

        Raises:
            ValueError: the value cannot be pickled.
        """
        content = packed(self._value, self._what)
        place: Callable[[bytes], Shared] | None = getattr(self._executor, "share", None)
        return Carried(uuid.uuid4().hex, content) if place is None else place(content)


def spread(
    work: Callable[[Any, Item], Result],
    shared: Any,
    items: Iterable[Item],
    executor: Executor,
    name: Callable[[Item], str] = str,
) -> Iterator[tuple[int, Result]]:
    """Calls `work(shared, item)` for every item, and gives number and result of each as it ends, in any order.

    Calls must be pure functions of their arguments: one may be made twice, by a worker that replaces a lost one or by
    an executor that gives a straggler to a second worker; the first result counts, and each number comes once. Items
    are taken from their iterator only as workers need them, so that there may be any number; an iterator that has ended
    is asked again after every result, so that results may lead to new items.

    An executor may offer more than `concurrent.futures.Executor` has: `num_workers`; `least_in_flight`, calls that are
    submitted at least; `bundles`, whether items that take a few milliseconds are put together in one call;
    `share(content) -> Shared`, a place for bytes that all calls need; `reissues`, whether stragglers are given to a
    second worker; and `lost(error) -> str | None`, a sentence for its own errors.

    Args:
        work: a function of a module.
        shared: what all calls need, or a `Placed` of it; a worker loads it once, and keeps what `work` makes of it.
        items: one for each call.
        executor: where the calls run.
        name: what a call is called in messages.

    Raises:
        ValueError: an argument was bad, or cannot be pickled, or a worker has other versions than this process.
        OSError: a worker could not read or write.
        TaskFailed: a call failed in another way, or its worker was lost for good.
    """
    placed = shared if isinstance(shared, Placed) else Placed(shared, executor, "what the calls share")
    desk = _Desk(work, placed.handle, executor, name)
    try:
        yield from desk.results(iter(items))
    finally:
        desk.cancel()


class _Desk(Generic[Item, Result]):
    """Submits calls and takes their replies."""

    def __init__(
        self, work: Callable[[Any, Item], Result], shared: Shared, executor: Executor, name: Callable[[Item], str]
    ) -> None:
        self._work, self._shared, self._executor, self._name = work, shared, executor, name
        self._numbers = itertools.count()
        self._flights: dict[int, _Flight[Item]] = {}
        self._ended: queue.SimpleQueue[tuple[int, Future[Reply]]] = queue.SimpleQueue()
        self._turnarounds: deque[float] = deque(maxlen=_REMEMBERED)  # seconds from submission to reply
        self._item_seconds: deque[float] = deque(maxlen=_REMEMBERED)  # of a worker
        self._error: Exception | None = None

    def results(self, items: Iterator[Item]) -> Iterator[tuple[int, Result]]:
        """Number and result of every item; after an error, of those that had begun, and then the error."""
        numbered = enumerate(items)
        self._fill(numbered)
        while self._flights:
            yield from self._take()
            if self._error is None and not self._fill(numbered):
                self._reissue()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Takes back what has not begun; executors may stop what has."""
        for flight in list(self._flights.values()):
            for future in flight.futures:
                future.cancel()

    def _fill(self, items: Iterator[tuple[int, Item]]) -> bool:
        """Submits until enough is in flight; whether there were items enough."""
        least = int(getattr(self._executor, "least_in_flight", 1))
        most = max(least, _PER_WORKER * num_workers(self._executor))
        while len(self._flights) < most and self._error is None:
            taken = list(itertools.islice(items, self._bundle()))
            if not taken:
                return False
            flight = _Flight(next(self._numbers), taken, self._name(taken[0][1]), time.monotonic())
            self._flights[flight.number] = flight
            self._submit(flight)
        return True

    def _bundle(self) -> int:
        """How many items go into one call."""
        if not getattr(self._executor, "bundles", False) or len(self._item_seconds) < _LEAST_KNOWN:
            return 1
        seconds = max(statistics.median(self._item_seconds), 1e-9)
        return max(1, min(_MOST_BUNDLED, int(_BUNDLED_SECONDS / seconds)))

    def _submit(self, flight: _Flight[Item]) -> None:
        content = packed((self._work, [item for _, item in flight.items]), flight.name)
        try:
            future = self._executor.submit(perform, Call(flight.name, versions(), self._shared, content))
        except RuntimeError as error:  # an executor that is broken or shut down takes no more
            self._fail(TaskFailed(self._lost(flight, error)))
            if not flight.futures:
                del self._flights[flight.number]
            return
        flight.futures.append(future)
        number = flight.number
        future.add_done_callback(lambda ended: self._ended.put((number, ended)))

    def _take(self) -> list[tuple[int, Result]]:
        """Waits for a reply, and gives numbers and results where it has any that count."""
        try:
            number, future = self._ended.get(timeout=_LEAST_SECONDS)
        except queue.Empty:
            return []
        flight = self._flights.get(number)
        if flight is None or future not in flight.futures:  # another worker was faster
            return []
        try:
            reply = future.result()
        except CancelledError:
            self._forget(flight, future)
            return []
        except Exception as error:  # noqa: BLE001  (whatever an executor raises when a worker is lost)
            self._fail(TaskFailed(self._lost(flight, error)))
            self._forget(flight, future)
            return []
        done = flight.items[: len(reply.results)]
        if reply.kind:
            self._failed(flight, future, reply)
        else:
            del self._flights[number]
            self._turnarounds.append(time.monotonic() - flight.started)
            self._item_seconds.append(reply.seconds / len(flight.items))
            for other in flight.futures:
                if other is not future:
                    other.cancel()
        return [(number, pickle.loads(content)) for (number, _), content in zip(done, reply.results, strict=True)]

    def _failed(self, flight: _Flight[Item], future: Future[Reply], reply: Reply) -> None:
        """Tries again what ran out of memory; any other error ends the work."""
        flight.items = flight.items[len(reply.results) :]
        flight.name = self._name(flight.items[0][1])
        others, flight.futures = [other for other in flight.futures if other is not future], []
        for other in others:  # a second worker of the same call would fail like the first
            other.cancel()
        if reply.is_memory and flight.tries < _TRIES and self._error is None:
            flight.tries += 1
            self._submit(flight)
            return
        del self._flights[flight.number]
        self._fail(_error_of(flight.name, reply, flight.tries))

    def _fail(self, error: Exception) -> None:
        """Keeps the first error; what has not begun is dropped, and all others end first."""
        if self._error is None:
            self._error = error
            self.cancel()

    def _forget(self, flight: _Flight[Item], future: Future[Reply]) -> None:
        flight.futures.remove(future)
        if not flight.futures:
            del self._flights[flight.number]

    def _lost(self, flight: _Flight[Item], error: Exception) -> str:
        """The sentence for an error of the executor itself."""
        own: Callable[[Exception], str | None] | None = getattr(self._executor, "lost", None)
        reason = own(error) if own is not None else None
        if reason is None:
            text = str(error).split("\n")[0].rstrip(".")
            reason = f"{type(error).__name__}: {text}"
        return f"{flight.name} was lost: {reason}."

    def _reissue(self) -> None:
        """Gives calls that take far longer than others to a second worker, when there is nothing else to do."""
        if not getattr(self._executor, "reissues", False) or len(self._turnarounds) < _LEAST_KNOWN:
            return
        limit = max(_LEAST_SECONDS, _STRAGGLES * statistics.median(self._turnarounds))
        for flight in list(self._flights.values()):
            if len(flight.futures) == 1 and time.monotonic() - flight.started > limit:
                self._submit(flight)


def _error_of(name: str, reply: Reply, tries: int) -> Exception:
    """The error of a worker under the block's name; bad values and full disks keep their type."""
    error = None if reply.error is None else pickle.loads(reply.error)
    found: Exception
    if isinstance(error, OSError):
        found = error
    elif isinstance(error, ValueError):
        found = ValueError(f"{name}: {reply.message}")
    elif reply.is_memory:
        found = TaskFailed(
            f"{name} ran out of memory on {reply.host}, {tries} times; give each call more, or run fewer at a time."
        )
    else:
        text = " ".join(reply.message.split())
        found = TaskFailed(f"{name} failed on {reply.host}: {reply.kind}: {text}")
    found.__cause__ = _OnWorker(reply.trace)
    return found


class _OnWorker(Exception):
    """Shows the traceback of a worker as the cause of an error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"
