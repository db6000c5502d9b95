"""Ray: calls as tasks of a cluster, which Ray retries when a worker or a machine is lost."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .payload import Shared

Result = TypeVar("Result")

_COUNTED_SECONDS, _REACHED_SECONDS = 1.0, 10.0
_TRIES = 5  # of a task whose worker or machine was lost


@dataclass(frozen=True)
class InStore:
    """A shared value in Ray's object store, from which every machine fetches it once."""

    key: str
    reference: Any

    def load(self) -> memoryview:
        """See `Shared.load`."""
        import ray

        return memoryview(ray.get(self.reference))


class RayExecutor(Executor):
    """Tasks of a Ray cluster.

    Ray retries tasks whose worker or machine was lost, and those that its memory monitor ended. What many calls need is
    put into the object store once. Cancelling a future cancels its task, also one that runs.

    Args:
        address: of the cluster; None for the one that runs on this machine or that RAY_ADDRESS names, or else for one
            that is started here.
        num_threads: CPUs that are set aside for each task.
        num_gpus: devices that are set aside for each task.

    Attributes:
        least_in_flight: short tasks need more in flight than there are workers.
        bundles: items that take a few milliseconds are put together in one task.
        reissues: stragglers are given to a second worker.

    Raises:
        ValueError: Ray is not installed, there is no cluster at the address, or it has another version of Python or
            Ray, or no machine that could run such a task.
    """

    least_in_flight = 64
    bundles = True
    reissues = True

    def __init__(self, address: str | None = None, num_threads: int = 1, num_gpus: int = 0) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ValueError("`executor` is ray, which is not installed: pip install 'basinvol[ray]'.") from error
        self._ray = ray
        self._was_running = ray.is_initialized()
        self._num_threads, self._num_gpus = num_threads, num_gpus
        self._counted = -math.inf, 1  # when workers were counted, and how many there were
        if not self._was_running:
            _connect(address)
        elif address is not None:
            _check_connected(address)
        try:
            self._check_resources()
        except ValueError:
            self.shutdown()
            raise
        # Ray lets OpenMP, and torch with it, have as many threads as a task has CPUs.
        self._task = ray.remote(_perform).options(num_cpus=num_threads, num_gpus=num_gpus, max_retries=_TRIES)
        self._futures: set[_TaskFuture] = set()
        self._lock = threading.Lock()

    @property
    def num_workers(self) -> int:
        """How many tasks the cluster has room for; machines may come and go, and are counted once a second."""
        now = time.monotonic()
        if now < self._counted[0] + _COUNTED_SECONDS:
            return self._counted[1]
        there = self._ray.cluster_resources()
        count = int(there.get("CPU", 0)) // self._num_threads
        if self._num_gpus:
            count = min(count, int(there.get("GPU", 0)) // self._num_gpus)
        self._counted = now, max(1, count)
        return self._counted[1]

    def share(self, content: bytes) -> Shared:
        """Puts a shared value into the object store."""
        # As an array: a worker then reads it where it lies, without a copy.
        return InStore(uuid.uuid4().hex, self._ray.put(np.frombuffer(content, dtype=np.uint8)))

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """See `concurrent.futures.Executor.submit`."""
        reference = self._task.remote(fn, args, kwargs)
        future = _TaskFuture(reference)
        with self._lock:
            self._futures.add(future)
        reference.future().add_done_callback(lambda ended: self._settle(future, ended))
        return future

    def lost(self, error: Exception) -> str | None:
        """The sentence for an error of Ray's."""
        errors = self._ray.exceptions
        if isinstance(error, errors.OutOfMemoryError):
            return (
                "Ray ended it again and again because its machine ran out of memory; run fewer at a time by raising "
                "`num_threads`, or use larger machines"
            )
        if isinstance(error, (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError)):
            return f"its worker or machine was lost {_TRIES + 1} times"
        if isinstance(error, errors.RayTaskError):
            cause = error.cause
            if isinstance(cause, ModuleNotFoundError):
                return f"{cause.name} is not installed on its machine; install the same packages everywhere"
            return f"{type(cause).__name__}: {cause}"
        if isinstance(error, errors.RayError):
            return f"Ray says: {' '.join(str(error).split())[:300]}"
        return None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the connection to a cluster that this executor made; a cluster that it started ends with it."""
        if cancel_futures:
            with self._lock:
                left = list(self._futures)
            for future in left:
                future.cancel()
        if not self._was_running and self._ray.is_initialized():
            self._ray.shutdown()

    def _settle(self, future: _TaskFuture, ended: Future[Any]) -> None:
        with self._lock:
            self._futures.discard(future)
        error = ended.exception()
        if isinstance(error, self._ray.exceptions.TaskCancelledError):
            future.end_cancelled()
        elif error is not None:
            future.end(lambda: future.set_exception(error))
        else:
            future.end(lambda: future.set_result(ended.result()))

    def _check_resources(self) -> None:
        machines = [machine["Resources"] for machine in self._ray.nodes() if machine["Alive"]]
        fits = any(
            there.get("CPU", 0) >= self._num_threads and there.get("GPU", 0) >= self._num_gpus for there in machines
        )
        if not fits:
            gpus = f" and {self._num_gpus} GPU" if self._num_gpus else ""
            raise ValueError(
                f"no machine of the Ray cluster has {self._num_threads} CPU{gpus} for one task; lower `num_threads`, "
                "or add such a machine."
            )


class _TaskFuture(Future[Any]):
    """A future whose cancellation reaches the task, also one that runs."""

    def __init__(self, reference: Any) -> None:
        super().__init__()
        self._reference = reference
        self._ending = threading.Lock()

    def cancel(self) -> bool:
        import ray

        with self._ending:
            if not super().cancel():
                return False
        if ray.is_initialized():
            ray.cancel(self._reference, force=True)
        return True

    def end(self, settle: Callable[[], None]) -> None:
        with self._ending:
            if not self.cancelled():
                settle()

    def end_cancelled(self) -> None:
        with self._ending:
            super().cancel()


def _perform(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def _connect(address: str | None) -> None:
    """Connects to a cluster.

    Raises:
        ValueError: there is none, or it cannot be joined.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    named = address or os.environ.get("RAY_ADDRESS")
    try:
        if named is not None:
            _check_reachable(named)
            ray.init(named, **quiet)
            return
        try:
            ray.init("auto", **quiet)
        except ConnectionError:
            ray.init("local", include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ValueError(
            f"`executor` is ray, and the cluster at {named or 'this machine'} cannot be joined: {reason}."
        ) from error


def _check_reachable(address: str) -> None:
    """Raises an OSError at once where nothing listens; Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), _REACHED_SECONDS).close()


def _check_connected(address: str) -> None:
    """Refuses another cluster than the one that this process is connected to."""
    import ray

    connected = ray.get_runtime_context().gcs_address
    if address.removeprefix("ray://") != connected and address not in ("auto", "local"):
        raise ValueError(
            f"`executor` is ray:{address}, and this process is connected to the cluster at {connected}; call "
            "ray.shutdown() first, or leave the address out."
        )
