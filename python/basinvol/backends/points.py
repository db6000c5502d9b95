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
from .motion import Arrived, Motion, PointsInPlanes
from .reduced_inputs import reduced_inputs

_OPERATIONS_AT_ONCE = 1e10  # of each thread between two chances to interrupt: a fraction of a second


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
        num_threads: threads of the CPU.

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
        self.num_threads = threads
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

    def losses_within(self, at: PointsInPlanes, limits: Tensor, level: int = -1) -> Tensor:
        """Losses of points, or infinity where one exceeds its limit, which a part of the rows may show.

        Args:
            at: n points.
            limits: the largest loss of each that is told. [n] float64
            level: the position of one of the landscape's levels.

        Returns:
            The losses. [n] float64
        """
        position, count = range(len(self.levels))[level], len(at.which)
        losses = torch.empty(count, dtype=torch.float64, device="cpu")
        step = self._at_once(2.0 * self.dim * self.levels[position])
        for first in range(0, count, step):
            part = slice(first, first + step)
            given = (array[part].numpy() for array in (at.which, at.first, at.second, limits))
            arrays = at.points.numpy(), at.partners.numpy(), *given
            self._engine.evaluate_within(*arrays, position, losses[part].numpy())
        return losses

    def moved(self, motion: Motion, y: Tensor, momentum: Tensor, gradient: Tensor, level: int = -1) -> Arrived:
        """The ends of trajectories of many chains, each of which stays in the cache of one core.

        Args:
            motion: what the trajectories have in common.
            y, momentum: where they begin; both arrays are moved to the end. [K, P] float64
            gradient: the gradients of the losses there. [K, P] float64
            level: the position of one of the landscape's levels.
        """
        count, position = len(y), range(len(self.levels))[level]
        x, gradients = (torch.from_numpy(np.empty(tuple(y.shape))) for _ in range(2))
        gradients.copy_(gradient)
        growth, loss = (torch.empty(count, dtype=torch.float64, device="cpu") for _ in range(2))
        vectors = [motion.mean, motion.lengths, motion.angle, motion.angle.cos(), motion.angle.sin()]
        numbers = motion.t, motion.beta, motion.precision, motion.reference, motion.num_steps
        along = compiled_extension().Motion(*(vector.numpy() for vector in vectors), *numbers)
        arrays = y, momentum, gradients, x, growth, loss
        step = self._at_once(6.0 * self.dim * self.levels[position] * motion.num_steps)
        for first in range(0, count, step):
            self._engine.move(along, position, *(array[first : first + step].numpy() for array in arrays))
        return Arrived(y, momentum, x, loss, gradients, growth)

    def _evaluate(self, points: Tensor, level: int, gradients: Tensor | None) -> Tensor:
        given, position = points.detach().double().cpu().contiguous(), range(len(self.levels))[level]
        losses = torch.empty(len(given), dtype=torch.float64, device="cpu")
        step = self._at_once((2.0 if gradients is None else 6.0) * self.dim * self.levels[position])
        for first in range(0, len(given), step):
            part = slice(first, first + step)
            sums = None if gradients is None else gradients[part].numpy()
            self._engine.evaluate(given[part].numpy(), position, losses[part].numpy(), sums)
        return losses

    def _at_once(self, operations: float) -> int:
        """How many points are evaluated between two chances to interrupt, if each takes so many operations."""
        return self.num_threads * max(1, int(_OPERATIONS_AT_ONCE / operations))
