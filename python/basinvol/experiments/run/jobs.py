"""Trainings on several processes. Each is a pure function of the experiment, so it does not matter which runs where."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from tqdm import tqdm

from ..describe.description import Experiment
from ..records.run_directory import RunDirectory
from .execution import Execution
from .worker import TrainingRun, Worker


def work_in_processes(worker: Worker, runs: Sequence[TrainingRun], jobs: int) -> None:
    """`worker.work` on every run, `jobs` at a time.

    Raises:
        Exception: the first that a process raised; runs that were not begun are not begun, all others end.
    """
    quiet = replace(worker.execution, progress=False)
    disabled = None if worker.execution.progress else True
    # Spawned: a fork would copy OpenMP's threads in an undefined state.
    pool = ProcessPoolExecutor(min(jobs, len(runs)), get_context("spawn"), _end_with_parent)
    with pool, tqdm(total=len(runs), desc="models", unit="training", leave=False, disable=disabled) as bar:
        futures = [pool.submit(_work, worker.experiment, worker.directory.path, quiet, run) for run in runs]
        for future in futures:
            future.add_done_callback(lambda _: bar.update())
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        for future in done:
            future.result()


def _work(experiment: Experiment, path: Path, execution: Execution, run: TrainingRun) -> None:
    Worker(experiment, RunDirectory(path), execution).work(run)


def _end_with_parent() -> None:
    """A killed parent cannot tell its children; they watch for its end."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
