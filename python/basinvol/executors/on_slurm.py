"""Slurm: calls as jobs, through submitit."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

from .local import InFile
from .payload import Shared

Result = TypeVar("Result")

_LOOK = 1.0  # seconds between two looks at the jobs
_MINUTES = 24 * 60


class SlurmExecutor(Executor):
    """Jobs of a Slurm partition; what they need and give is in a folder that all machines share.

    Args:
        partition: name of the partition; "local" runs the jobs as processes of this machine, for tests.
        num_threads: CPUs of each job.
        num_gpus: devices of each job.
        folder: where submitit keeps jobs, on storage that all machines share; default `slurm` in the current folder.

    Attributes:
        num_workers: calls that are taken to run at a time; Slurm decides how many do.

    Raises:
        ValueError: submitit is not installed, or there is no Slurm here.
    """

    num_workers = 64

    def __init__(self, partition: str, num_threads: int = 1, num_gpus: int = 0, folder: Path | None = None) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise ValueError("`executor` is slurm, which needs submitit: pip install 'basinvol[slurm]'.") from error
        self._folder = (folder or Path("slurm")).absolute()
        cluster = "local" if partition == "local" else "slurm"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._jobs = submitit.AutoExecutor(self._folder, cluster=cluster)
        except (RuntimeError, OSError) as error:
            raise ValueError(f"`executor` is slurm:{partition}, which cannot be used here: {error}.") from error
        settings = {} if partition == "local" else {"slurm_partition": partition}
        self._jobs.update_parameters(
            name="basinvol", timeout_min=_MINUTES, cpus_per_task=num_threads, gpus_per_node=num_gpus, **settings
        )
        self._submitted: dict[Any, Future[Any]] = {}
        self._shared: list[Path] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def share(self, content: bytes) -> Shared:
        """Writes a shared value to the folder."""
        path = self._folder / f"shared-{uuid.uuid4().hex}.pkl"
        path.write_bytes(content)
        self._shared.append(path)
        return InFile(uuid.uuid4().hex, str(path))

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """See `concurrent.futures.Executor.submit`."""
        job = self._jobs.submit(fn, *args, **kwargs)
        future = _JobFuture(job)
        with self._lock:
            self._submitted[job] = future
        return future

    def lost(self, error: Exception) -> str | None:
        """The sentence for a job that ended without a result."""
        import submitit

        if isinstance(error, submitit.core.utils.UncompletedJobError):
            return f"its job ended without a result, perhaps for want of memory or time; its log is in {self._folder}"
        return None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancels jobs that are left, or waits for them, and removes what they shared."""
        if not wait or cancel_futures:
            for future in list(self._submitted.values()):
                future.cancel()
        while self._submitted and self._watch.is_alive():
            time.sleep(_LOOK / 10)
        self._ended.set()
        self._watch.join()
        for path in self._shared:
            path.unlink(missing_ok=True)

    def _look(self) -> None:
        """Gives results to the futures of jobs that have ended."""
        while not self._ended.wait(_LOOK / 10 if self._jobs.cluster == "local" else _LOOK):
            for job, future in list(self._submitted.items()):
                if future.cancelled():
                    pass
                elif not job.done():
                    continue
                else:
                    _settle(job, future)
                with self._lock:
                    del self._submitted[job]


class _JobFuture(Future[Any]):
    """A future whose cancellation ends the job."""

    def __init__(self, job: Any) -> None:
        super().__init__()
        self._job = job

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        self._job.cancel(check=False)
        return True


def _settle(job: Any, future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job.result()
    except Exception as error:  # noqa: BLE001  (it belongs to whoever asks the future)
        future.set_exception(error)
    else:
        future.set_result(result)
