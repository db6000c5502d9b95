"""Processes of this machine, which end with their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from .payload import Shared

Result = TypeVar("Result")


@dataclass(frozen=True)
class InFile:
    """A shared value in a file, which all processes of a machine, or all that mount its folder, read once."""

    key: str
    path: str

    def load(self) -> bytes:
        """See `Shared.load`."""
        return Path(self.path).read_bytes()


class LocalExecutor(ProcessPoolExecutor):
    """Spawned processes that leave Ctrl-C to their parent, and end with it however it ends.

    An exception that leaves its `with` as an interrupt ends the processes at once, as a kill would.

    Args:
        count: number of processes.
        num_threads: threads of torch in each.
    """

    def __init__(self, count: int, num_threads: int = 1) -> None:
        # Spawned: a fork would copy OpenMP's threads in an undefined state.
        context = get_context("spawn")
        self._waits, self._held = context.Pipe(duplex=False)
        self._folder = tempfile.TemporaryDirectory(prefix="basinvol-")
        self.num_workers = count
        super().__init__(count, context, _begin, (self._waits, num_threads))

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """See `concurrent.futures.Executor.submit`."""
        with _interrupts_held_back():
            return super().submit(fn, *args, **kwargs)

    def share(self, content: bytes) -> Shared:
        """Writes a shared value to a temporary file."""
        shared = InFile(uuid.uuid4().hex, str(Path(self._folder.name) / uuid.uuid4().hex))
        Path(shared.path).write_bytes(content)
        return shared

    def lost(self, error: Exception) -> str | None:
        """The sentence for a process that was killed."""
        if isinstance(error, BrokenProcessPool):
            return "a process ended abruptly, perhaps because the machine ran out of memory"
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closed before the pool waits for its processes: they end with it, also in the middle of their work.
        if kind is not None and not issubclass(kind, Exception):
            self._held.close()
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._held.close()
            self._waits.close()
            self._folder.cleanup()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Delivers Ctrl-C after the block. Processes started in it never get one, which the terminal sends to all.

    They would answer with a traceback each, some of them while they still import; their parent ends them instead.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(waits: Connection, num_threads: int) -> None:
    _end_with_parent(waits)
    import torch  # only in workers: commands that compute nothing do without

    torch.set_num_threads(num_threads)  # several processes with all threads each would wait for one another


def _end_with_parent(waits: Connection) -> None:
    """A killed parent cannot tell its children; they watch for its end, and for the end of the pipe that it holds."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel, waits])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
