"""What travels to a worker and back: a call with the driver's versions, and its result or the error in its place."""

from __future__ import annotations

import pickle
import platform
import socket
import threading
import time
import traceback
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Protocol


class Shared(Protocol):
    """A pickled value that many calls need, wherever the executor keeps it."""

    @property
    def key(self) -> str:
        """A name that no other shared value has."""
        ...

    def load(self) -> bytes | memoryview:
        """The pickled value, in a worker."""
        ...


@dataclass(frozen=True)
class Carried:
    """A shared value that goes along with every call: what an executor gets that offers no place for it."""

    key: str
    content: bytes

    def load(self) -> bytes:
        """See `Shared.load`."""
        return self.content


class WorkerDiffers(ValueError):
    """The error for a worker whose Python or packages are not those of the driver."""


@dataclass(frozen=True)
class Call:
    """One call, as it is submitted.

    Attributes:
        name: of the first block, for messages and logs.
        versions: of the driver, see `versions`.
        shared: the value that it shares with others.
        content: work function and items, pickled.
    """

    name: str
    versions: dict[str, str]
    shared: Shared
    content: bytes


@dataclass(frozen=True)
class Reply:
    """How a call ended, on its worker.

    Attributes:
        results: the results of its items, pickled one by one; after an error, of the items before it.
        error: the error, pickled where that is possible.
        kind, message: type and text of the error; no type where there was none.
        trace: the worker's traceback, as text.
        is_memory: whether the worker ran out of memory, which another try may not.
        host: the worker's machine.
        seconds: how long the call took there, with what was loaded for it.
    """

    results: tuple[bytes, ...]
    error: bytes | None = None
    kind: str = ""
    message: str = ""
    trace: str = ""
    is_memory: bool = False
    host: str = ""
    seconds: float = 0.0


def packed(value: Any, what: str) -> bytes:
    """A value as bytes, by cloudpickle where it is installed, so that functions of scripts and lambdas travel too.

    Args:
        value: the value.
        what: what it is, for the message.

    Raises:
        ValueError: it cannot be pickled.
    """
    try:
        if find_spec("cloudpickle") is not None:
            import cloudpickle

            content: bytes = cloudpickle.dumps(value)
            return content
        return pickle.dumps(value)
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        advice = "" if find_spec("cloudpickle") is not None else ", or pip install cloudpickle"
        raise ValueError(
            f"{what} cannot be sent to workers, because it cannot be pickled: {error}; define its classes and "
            f"functions at the top of a module, without open files or locks in them{advice}."
        ) from error


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """What must be the same everywhere for the same bytes: Python's minor version, basinvol and torch."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("basinvol", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def perform(call: Call) -> Reply:
    """Performs a call on a worker. Errors come back as replies: not every exception survives pickling.

    Threads of one process take turns, because torch traces and guards models in state of the process.
    """
    with _turn:
        return _performed(call)


def _performed(call: Call) -> Reply:
    started, host, results = time.perf_counter(), socket.gethostname(), list[bytes]()
    try:
        _check_versions(call.versions, host)
        work, items = pickle.loads(call.content)
        shared = _value(call.shared)
        for item in items:
            results.append(pickle.dumps(work(shared, item)))
    except Exception as error:  # noqa: BLE001  (the driver raises it again)
        return Reply(
            tuple(results),
            error=_pickled_error(error),
            kind=type(error).__name__,
            message=str(error),
            trace=traceback.format_exc(),
            is_memory=_is_memory(error),
            host=host,
            seconds=time.perf_counter() - started,
        )
    return Reply(tuple(results), host=host, seconds=time.perf_counter() - started)


def _check_versions(wanted: dict[str, str], host: str) -> None:
    here = versions()
    differing = [name for name, number in wanted.items() if here.get(name) != number]
    if differing:
        listed = ", ".join(f"{name} {here.get(name)} and not {wanted[name]}" for name in differing)
        raise WorkerDiffers(f"the worker on {host} has {listed}; install the same versions on all machines.")


_turn = threading.Lock()
_held: list[tuple[str, Any]] = []  # key and value that this process has loaded, at most one


def _value(shared: Shared) -> Any:
    """The shared value, which a worker keeps until another is asked for."""
    if not _held or _held[0][0] != shared.key:
        _held.clear()  # the old value goes before the new one comes
        _held.append((shared.key, pickle.loads(shared.load())))
    return _held[0][1]


def _pickled_error(error: Exception) -> bytes | None:
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:  # noqa: BLE001  (an error that cannot travel may fail in any way; its text goes instead)
        return None
    return content


def _is_memory(error: Exception) -> bool:
    # By name: torch's error for a device is not imported here, and its allocator of the CPU raises a RuntimeError.
    names = {base.__name__ for base in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)
