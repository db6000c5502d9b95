"""Multilayer perceptrons on the CPU: the whole radius search in C++, threads over directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..radii import Guess, Radii
from ..search import SearchSettings
from ..targets import Targets
from . import RayProblem
from .mlp import Mlp, Unsupported, read_loss, read_mlp

NOT_PERTURBED = -1  # offset of a parameter outside the space


class NativeBackend:
    """The compiled engine (csrc)."""

    name = "native"

    def unusable(self, device: torch.device) -> str | None:
        """It runs on the CPU only."""
        return None if device.type == "cpu" else f"it computes on the cpu, and the landscape is on {device}"

    def unsupported(self, problem: RayProblem) -> str | None:
        """It takes float32 perceptrons with three losses."""
        try:
            _read(problem)
        except Unsupported as refusal:
            return str(refusal)
        return None

    def prepare(self, problem: RayProblem, num_threads: int) -> NativeEngine:
        """Multiply the inputs by the first layer and evaluate the center."""
        return NativeEngine(problem, num_threads)


class NativeEngine:
    """A perceptron with its data inside the extension."""

    def __init__(self, problem: RayProblem, num_threads: int) -> None:
        self._problem = problem
        self._num_threads = num_threads
        mlp, loss = _read(problem)
        landscape, space = problem.landscape, problem.directions.space
        offsets: dict[str | None, int] = dict(zip(space.names, space.offsets, strict=True))
        is_labels = loss == "cross_entropy"
        no_labels, no_targets = torch.empty(0, dtype=torch.int64), torch.empty((0, 0))
        self._engine = _extension().MlpRays(
            layers=[
                {
                    "weight": _array(layer.weight),
                    "weight_offset": offsets.get(layer.weight_name, NOT_PERTURBED),
                    "bias": None if layer.bias is None else _array(layer.bias),
                    "bias_offset": offsets.get(layer.bias_name, NOT_PERTURBED),
                    "activation": layer.activation,
                }
                for layer in mlp.layers
            ],
            loss=loss,
            inputs=_array(landscape.inputs.flatten(1)),
            labels=(landscape.targets if is_labels else no_labels).contiguous().numpy(),
            targets=_array(no_targets if is_labels else landscape.targets),
            levels=list(landscape.levels),
            scale=_array(problem.scale),
            sizes=list(space.sizes),
            num_threads=num_threads,
        )
        self.center_losses = torch.tensor(self._engine.center_losses(), dtype=torch.float64)

    def solve(self, indices: Sequence[int], guess: Guess) -> Radii:
        """The radii of these directions. [L, C, len(indices)]"""
        problem = self._problem
        directions, settings = problem.directions, problem.settings
        targets = Targets.of(self.center_losses, problem.cutoffs, problem.landscape.levels, guess)
        legacy = None
        if directions.generator == "legacy":
            legacy = torch.stack([directions.normals(index) for index in indices]).numpy()
        found = self._engine.solve(
            seed=directions.seed,
            directions=list(indices),
            normals=legacy,
            targets=native_targets(targets),
            order=targets.order.tolist(),
            settings=native_settings(settings),
            num_threads=self._num_threads,
        )
        state = {name: torch.from_numpy(array) for name, array in found.items()}
        return targets.radii(state, rounds_up=settings.method == "grid")


def native_targets(targets: Targets) -> Any:
    """The targets as the extension takes them."""
    names = ("level", "cutoff", "center", "guess_radius", "guess_slope")
    return _extension().make_targets(**{name: getattr(targets, name).tolist() for name in names})


def native_settings(settings: SearchSettings) -> Any:
    """The settings as the extension takes them."""
    return _extension().SearchSettings(
        method=settings.method,
        rtol=settings.rtol,
        radius_max=settings.radius_max,
        max_steps=settings.max_steps,
        grid=list(settings.grid),
    )


def _extension() -> Any:
    from .. import _native  # here, after torch, so that the process has one OpenMP runtime

    return _native


def _read(problem: RayProblem) -> tuple[Mlp, str]:
    mlp = read_mlp(problem.landscape.model, problem.landscape.inputs)
    return mlp, read_loss(problem.landscape.loss_fn, problem.landscape.targets, mlp)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().contiguous().numpy()
