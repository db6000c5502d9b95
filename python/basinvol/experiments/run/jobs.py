"""Trainings on several processes. Each is a pure function of the experiment, so it does not matter where it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path

from tqdm import tqdm

from ..describe.description import Experiment
from ..records.run_directory import RunDirectory
from .execution import Execution
from .worker import TrainingRun, Worker


def work_in_processes(worker: Worker, runs: Sequence[TrainingRun], jobs: int) -> None:
    """Calls `worker.work` on every run, `jobs` at a time.

    An interrupt ends the processes at once, as a kill would: what they have written is kept.

    Args:
        worker: of the experiment and its directory.
        runs: the trainings to do.
        jobs: number of processes.

    Raises:
        Exception: the first that a process raised. Runs that have not begun are dropped; all others end first.
    """
    quiet = replace(worker.execution, progress=False)
    disabled = None if worker.execution.progress else True
    # Spawned: a fork would copy OpenMP's threads in an undefined state.
    context = get_context("spawn")
    waits, held = context.Pipe(duplex=False)
    # Closed before the pool waits for its processes: they end with it, also in the middle of a training.
    with (
        contextlib.closing(waits),
        ProcessPoolExecutor(min(jobs, len(runs)), context, _end_with_parent, (waits,)) as pool,
        contextlib.closing(held),
        tqdm(total=len(runs), desc="models", unit="training", leave=False, disable=disabled) as bar,
    ):
        with _interrupts_held_back():
            # The most data first: begun last, the longest training would be waited for alone.
            longest_first = sorted(runs, key=lambda run: -run.level)
            futures = [
                pool.submit(_work, worker.experiment, worker.directory.path, quiet, run) for run in longest_first
            ]
        for future in futures:
            future.add_done_callback(lambda _: bar.update())
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        pool.shutdown(cancel_futures=True)  # what has begun ends
        for future in done:
            future.result()


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


def _work(experiment: Experiment, path: Path, execution: Execution, run: TrainingRun) -> None:
    Worker(experiment, RunDirectory(path), execution).work(run)


def _end_with_parent(waits: Connection) -> None:
    """A killed parent cannot tell its children; they watch for its end, and for the end of the pipe that it holds."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel, waits])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
