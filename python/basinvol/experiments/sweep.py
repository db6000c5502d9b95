"""Runs an experiment into a run directory: train, measure, record. The same command continues a run that was killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save
from torch import Tensor, nn
from tqdm import tqdm

from ..directions import Directions
from ..landscape import Landscape
from ..parameters import ParameterSpace
from ..radii import Radii, Status
from ..rays import RaySolver
from ..result import Volume
from .blocks import read_block, write_block
from .data import Split, load
from .description import Experiment
from .records import RunDirectory, write_atomically
from .training import accuracy, build_perceptron, loss_function, per_example_losses, train

BLOCK = 50  # directions to a Parquet part: what a kill can cost


@dataclass(frozen=True)
class TrainedModel:
    """A minimum: the model of one seed and level."""

    name: str
    seed: int
    level: int
    size: int
    network: nn.Module


class Sweep:
    """One experiment in one directory.

    Args:
        experiment: what to run.
        out: the run directory.
        backend, resolve, num_threads: see `basinvol.find_radii`; the numbers do not depend on the threads.
        progress: show bars, if standard error is a terminal.
    """

    def __init__(
        self,
        experiment: Experiment,
        out: Path,
        backend: str = "auto",
        resolve: str = "all",
        num_threads: int | None = None,
        progress: bool = False,
    ) -> None:
        self.experiment = experiment
        self.directory = RunDirectory(out)
        self.directory.claim({**experiment.settings(), "backend": backend, "resolve": resolve})
        self._backend = backend
        self._resolve = resolve
        self._num_threads = num_threads
        self._progress = progress

    def run(self) -> None:
        """Everything that is not there yet, then volumes.csv."""
        rows: list[dict[str, Any]] = []
        for seed in self.experiment.seeds:
            split = load(self.experiment, 10 + seed)
            for model in self._models(seed, split):
                rows += self._measure(model, split)
        self.directory.write_volumes(rows)

    def _models(self, seed: int, split: Split) -> Iterator[TrainedModel]:
        experiment = self.experiment
        for level, size in zip(experiment.levels, experiment.sizes, strict=True):
            name = f"m{seed}-level{level}"
            network = build_perceptron(experiment.widths, seed)
            path = self.directory.model_path(name)
            if path.exists():
                load_model(network, path)
                network.eval()
            else:
                started = time.perf_counter()
                with self._bar(experiment.training.epochs, f"train {name}", "epoch") as bar:
                    loss_fn, examples = loss_function(experiment.loss), (split.inputs[:size], split.targets[:size])
                    train(network, loss_fn, *examples, experiment.training, bar.update)
                write_atomically(path, save(network.state_dict()))
                self.directory.add_timing(f"train/{name}", time.perf_counter() - started)
            yield TrainedModel(name, seed, level, size, network)

    def _measure(self, model: TrainedModel, split: Split) -> list[dict[str, Any]]:
        experiment = self.experiment
        space = ParameterSpace.of(model.network)
        is_paper = experiment.method == "paper"
        generator = "legacy" if is_paper else "philox"
        directions = Directions(space, experiment.num_directions, seed=0, generator=generator)
        loss_fn, examples = loss_function(experiment.loss), (split.inputs, split.targets)
        landscape = Landscape(model.network, loss_fn, examples, experiment.sizes)
        solver = RaySolver(
            landscape,
            directions,
            experiment.cutoffs,
            scaling=experiment.scaling,
            search="grid" if is_paper else "interpolate",
            resolve=self._resolve,
            backend=self._backend,
            num_threads=self._num_threads,
        )
        radii = self._radii(model, solver)
        seconds = self.directory.timings()
        spent = sum(time for part, time in seconds.items() if part.startswith(f"radii/{model.name}-"))
        losses = per_example_losses(model.network, experiment.loss, *examples)
        test = (split.test_inputs, split.test_targets)
        shared = {
            "experiment": experiment.name,
            "model_seed": model.seed,
            "data_seed": 10 + model.seed,
            "model_level": model.level,
            "model_size": model.size,
            "num_params": space.dim,
            "num_directions": experiment.num_directions,
            "train_loss": float(losses[: model.size].mean()),
            "test_loss": float(per_example_losses(model.network, experiment.loss, *test).mean()),
            "test_accuracy": accuracy(model.network, *test),
            "backend": solver.choice.backend.name,
            # One pass serves all landscapes and cutoffs of a model; each row carries its equal part.
            "seconds": round(spent / (len(experiment.levels) * len(experiment.cutoffs)), 6),
        }
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
            for row, (level, size) in enumerate(zip(experiment.levels, experiment.sizes, strict=True))
            for cutoff in experiment.cutoffs
        ]

    def _radii(self, model: TrainedModel, solver: RaySolver) -> Radii:
        experiment, parts = self.experiment, []
        with self._bar(experiment.num_directions, f"measure {model.name}", "dir") as bar:
            for block, start in enumerate(range(0, experiment.num_directions, BLOCK)):
                stop = min(start + BLOCK, experiment.num_directions)
                path = self.directory.block_path(model.name, block)
                if not path.exists():
                    started = time.perf_counter()
                    radii = solver.solve(start, stop, on_done=bar.update)
                    write_block(path, radii, range(start, stop), experiment.levels)
                    self.directory.add_timing(f"radii/{path.stem}", time.perf_counter() - started)
                else:
                    bar.update(stop - start)
                parts.append(read_block(path, experiment.sizes, experiment.cutoffs)[0])
        return self._refined(model, solver, Radii.concatenate(parts))

    def _refined(self, model: TrainedModel, solver: RaySolver, radii: Radii) -> Radii:
        """The rays that decide a volume are known once all blocks are: they are a part of their own."""
        path = self.directory.refined_path(model.name)
        if not path.exists():
            started = time.perf_counter()
            refined = solver.refine(radii)
            changed = (refined.num_evaluations != radii.num_evaluations).nonzero().reshape(-1)
            write_block(path, refined.take(changed), changed.tolist(), self.experiment.levels)
            self.directory.add_timing(f"radii/{path.stem}", time.perf_counter() - started)
        refined, rays = read_block(path, self.experiment.sizes, self.experiment.cutoffs)
        return radii.replaced(torch.tensor(rays, dtype=torch.int64), refined)

    def _bar(self, total: int, description: str, unit: str) -> Any:
        return tqdm(total=total, desc=description, unit=unit, leave=False, disable=None if self._progress else True)


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
        "k_hat": found.k_hat,
        "split_nats": found.split_nats,
        "cutoff_slope": found.cutoff_slope,
        "verdict": found.verdict.value,
        "reason": found.reason,
    }


def _end(losses: Tensor, base: int, cutoff: float) -> int | None:
    """The number of examples, at least the base, at which the running mean loss first exceeds the cutoff."""
    running = losses.cumsum(0) / torch.arange(1, len(losses) + 1)
    beyond = (running > cutoff).nonzero().reshape(-1)
    beyond = beyond[beyond >= base - 1]
    return int(beyond[0]) + 1 if len(beyond) else None
