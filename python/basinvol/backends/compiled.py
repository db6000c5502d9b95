"""A network with its data inside the compiled extension, for all of the extension's engines."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model.landscape import Landscape
from ..model.parameters import ParameterSpace
from ..search import SearchSettings
from ..search.radii import Guess, Radii
from ..search.targets import Targets
from ..search.trace import Trace
from .extension import compiled_extension
from .mlp import Mlp, Unsupported, read_loss, read_mlp
from .problem import RayProblem
from .scouts import scouts_of, with_scouts

NOT_PERTURBED = -1  # offset of a parameter outside the space

BRACKET_FIELDS = ("lower", "upper", "value_lower", "value_upper", "slope", "status_code")


class CompiledEngine(abc.ABC):
    """A network with its data inside the extension, on any of its devices.

    Args:
        problem: the landscape, directions, center and scale.
        make: gives the extension's engine for some levels.
    """

    keeps_trace = True  # of every evaluation
    step: int  # see `Engine`

    def __init__(self, problem: RayProblem, make: Callable[[tuple[int, ...]], Any]) -> None:
        self._problem = problem
        self._scouts = scouts_of(problem.landscape.levels)
        self.levels = tuple(sorted((*problem.landscape.levels, *self._scouts)))
        self._engine = make(self.levels)
        self.center_losses = torch.tensor(self._engine.center_losses(), dtype=torch.float64)

    @property
    @abc.abstractmethod
    def description(self) -> str:
        """The settings that the engine runs with, in a few words."""

    def solve(self, indices: Sequence[int], guess: Guess, negligible: Tensor | None = None) -> Radii:
        """See `Engine.solve`."""
        thresholds = [] if negligible is None else negligible.reshape(-1).tolist()
        settings = self._problem.settings
        return self._search(indices, self._targets(guess, settings.rtol), settings, thresholds, None)

    def refine(self, indices: Sequence[int], known: Radii, rtol: float) -> Radii:
        """See `Engine.refine`."""
        guess = Guess.generic(len(self.levels), len(self._problem.cutoffs), 1.0)  # not used: brackets are known
        everywhere = with_scouts(known, self.levels)
        brackets = {name: getattr(everywhere, name).flatten(0, 1).numpy() for name in BRACKET_FIELDS}
        settings = self._problem.settings.for_refinement()
        found = self._search(indices, self._targets(guess, rtol), settings, [], brackets)
        return found.only(known.levels)

    def _targets(self, guess: Guess, rtol: float) -> Targets:
        cutoffs = self._problem.cutoffs
        return Targets.of(self.center_losses, cutoffs, self.levels, guess, rtol, self._scouts)

    def _search(
        self,
        indices: Sequence[int],
        targets: Targets,
        settings: SearchSettings,
        negligible: list[float],
        known: dict[str, NDArray[Any]] | None,
    ) -> Radii:
        problem = self._problem
        found = self._engine.solve(
            seed=problem.directions.seed,
            directions=list(indices),
            normals=self._legacy_normals(indices),
            targets=native_targets(targets),
            order=targets.order.tolist(),
            settings=native_settings(settings),
            negligible=negligible,
            known=known,
        )
        ray, table = (torch.from_numpy(array) for array in found.pop("trace"))
        state = {name: torch.from_numpy(array) for name, array in found.items()}
        radii = targets.radii(state, rounds_up=settings.method == "grid")
        if not self.keeps_trace:
            return radii
        return dataclasses.replace(radii, trace=Trace(ray, table[:, 0], table[:, 1:]))

    def learn_order(self, indices: Sequence[int], radii: Sequence[float]) -> None:
        """See `Engine.learn_order`."""
        normals = self._legacy_normals(indices)
        self._engine.learn_order(self._problem.directions.seed, list(indices), normals, list(radii))

    def _legacy_normals(self, indices: Sequence[int]) -> NDArray[np.float32] | None:
        directions = self._problem.directions
        if directions.generator != "legacy":
            return None
        return torch.stack([directions.normals(index) for index in indices]).numpy()


class CompiledMlpEngine(CompiledEngine):
    """The same for a perceptron.

    Args:
        problem: the landscape, directions, center and scale.
        engine: the extension's class.
        resources: what the engine may use, in the form that this class takes.
    """

    def __init__(self, problem: RayProblem, engine: Any, resources: Any) -> None:
        arguments = mlp_arguments(problem.landscape, problem.directions.space, problem.scale.vector(), self._given)

        def make(levels: tuple[int, ...]) -> Any:
            return engine(**arguments, levels=list(levels), resources=resources)

        super().__init__(problem, make)

    def _given(self, tensor: Tensor) -> Any:
        """A tensor in the form in which the extension takes it: an array in host memory."""
        return host_array(tensor)


def host_array(tensor: Tensor) -> NDArray[Any]:
    """A tensor as a contiguous array in host memory."""
    return tensor.detach().cpu().contiguous().numpy()


def mlp_arguments(
    landscape: Landscape, space: ParameterSpace, scale: Tensor, given: Callable[[Tensor], Any] = host_array
) -> dict[str, Any]:
    """A perceptron with its data, as the arguments that all engines of perceptrons in the extension have.

    Args:
        landscape: the perceptron, its loss and its data.
        space: which parameters are perturbed.
        scale: the positive factor of each parameter. [P]
        given: gives a tensor the form in which the extension takes it.

    Raises:
        Unsupported: it is no perceptron with one of the losses that the extension computes.
    """
    mlp, loss = _read(landscape)
    inputs, targets = landscape.tensors
    offsets: dict[str | None, int] = dict(zip(space.names, space.offsets, strict=True))
    is_labels = loss == "cross_entropy"
    # The extension takes arrays of both kinds, of which the loss reads one.
    no_labels, no_targets = torch.empty(0, dtype=torch.int64), torch.empty((0, 0), dtype=torch.float32)
    return {
        "layers": [
            {
                "weight": given(layer.weight),
                "weight_offset": offsets.get(layer.weight_name, NOT_PERTURBED),
                "bias": None if layer.bias is None else given(layer.bias),
                "bias_offset": offsets.get(layer.bias_name, NOT_PERTURBED),
                "activation": layer.activation,
            }
            for layer in mlp.layers
        ],
        "loss": loss,
        "inputs": given(inputs.flatten(1)),
        "labels": given(targets if is_labels else no_labels),
        "targets": given(no_targets if is_labels else targets),
        "scale": given(scale.float()),
        "sizes": list(space.sizes),
    }


def native_targets(targets: Targets) -> Any:
    """The targets in the form that the extension takes."""
    names = ["level", "cutoff", "center", "guess_radius", "guess_slope", "guess_spread", "rtol", "relative"]
    names += ["is_wanted", "examples"]
    return compiled_extension().make_targets(**{name: getattr(targets, name).tolist() for name in names})


def native_settings(settings: SearchSettings) -> Any:
    """The settings in the form that the extension takes."""
    return compiled_extension().SearchSettings(
        method=settings.method,
        radius_max=settings.radius_max,
        max_steps=settings.max_steps,
        grid=list(settings.grid),
    )


def unsupported_mlp(problem: RayProblem) -> str | None:
    """The reason why a problem is not a float32 perceptron with one of three losses, or None."""
    try:
        _read(problem.landscape)
    except Unsupported as refusal:
        return str(refusal)
    return None


def _read(landscape: Landscape) -> tuple[Mlp, str]:
    mlp = read_mlp(landscape.model, landscape.inputs)
    return mlp, read_loss(landscape.loss_fn, landscape.targets, mlp)
