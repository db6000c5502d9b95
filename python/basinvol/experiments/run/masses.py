"""The mass of every basin under a Gaussian, by chains: the whole basin, of which rays see a few directions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...estimate import estimate_volume
from ...executors import spread
from ..describe.description import Mass, Variant
from ..records.columns import MASS_COLUMNS
from ..records.run_directory import pass_name
from ..records.storage import write_atomically
from .steps import Job
from .training import loss_function, torch_threads
from .worker import TrainingRun, Worker

_RAYS = 100  # along uniform directions, for the axes in which chains move and for the probes


@dataclass(frozen=True)
class MassStep:
    """One basin that chains measure.

    Attributes:
        run, variant: the training and the variant of the model.
        model: name of the model in files.
        size: number of examples of the landscape.
        cutoff: of the basin.
        mass: what is measured.
    """

    run: TrainingRun
    variant: Variant
    model: str
    size: int
    cutoff: float
    mass: Mass

    @property
    def name(self) -> str:
        """The step in words, for messages."""
        return f"mass of model {self.model} on {self.size} examples by {self.mass.method}"


def mass_steps(worker: Worker, runs: Sequence[TrainingRun]) -> list[MassStep]:
    """Every basin of models that rays have measured, in the order of masses.csv.

    Args:
        worker: of the experiment and its directory.
        runs: the trainings.
    """
    directory = worker.directory
    return [
        MassStep(run, variant, name, row["landscape_size"], row["cutoff"], mass)
        for mass in directory.masses()
        for run in runs
        for name, variant in run.models()
        for number in range(len(directory.passes()))
        for row in directory.read_rows(pass_name(name, number))
        if row["landscape_loss"] < row["cutoff"]
    ]


def missing_masses(worker: Worker, steps: Sequence[MassStep]) -> list[MassStep]:
    """Those of the steps whose masses the directory does not hold yet; the most data first.

    Begun last, the longest would be waited for alone.

    Args:
        worker: of the experiment and its directory.
        steps: all of them.
    """
    return sorted((step for step in steps if not _path(worker, step).exists()), key=lambda step: -step.size)


def measure_masses(
    worker: Worker, steps: Sequence[MassStep], settings: Mapping[str, Any], executor: Executor | None
) -> None:
    """Measures masses, and writes the row of each.

    Args:
        worker: of the experiment and its directory.
        steps: what to measure.
        settings: those with which the directory was claimed.
        executor: where they are measured; None for this process.
    """
    disabled = None if worker.execution.progress and steps else True
    with tqdm(total=len(steps), desc="masses", unit="basin", leave=False, disable=disabled) as bar:
        for _ in _measured(worker, steps, settings, executor):
            bar.update()


def mass_rows(worker: Worker, steps: Sequence[MassStep]) -> Iterator[dict[str, Any]]:
    """The rows of masses.csv.

    Args:
        worker: of the experiment and its directory.
        steps: all of them, which have been measured.
    """
    return (json.loads(_path(worker, step).read_text()) for step in steps)


def _measured(
    worker: Worker, steps: Sequence[MassStep], settings: Mapping[str, Any], executor: Executor | None
) -> Iterator[None]:
    if executor is None:
        for step in steps:
            _measure(worker, step)
            yield
        return
    job = Job(worker.experiment, worker.directory.path, settings, replace(worker.execution, progress=False))
    for _ in spread(_perform, job, steps, executor, lambda step: step.name):
        yield


def _perform(job: Job, step: MassStep) -> None:
    _measure(job.worker, step)


def _measure(worker: Worker, step: MassStep) -> None:
    """Measures one mass, and writes its row."""
    experiment, execution, directory = worker.experiment, worker.execution, worker.directory
    path = _path(worker, step)
    with torch_threads(execution.num_threads), directory.timed(f"masses/{path.stem}"):
        network, split = worker.trained(step.run.seed, step.model, step.variant), worker.split(step.run.seed)
        found = estimate_volume(
            network,
            loss_function(experiment.loss),
            (split.inputs[: step.size], split.targets[: step.size]),
            step.cutoff,
            _RAYS,
            scaling=experiment.scaling,
            method=step.mass.method,
            measure="gaussian",
            sigma=step.mass.sigma,
            backend=execution.backend,
            device=execution.device,
            num_threads=execution.num_threads,
            progress=execution.progress,
        )
    values = (
        experiment.name,
        step.run.seed,
        step.run.level,
        step.variant.label,
        experiment.base + step.run.level,
        step.size,
        step.cutoff,
        step.mass.method,
        step.mass.sigma,
        found.log_volume,
        found.standard_error,
        found.diagnostics.verdict.value,
        found.diagnostics.reason,
        found.num_evaluations,
    )
    write_atomically(path, json.dumps(dict(zip(MASS_COLUMNS, values, strict=True)), indent=1).encode())


def _path(worker: Worker, step: MassStep) -> Path:
    return worker.directory.mass_path(step.model, step.size, step.cutoff, step.mass)
