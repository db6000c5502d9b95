"""Trains and measures the models of an experiment, one training at a time; each a pure function of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors.torch import load_model, save
from torch import Tensor, nn

from ...model.parameters import ParameterSpace
from ...search.radii import Radii, Status
from ...trust.result import Volume
from ..data.examples import Split, load
from ..describe.description import Experiment, Network, Training, Variant
from ..records.run_directory import RunDirectory, model_name, pass_name, write_atomically
from .execution import Execution
from .measuring import Measurement, block_starts
from .training import accuracy, build_network, loss_function, per_example_losses, train


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

    def models(self) -> Iterator[tuple[str, Variant]]:
        """Every model by name."""
        return ((model_name(self.seed, self.level, variant.label), variant) for variant in self.variants)


def training_runs(experiment: Experiment) -> list[TrainingRun]:
    """All trainings; variants that differ in the number of epochs alone share one."""
    groups: dict[tuple[Network, Training], list[Variant]] = {}
    for variant in experiment.variants():
        groups.setdefault((variant.network, replace(variant.training, epochs=0)), []).append(variant)
    variants = [tuple(sorted(group, key=lambda v: v.training.epochs)) for group in groups.values()]
    models = itertools.product(experiment.seeds, experiment.levels, variants)
    return [TrainingRun(seed, level, group) for seed, level, group in models]


class Worker:
    """Trains and measures models of one experiment in one directory."""

    def __init__(self, experiment: Experiment, directory: RunDirectory, execution: Execution) -> None:
        self.experiment = experiment
        self.directory = directory
        self.execution = execution
        self._loaded: tuple[int, Split] | None = None

    def work(self, run: TrainingRun) -> None:
        """Everything that is not there yet of one training and its models."""
        missing = [(name, variant) for name, variant in run.models() if not self._is_finished(name)]
        if not missing:
            return
        self._train(run)
        for name, variant in missing:
            self._measure(run, name, variant)

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
        numbers = range(len(self.directory.passes()))
        blocks = range(len(block_starts(self.experiment)))
        parts = [
            *(self.directory.block_path(name, block) for block in blocks),
            self.directory.refined_path(name),
            *(self.directory.pass_path(name, number) for number in numbers[1:]),
        ]
        has_rows = all(self.directory.has_rows(pass_name(name, number)) for number in numbers)
        return has_rows and all(path.exists() for path in parts)

    def _train(self, run: TrainingRun) -> None:
        paths = {variant.training.epochs: self.directory.model_path(name) for name, variant in run.models()}
        if all(path.exists() for path in paths.values()):
            return
        experiment, last = self.experiment, run.variants[-1]
        split, size = self.split(run.seed), experiment.base + run.level
        device = torch.device(self.execution.device or "cpu")
        network = build_network(last.network, run.seed).to(device)
        epochs = self.execution.bar(last.training.epochs, f"train {run.name}", "epoch")
        with self.directory.timed(f"train/{run.name}"), epochs as bar:

            def on_epoch(epoch: int) -> None:
                bar.update()
                if epoch in paths and not paths[epoch].exists():
                    write_atomically(paths[epoch], save(network.state_dict()))

            examples = split.inputs[:size].to(device), split.targets[:size].to(device)
            train(network, loss_function(experiment.loss), *examples, last.training, run.seed, on_epoch)

    def _measure(self, run: TrainingRun, name: str, variant: Variant) -> None:
        """The rows of every pass."""
        network, split = self.trained(run.seed, name, variant), self.split(run.seed)
        measurement = Measurement(self.experiment, self.directory, self.execution, name, network, split)
        losses = per_example_losses(network, self.experiment.loss, split.inputs, split.targets)
        shared = self._model_columns(run, variant, network, losses)
        passes: list[Radii] = []
        for number, cutoffs in enumerate(self.directory.passes()):
            solver = measurement.solver(cutoffs)
            if number == 0:
                passes.append(measurement.first_pass(solver))
            else:
                passes.append(measurement.later_pass(number, solver, lambda: passes))
            radii = passes[-1]
            found = {
                **shared,
                "backend": solver.choice.backend.name,
                "search_pass": number,
                "evaluations": float(radii.num_evaluations.double().mean()),
            }
            rows = [
                {
                    **found,
                    "landscape_level": level,
                    "landscape_size": size,
                    "cutoff": cutoff,
                    "landscape_loss": float(solver.center_losses[row]),
                    "ends_at": _end(losses, self.experiment.base, cutoff),
                    **self._volume_columns(radii.at(size, cutoff), measurement.space, solver.problem.scale),
                }
                for row, (level, size) in enumerate(self._landscapes())
                for cutoff in cutoffs
            ]
            self.directory.write_rows(pass_name(name, number), rows)

    def _landscapes(self) -> Iterator[tuple[int, int]]:
        return zip(self.experiment.landscape_levels, self.experiment.landscape_sizes, strict=True)

    def _model_columns(self, run: TrainingRun, variant: Variant, network: nn.Module, losses: Tensor) -> dict[str, Any]:
        experiment, split = self.experiment, self.split(run.seed)
        test = split.test_inputs, split.test_targets
        size = experiment.base + run.level
        return {
            "experiment": experiment.name,
            "model_seed": run.seed,
            "data_seed": 10 + run.seed,
            "model_level": run.level,
            "model_size": size,
            "variant": variant.label,
            "num_params": sum(p.numel() for p in network.parameters()),
            "num_directions": experiment.num_directions,
            "train_loss": float(losses[:size].mean()),
            "test_loss": float(per_example_losses(network, experiment.loss, *test).mean()),
            "test_accuracy": accuracy(network, *test),
        }

    def _volume_columns(self, radii: Radii, space: ParameterSpace, scale: Tensor) -> dict[str, Any]:
        """The volume of one row. With the published method rays that never cross are left out, if any ray crosses."""
        any_left = not bool(radii.is_status(Status.CENSORED).all())
        drops = self.experiment.method == "paper" and any_left
        volume = Volume.of(radii, space, scale, on_censored="drop" if drops else "bound")
        found = volume.diagnostics
        return {
            "num_crossed": int(radii.is_status(Status.CROSSED).sum()),
            "num_censored": int(radii.is_status(Status.CENSORED).sum()),
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
