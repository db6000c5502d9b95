"""The steps of a sweep on an executor: pure functions of the experiment, so that it does not matter where they run."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...executors import num_workers, spread
from ..describe.description import Experiment
from ..records.run_directory import RunDirectory
from .execution import Execution
from .measuring import block_starts
from .worker import TrainingRun, Worker


class Job:
    """What all steps need; each process makes one worker of it.

    Args:
        experiment: what is run.
        path: of the run directory.
        settings: those with which the directory was claimed.
        execution: how to run it.
    """

    def __init__(self, experiment: Experiment, path: Path, settings: Mapping[str, Any], execution: Execution) -> None:
        self._experiment, self._path, self._settings, self._execution = experiment, path, dict(settings), execution

    @functools.cached_property
    def worker(self) -> Worker:
        """The worker of this process.

        Raises:
            ValueError: this machine does not see the run directory.
        """
        return Worker(self._experiment, RunDirectory.of_worker(self._path, self._settings), self._execution)


@dataclass(frozen=True)
class Step:
    """A training with its models, or a part of that.

    Attributes:
        run: the training.
        part: "all", what is not there yet of the training and its models; "train"; or "block".
        model: of a block, the number of its model among those of the training.
        block: number of the block of directions.
    """

    run: TrainingRun
    part: str = "all"
    model: int = 0
    block: int = 0

    @property
    def name(self) -> str:
        """The step in words, for messages."""
        if self.part == "block":
            return f"block {self.block} of model {list(self.run.models())[self.model][0]}"
        return f"training {self.run.name}"


def perform_step(job: Job, step: Step) -> None:
    """Performs a step on a worker; its results are files in the run directory."""
    if step.part == "train":
        job.worker.train(step.run)
    elif step.part == "block":
        job.worker.measure_block(step.run, step.model, step.block)
    else:
        job.worker.work(step.run)


def work_on(worker: Worker, runs: Sequence[TrainingRun], settings: Mapping[str, Any], executor: Executor) -> None:
    """Calls `worker.work` on every run, on an executor.

    Where there are more workers than trainings, the blocks of directions of their models are steps of their own.

    Args:
        worker: of the experiment and its directory.
        runs: the trainings to do.
        settings: those with which the directory was claimed.
        executor: where the steps run.

    Raises:
        ValueError, OSError, TaskFailed: see `spread`. Steps that have not begun are dropped; all others end first.
    """
    disabled = None if worker.execution.progress else True
    job = Job(worker.experiment, worker.directory.path, settings, replace(worker.execution, progress=False))
    plan = _Plan(worker, runs, splits=num_workers(executor) > len(runs))
    steps = spread(perform_step, job, plan, executor, lambda step: step.name)
    with tqdm(total=len(runs), desc="models", unit="training", leave=False, disable=disabled) as bar:
        for number, _ in steps:
            bar.update(plan.finish(number))


class _Plan:
    """Steps that may begin now, in order; steps that end let others begin.

    Args:
        worker: of the experiment and its directory.
        runs: the trainings to do.
        splits: whether trainings are split into steps.
    """

    def __init__(self, worker: Worker, runs: Sequence[TrainingRun], splits: bool) -> None:
        self._worker = worker
        # The most data first: begun last, the longest training would be waited for alone.
        longest_first = sorted(runs, key=lambda run: -run.level)
        self._ready = deque(Step(run, "train" if splits else "all") for run in longest_first)
        self._begun: list[Step] = []
        self._blocks: dict[TrainingRun, int] = {}  # that are not done yet

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        if not self._ready:
            raise StopIteration  # for now: `spread` asks again after every step
        self._begun.append(self._ready.popleft())
        return self._begun[-1]

    def finish(self, number: int) -> int:
        """Lets the steps begin that waited for this one; returns how many trainings are done with it."""
        step = self._begun[number]
        if step.part == "all":
            return 1
        if step.part == "train":
            blocks = self._missing_blocks(step.run)
            self._blocks[step.run] = len(blocks)
            self._ready.extend(blocks)
        else:
            self._blocks[step.run] -= 1
        if self._blocks[step.run] == 0:
            self._ready.appendleft(Step(step.run))  # what is left: refinements, added cutoffs and rows
        return 0

    def _missing_blocks(self, run: TrainingRun) -> list[Step]:
        numbers = range(len(block_starts(self._worker.experiment)))
        return [
            Step(run, "block", model, block)
            for model, (name, _) in enumerate(run.models())
            for block in numbers
            if not self._worker.directory.block_path(name, block).exists()
        ]
