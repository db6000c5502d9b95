"""Trains and measures the models of an experiment, one training at a time; each is a pure function of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import nn

from ...rays import RaySolver
from ...search.radii import Radii
from ..data.examples import Split, load
from ..describe.description import Experiment, Network, Training, Transformer, Variant
from ..records.run_directory import RunDirectory, model_name, pass_name
from ..records.storage import write_atomically
from .execution import Execution
from .measuring import Measurement, block_starts
from .rows import ModelRows, data_seed
from .training import build_network, loss_function, torch_threads, train


@dataclass(frozen=True)
class TrainingRun:
    """One training, and the variants whose weights it gives: a single one, or its checkpoints."""

    seed: int
    level: int
    variants: tuple[Variant, ...]

    @property
    def name(self) -> str:
        """The name under which timings and progress bars show this training."""
        return model_name(self.seed, self.level, self.variants[-1].label)

    def models(self) -> Iterator[tuple[str, Variant]]:
        """Every model of this training: its name in files, and its variant."""
        return ((model_name(self.seed, self.level, variant.label), variant) for variant in self.variants)


def training_runs(experiment: Experiment) -> list[TrainingRun]:
    """All trainings of an experiment; variants that differ only in the number of epochs share one."""
    groups: dict[tuple[Network | Transformer, Training], list[Variant]] = {}
    for variant in experiment.variants():
        groups.setdefault((variant.network, replace(variant.training, epochs=0)), []).append(variant)
    variants = [tuple(sorted(group, key=lambda v: v.training.epochs)) for group in groups.values()]
    models = itertools.product(experiment.seeds, experiment.levels, variants)
    return [TrainingRun(seed, level, group) for seed, level, group in models]


class Worker:
    """Trains and measures models of one experiment in one directory.

    Args:
        experiment: what the models belong to.
        directory: of the run.
        execution: how to run it.
    """

    def __init__(self, experiment: Experiment, directory: RunDirectory, execution: Execution) -> None:
        self.experiment = experiment
        self.directory = directory
        self.execution = execution
        self._loaded: tuple[int, Split] | None = None
        self._searched: tuple[str, Measurement, RaySolver] | None = None

    def work(self, run: TrainingRun) -> None:
        """Trains and measures what the directory does not hold yet of one training and its models."""
        missing = [(name, variant) for name, variant in run.models() if not self._is_measured(name)]
        if not missing:
            return
        # Several workers with all threads each would wait for one another; one alone does as it was told.
        with torch_threads(self.execution.num_threads):
            self.train(run)
            for name, variant in missing:
                self._measure(run, name, variant)

    def measure_block(self, run: TrainingRun, model: int, block: int) -> None:
        """Searches one block of directions of a trained model, at the cutoffs of the first pass.

        Args:
            run: its training.
            model: number of the model among those of the training.
            block: number of the block.
        """
        name, variant = list(run.models())[model]
        with torch_threads(self.execution.num_threads):
            if self._searched is None or self._searched[0] != name:
                self._searched = None  # one model and its engine at a time
                network, split = self.trained(run.seed, name, variant), self.split(run.seed)
                measurement = Measurement(self.experiment, self.directory, self.execution, name, network, split)
                self._searched = name, measurement, measurement.solver(self.directory.passes()[0])
            _, measurement, solver = self._searched
            measurement.measure_block(solver, block)

    def is_finished(self, run: TrainingRun) -> bool:
        """Whether the directory holds everything of one training and its models."""
        return all(self._is_measured(name) for name, _ in run.models())

    def split(self, seed: int) -> Split:
        """Loads the examples of one model seed; they are kept until another seed is asked for."""
        if self._loaded is None or self._loaded[0] != seed:
            split = load(self.experiment, data_seed(seed), self.execution.data_dir)
            self.directory.check_data(data_seed(seed), split.fingerprint())
            self._loaded = seed, split
        return self._loaded[1]

    def trained(self, seed: int, name: str, variant: Variant) -> nn.Module:
        """Builds the network of a model and loads its weights from the directory.

        Args:
            seed: model seed.
            name: of the model, in file names.
            variant: its network and training.
        """
        network = build_network(variant.network, seed)
        network.load_state_dict(load_tensors(self.directory.model_path(name).read_bytes()))
        return network.eval()

    def _is_measured(self, name: str) -> bool:
        numbers = range(len(self.directory.passes()))
        blocks = range(len(block_starts(self.experiment)))
        parts = [
            *(self.directory.block_path(name, block) for block in blocks),
            self.directory.refined_path(name),
            *(self.directory.pass_path(name, number) for number in numbers[1:]),
        ]
        has_rows = all(self.directory.has_rows(pass_name(name, number)) for number in numbers)
        return has_rows and all(path.exists() for path in parts)

    def train(self, run: TrainingRun) -> None:
        """Trains a network, if a model of it is missing, and writes the weights of all its models."""
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
        """Searches for every pass what is not there yet, and writes its rows."""
        network, split = self.trained(run.seed, name, variant), self.split(run.seed)
        measurement = Measurement(self.experiment, self.directory, self.execution, name, network, split)
        model = ModelRows(self.experiment, run.seed, run.level, variant, network, split)
        passes: list[Radii] = []
        for number, cutoffs in enumerate(self.directory.passes()):
            solver = measurement.solver(cutoffs)
            if number == 0:
                passes.append(measurement.first_pass(solver))
            else:
                passes.append(measurement.later_pass(number, solver, lambda: passes))
            self.directory.write_rows(pass_name(name, number), model.of_pass(number, solver, passes[-1]))
