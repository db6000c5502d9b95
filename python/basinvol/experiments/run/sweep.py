"""Runs an experiment into a run directory: it trains, measures and records, and continues a run that was stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...executors import opened
from ..describe.description import Experiment, Mass
from ..records.run_directory import RunDirectory, pass_name
from .execution import Execution
from .masses import mass_rows, mass_steps, measure_masses, missing_masses
from .slices import slice_losses
from .steps import work_on
from .worker import TrainingRun, Worker, training_runs


class Sweep:
    """The run of one experiment in one directory.

    Args:
        experiment: what to run. Cutoffs that a run in the directory does not have are added to it.
        out: the run directory.
        execution: how to run it; None for the defaults.
        mass: what chains measure of every basin besides the rays; it is added to what the directory has. None for
            nothing.

    Raises:
        ValueError: the directory holds another experiment, or another process is at work in it.
    """

    def __init__(
        self, experiment: Experiment, out: Path, execution: Execution | None = None, mass: Mass | None = None
    ) -> None:
        self.experiment, self.mass = experiment, mass
        self.directory = RunDirectory(out)
        self.execution = execution or Execution()
        _check_device(self.execution.device)
        with self.directory.locked():
            self._claim()

    def run(self, jobs: int = 1, executor: Executor | str | None = None) -> None:
        """Trains and measures what is not there yet, then writes volumes.csv and masses.csv.

        Args:
            jobs: processes that train and measure; the results do not depend on it.
            executor: what trains and measures instead of processes of this machine, see `basinvol.find_radii`.
        """
        with self.directory.locked():
            self._claim()
            self.directory.remove_unfinished()
            experiment = replace(self.experiment, cutoffs=self.directory.passes()[0])
            worker, runs = Worker(experiment, self.directory, self.execution), training_runs(experiment)
            unfinished = [run for run in runs if not worker.is_finished(run)]
            with self._workers(jobs, executor, len(unfinished)) as workers:
                if workers is not None:
                    work_on(worker, unfinished, self._settings(), workers)
                else:
                    for run in unfinished:
                        worker.work(run)
            slice_losses(worker)
            masses = mass_steps(worker, runs)
            missing = missing_masses(worker, masses)
            with self._workers(jobs, executor, len(missing)) as workers:
                measure_masses(worker, missing, self._settings(), workers)
            self.directory.gather_timings()
            self.directory.write_volumes(self._rows(runs))
            if masses:
                self.directory.write_masses(mass_rows(worker, masses))

    def _workers(
        self, jobs: int, executor: Executor | str | None, count: int
    ) -> contextlib.AbstractContextManager[Executor | None]:
        """Where so many steps are done; None is this process."""
        if count == 0 or (executor is None and (jobs == 1 or count < 2)):  # a process takes seconds to start
            return contextlib.nullcontext()
        num_gpus = int(torch.device(self.execution.device or "cpu").type == "cuda")
        executor = f"local:{min(jobs, count)}" if executor is None else executor
        return opened(executor, self.execution.num_threads, num_gpus)

    def _claim(self) -> None:
        self.directory.claim(self._settings())
        if self.mass is not None:
            self.directory.add_mass(self.mass)

    def _settings(self) -> dict[str, Any]:
        execution = {name: getattr(self.execution, name) for name in ("backend", "resolve", "device")}
        return {**self.experiment.settings(), **execution}

    def _rows(self, runs: list[TrainingRun]) -> Iterator[dict[str, Any]]:
        timings, numbers = self.directory.timings(), range(len(self.directory.passes()))
        for run in runs:
            for name, _ in run.models():
                for number in numbers:
                    filed = pass_name(name, number)
                    rows = self.directory.read_rows(filed)
                    parts = (f"radii/{name}-block", f"radii/{name}-refined") if number == 0 else f"radii/{filed}"
                    spent = sum(time for part, time in timings.items() if part.startswith(parts))
                    # One pass serves all landscapes and cutoffs of a model; each row carries its equal part.
                    yield from ({**row, "seconds": round(spent / len(rows), 6)} for row in rows)


def _check_device(name: str | None) -> None:
    try:
        device = torch.device(name or "cpu")
    except RuntimeError as error:
        raise ValueError(f"`device` must be one that torch knows, such as cpu or cuda, got {name!r}.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` is {name!r}, but no CUDA device is available; leave it out to use the CPU.")
