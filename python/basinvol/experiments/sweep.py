"""Runs an experiment into a run directory: train, measure, record. The same command continues a run that was killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save
from torch import Tensor, nn
from tqdm import tqdm

from ..directions import Directions
from ..estimate import Volume
from ..landscape import Landscape
from ..parameters import ParameterSpace
from ..radii import Radii, Status
from ..rays import RaySolver
from .blocks import read_block, write_block
from .data import Split, load
from .description import Experiment, Network, Training, Variant
from .records import RunDirectory, model_name, write_atomically
from .training import accuracy, build_network, loss_function, per_example_losses, train

BLOCK = 50  # directions to a Parquet part: what a kill can cost


@dataclass(frozen=True)
class Execution:
    """How a sweep is run; no number but the timings depends on it, unless `backend` or `resolve` do.

    Attributes:
        backend, resolve: see `basinvol.find_radii`.
        num_threads: of each process, while it measures.
        data_dir: folder with published data files.
        progress: show bars, if standard error is a terminal.
    """

    backend: str = "auto"
    resolve: str = "all"
    num_threads: int = 1
    data_dir: Path | None = None
    progress: bool = False


@dataclass(frozen=True)
class TrainingRun:
    """One training, and the variants whose weights it gives: one, or the checkpoints of it."""

    seed: int
    level: int
    variants: tuple[Variant, ...]

    @property
    def name(self) -> str:
        """Of the training in timings and bars."""
        return model_name(self.seed, self.level, self.variants[-1].label)


def training_runs(experiment: Experiment) -> list[TrainingRun]:
    """All trainings; variants that differ in the number of epochs alone share one."""
    groups: dict[tuple[Network, Training], list[Variant]] = {}
    for variant in experiment.variants():
        groups.setdefault((variant.network, replace(variant.training, epochs=0)), []).append(variant)
    variants = [tuple(sorted(group, key=lambda v: v.training.epochs)) for group in groups.values()]
    return [
        TrainingRun(seed, level, group)
        for seed in experiment.seeds
        for level in experiment.levels
        for group in variants
    ]


class Worker:
    """Trains and measures models of one experiment in one directory."""

    def __init__(self, experiment: Experiment, directory: RunDirectory, execution: Execution) -> None:
        self.experiment = experiment
        self.directory = directory
        self.execution = execution
        self._loaded: tuple[int, Split] | None = None

    def work(self, run: TrainingRun) -> None:
        """Everything that is not there yet of one training and its models."""
        names = [model_name(run.seed, run.level, variant.label) for variant in run.variants]
        missing = [name for name in names if not self._is_finished(name)]
        if not missing:
            return
        self._train(run, names)
        for name, variant in zip(names, run.variants, strict=True):
            if name in missing:
                network = self.trained(run.seed, name, variant)
                self.directory.write_rows(name, self._measure(run, name, variant, network))

    def split(self, seed: int) -> Split:
        """The examples of one seed."""
        if self._loaded is None or self._loaded[0] != seed:
            split = load(self.experiment, 10 + seed, self.execution.data_dir)
            self.directory.check_data(10 + seed, split.fingerprint())
            self._loaded = seed, split
        return self._loaded[1]

    def trained(self, seed: int, name: str, variant: Variant) -> nn.Module:
        """A network with its weights from the directory."""
        network = build_network(variant.network, seed)
        load_model(network, self.directory.model_path(name))
        return network.eval()

    def _is_finished(self, name: str) -> bool:
        blocks = range(len(self._block_starts()))
        parts = [*(self.directory.block_path(name, block) for block in blocks), self.directory.refined_path(name)]
        return self.directory.has_rows(name) and all(path.exists() for path in parts)

    def _block_starts(self) -> range:
        return range(0, self.experiment.num_directions, BLOCK)

    def _train(self, run: TrainingRun, names: list[str]) -> None:
        paths = [self.directory.model_path(name) for name in names]
        if all(path.exists() for path in paths):
            return
        experiment, last = self.experiment, run.variants[-1]
        split, size = self.split(run.seed), experiment.base + run.level
        network = build_network(last.network, run.seed)
        checkpoints = {variant.training.epochs: path for variant, path in zip(run.variants, paths, strict=True)}
        started = time.perf_counter()
        with self._bar(last.training.epochs, f"train {run.name}", "epoch") as bar:

            def on_epoch(epoch: int) -> None:
                bar.update()
                if epoch in checkpoints and not checkpoints[epoch].exists():
                    write_atomically(checkpoints[epoch], save(network.state_dict()))

            examples = split.inputs[:size], split.targets[:size]
            train(network, loss_function(experiment.loss), *examples, last.training, run.seed, on_epoch)
        self.directory.add_timing(f"train/{run.name}", time.perf_counter() - started)

    def _measure(self, run: TrainingRun, name: str, variant: Variant, network: nn.Module) -> list[dict[str, Any]]:
        experiment, split = self.experiment, self.split(run.seed)
        space = ParameterSpace.of(network)
        is_paper = experiment.method == "paper"
        solver = self._solver(network, space, split)
        radii = self._radii(name, solver)
        examples, test = (split.inputs, split.targets), (split.test_inputs, split.test_targets)
        losses = per_example_losses(network, experiment.loss, *examples)
        shared = {
            "experiment": experiment.name,
            "model_seed": run.seed,
            "data_seed": 10 + run.seed,
            "model_level": run.level,
            "model_size": experiment.base + run.level,
            "variant": variant.label,
            "num_params": space.dim,
            "num_directions": experiment.num_directions,
            "train_loss": float(losses[: experiment.base + run.level].mean()),
            "test_loss": float(per_example_losses(network, experiment.loss, *test).mean()),
            "test_accuracy": accuracy(network, *test),
            "backend": solver.choice.backend.name,
        }
        sizes = zip(experiment.landscape_levels, experiment.landscape_sizes, strict=True)
        return [
            {
                **shared,
                "landscape_level": level,
                "landscape_size": size,
                "cutoff": cutoff,
                "landscape_loss": float(solver.center_losses[row]),
                "ends_at": _end(losses, experiment.base, cutoff),
                **_volume_columns(radii.at(size, cutoff), space, solver.problem.scale, drops=is_paper),
            }
            for row, (level, size) in enumerate(sizes)
            for cutoff in experiment.cutoffs
        ]

    def _solver(self, network: nn.Module, space: ParameterSpace, split: Split) -> RaySolver:
        experiment, execution = self.experiment, self.execution
        is_paper = experiment.method == "paper"
        sizes = experiment.landscape_sizes
        examples = split.inputs[: sizes[-1]], split.targets[: sizes[-1]]
        generator = "legacy" if is_paper else "philox"
        return RaySolver(
            Landscape(network, loss_function(experiment.loss), examples, sizes),
            Directions(space, experiment.num_directions, seed=0, generator=generator),
            experiment.cutoffs,
            scaling=experiment.scaling,
            search="grid" if is_paper else "interpolate",
            resolve=execution.resolve,
            backend=execution.backend,
            num_threads=execution.num_threads,
        )

    def _radii(self, name: str, solver: RaySolver) -> Radii:
        experiment, parts = self.experiment, []
        with self._bar(experiment.num_directions, f"measure {name}", "dir") as bar:
            for block, start in enumerate(self._block_starts()):
                stop = min(start + BLOCK, experiment.num_directions)
                path = self.directory.block_path(name, block)
                if not path.exists():
                    started = time.perf_counter()
                    radii = solver.solve(start, stop, on_done=bar.update)
                    write_block(path, radii, range(start, stop), experiment.landscape_levels)
                    self.directory.add_timing(f"radii/{path.stem}", time.perf_counter() - started)
                else:
                    bar.update(stop - start)
                parts.append(read_block(path, experiment.landscape_sizes, experiment.cutoffs)[0])
        return self._refined(name, solver, Radii.concatenate(parts))

    def _refined(self, name: str, solver: RaySolver, radii: Radii) -> Radii:
        """The rays that decide a volume are known once all blocks are: they are a part of their own."""
        path = self.directory.refined_path(name)
        if not path.exists():
            started = time.perf_counter()
            refined = solver.refine(radii)
            changed = (refined.num_evaluations != radii.num_evaluations).nonzero().reshape(-1)
            write_block(path, refined.take(changed), changed.tolist(), self.experiment.landscape_levels)
            self.directory.add_timing(f"radii/{path.stem}", time.perf_counter() - started)
        refined, rays = read_block(path, self.experiment.landscape_sizes, self.experiment.cutoffs)
        return radii.replaced(torch.tensor(rays, dtype=torch.int64), refined)

    def _bar(self, total: int, description: str, unit: str) -> Any:
        disabled = None if self.execution.progress else True
        return tqdm(total=total, desc=description, unit=unit, leave=False, disable=disabled)


class Sweep:
    """One experiment in one directory.

    Args:
        experiment: what to run.
        out: the run directory.
        execution: how.

    Raises:
        ValueError: the directory holds another experiment, or another process is at work in it.
    """

    def __init__(self, experiment: Experiment, out: Path, execution: Execution | None = None) -> None:
        self.experiment = experiment
        self.directory = RunDirectory(out)
        self.execution = execution or Execution()
        with self.directory.locked():
            self._claim()

    def run(self, jobs: int = 1) -> None:
        """Everything that is not there yet, then volumes.csv.

        Args:
            jobs: processes that train and measure; the results do not depend on it.
        """
        from .jobs import work_in_processes
        from .slices import slice_losses

        with self.directory.locked():
            self._claim()
            worker = Worker(self.experiment, self.directory, self.execution)
            runs = training_runs(self.experiment)
            if jobs == 1:
                for run in runs:
                    worker.work(run)
            else:
                work_in_processes(worker, runs, jobs)
            slice_losses(worker)
            self.directory.write_volumes(self._rows(runs))

    def _claim(self) -> None:
        execution = {"backend": self.execution.backend, "resolve": self.execution.resolve}
        self.directory.claim({**self.experiment.settings(), **execution})

    def _rows(self, runs: list[TrainingRun]) -> Iterator[dict[str, Any]]:
        timings = self.directory.timings()
        for run in runs:
            for variant in run.variants:
                name = model_name(run.seed, run.level, variant.label)
                rows = self.directory.read_rows(name)
                parts = (f"radii/{name}-block", f"radii/{name}-refined")
                spent = sum(time for part, time in timings.items() if part.startswith(parts))
                # One pass serves all landscapes and cutoffs of a model; each row carries its equal part.
                yield from ({**row, "seconds": round(spent / len(rows), 6)} for row in rows)


def _volume_columns(radii: Radii, space: ParameterSpace, scale: Tensor, drops: bool) -> dict[str, Any]:
    """The volume of one row; `drops`: rays that never cross are left out, as published, if any ray crosses."""
    any_left = not bool(radii.is_status(Status.CENSORED).all())
    volume = Volume.of(radii, space, scale, on_censored="drop" if drops and any_left else "bound")
    found = volume.diagnostics
    return {
        "num_crossed": int(radii.is_status(Status.CROSSED).sum()),
        "log_mean_power": volume.log_mean_power,
        "log_volume": volume.log_volume,
        "log_unit_ball": volume.log_unit_ball,
        "log_det_scale": volume.log_det_scale,
        "standard_error": volume.standard_error,
        "lower_bound": volume.lower_bound,
        "ess": found.ess,
        "max_share": found.max_share,
        "z": found.z,
        "verdict": found.verdict.value,
        "reason": found.reason,
    }


def _end(losses: Tensor, base: int, cutoff: float) -> int | None:
    """The number of examples, at least the base, at which the running mean loss first exceeds the cutoff."""
    running = losses.cumsum(0) / torch.arange(1, len(losses) + 1)
    beyond = (running > cutoff).nonzero().reshape(-1)
    beyond = beyond[beyond >= base - 1]
    return int(beyond[0]) + 1 if len(beyond) else None
