"""The loss of a perceptron and its gradient at many points on the CPU, in the compiled extension."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..model.landscape import Landscape
from ..model.parameters import ParameterSpace
from .compiled import host_array, mlp_arguments
from .extension import compiled_extension
from .in_memory import unsupported_size
from .mlp import Unsupported
from .reduced_inputs import reduced_inputs

_STEP_PER_THREAD = 8  # points between two chances to interrupt


class NativePoints:
    """The mean loss at center + S x and its gradient by x, for many points x at once.

    The result of a point is a function of it alone: not of threads, nor of the other points. It counts no evaluations.

    Args:
        landscape: the loss, on the CPU.
        space: which parameters are perturbed; all others are the model's own.
        center: the perturbed parameters at x = 0. [P] float32
        scale: the positive factor of each parameter, the diagonal of S. [P] float32
        num_threads: threads of the CPU; default torch's number.
        reduces: whether points have only the coordinates that the loss depends on, see `reduced_inputs`.

    Attributes:
        dim: number of coordinates of a point, P unless it is reduced.

    Raises:
        Unsupported: the landscape is not a float32 perceptron with one of three losses, or its data are too large.
    """

    def __init__(
        self,
        landscape: Landscape,
        space: ParameterSpace,
        center: Tensor,
        scale: Tensor,
        num_threads: int | None = None,
        reduces: bool = False,
    ) -> None:
        if landscape.device.type != "cpu" or center.dtype != torch.float32 or scale.dtype != torch.float32:
            raise Unsupported(f"the parameters are {center.dtype} on {landscape.device}, and it computes in float32")
        too_large = unsupported_size(landscape)
        if too_large is not None:
            raise Unsupported(too_large)
        threads = torch.get_num_threads() if num_threads is None else num_threads
        self.levels = landscape.levels
        self._step = _STEP_PER_THREAD * threads
        arguments = {**mlp_arguments(landscape, space, scale), "center": host_array(center)}
        if reduces:
            arguments = reduced_inputs(arguments)
        self.dim = len(arguments["center"])
        self._engine = compiled_extension().MlpPoints(
            **arguments,
            levels=list(self.levels),
            resources=compiled_extension().Resources(threads, memory_budget=0),
        )

    @property
    def operations(self) -> int:
        """The floating-point operations of all matrix products so far."""
        return int(self._engine.operations())

    def losses(self, points: Tensor, level: int = -1) -> Tensor:
        """Losses at points [K, P] on one of the landscape's levels, by its position. [K] float64"""
        return self._evaluate(points, level, None)

    def with_gradients(self, points: Tensor, level: int = -1) -> tuple[Tensor, Tensor]:
        """The same, and the gradients by the points. [K] and [K, P], float64"""
        # NumPy asks for huge pages, which the system clears when they are first touched: four times as fast as torch's.
        gradients = torch.from_numpy(np.zeros(tuple(points.shape)))
        return self._evaluate(points, level, gradients), gradients

    def _evaluate(self, points: Tensor, level: int, gradients: Tensor | None) -> Tensor:
        given, position = points.detach().double().cpu().contiguous(), range(len(self.levels))[level]
        losses = torch.empty(len(given), dtype=torch.float64, device="cpu")
        for first in range(0, len(given), self._step):
            part = slice(first, first + self._step)
            sums = None if gradients is None else gradients[part].numpy()
            self._engine.evaluate(given[part].numpy(), position, losses[part].numpy(), sums)
        return losses
