"""The rows of volumes.csv that one trained model gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...model.parameters import ParameterSpace
from ...rays import RaySolver
from ...search.radii import Radii, Status
from ...trust.result import Volume
from ..data.examples import Split
from ..describe.description import Experiment, Variant
from ..records.columns import OF_DIAGNOSTICS, OF_VOLUME
from .training import accuracy, per_example_losses


def data_seed(model_seed: int) -> int:
    """The seed that chooses the examples of a model: 10 + m, as published."""
    return 10 + model_seed


class ModelRows:
    """The rows of a model. What they share is measured once; what a search pass adds comes with its radii.

    Args:
        experiment: what the model belongs to.
        seed: its model seed.
        level: number of pool examples that it was trained on.
        variant: its network and training.
        network: the trained model.
        split: the examples of its seed.
    """

    def __init__(
        self, experiment: Experiment, seed: int, level: int, variant: Variant, network: nn.Module, split: Split
    ) -> None:
        self.experiment = experiment
        self._space = ParameterSpace.of(network)
        self._losses = per_example_losses(network, experiment.loss, split.inputs, split.targets)
        test, size = (split.test_inputs, split.test_targets), experiment.base + level
        self._shared = {
            "experiment": experiment.name,
            "model_seed": seed,
            "data_seed": data_seed(seed),
            "model_level": level,
            "model_size": size,
            "variant": variant.label,
            "num_params": self._space.dim,
            "num_directions": experiment.num_directions,
            "train_loss": float(self._losses[:size].mean()),
            "test_loss": float(per_example_losses(network, experiment.loss, *test).mean()),
            "test_accuracy": accuracy(network, *test),
        }

    def of_pass(self, number: int, solver: RaySolver, radii: Radii) -> list[dict[str, Any]]:
        """One row per landscape and cutoff of a search pass; their seconds are known when the run is finished.

        Args:
            number: of the pass.
            solver: what searched in it.
            radii: what it found. [L, C, D]
        """
        landscapes = zip(self.experiment.landscape_levels, self.experiment.landscape_sizes, strict=True)
        return [
            {
                **self._shared,
                "landscape_level": level,
                "landscape_size": size,
                "cutoff": cutoff,
                "landscape_loss": float(solver.center_losses[row]),
                "ends_at": _end(self._losses, self.experiment.base, cutoff),
                **self._volume_columns(radii.at(size, cutoff), solver.problem.scale.vector()),
                "backend": solver.choice.backend.name,
                "search_pass": number,
                "evaluations": float(radii.num_evaluations.double().mean()),
            }
            for row, (level, size) in enumerate(landscapes)
            for cutoff in solver.problem.cutoffs
        ]

    def _volume_columns(self, radii: Radii, scale: Tensor) -> dict[str, Any]:
        """The columns of one volume. The published method leaves out rays that never cross, if any ray crosses."""
        any_left = not bool(radii.is_status(Status.CENSORED).all())
        drops = self.experiment.method == "paper" and any_left
        volume = Volume.of(radii, self._space, scale, on_censored="drop" if drops else "bound")
        found = volume.diagnostics
        return {
            "num_crossed": int(radii.is_status(Status.CROSSED).sum()),
            "num_censored": int(radii.is_status(Status.CENSORED).sum()),
            **{name: getattr(volume, name) for name in OF_VOLUME},
            **{name: getattr(found, name) for name in OF_DIAGNOSTICS},
            "verdict": found.verdict.value,
            "reason": found.reason,
        }


def _end(losses: Tensor, base: int, cutoff: float) -> int | None:
    """The number of examples, at least the base, at which the running mean loss first exceeds the cutoff."""
    running = losses.cumsum(0) / torch.arange(1, len(losses) + 1)
    beyond = (running > cutoff).nonzero().reshape(-1)
    beyond = beyond[beyond >= base - 1]
    return int(beyond[0]) + 1 if len(beyond) else None
