"""The loss and its gradient at many points at once, in scaled coordinates around the center."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..backends.mlp import Unsupported
from ..backends.motion import Arrived, Motion, PointsInPlanes
from ..backends.points import NativePoints
from ..backends.pytorch.single_points import SinglePoints
from ..executors import Placed, num_workers, spread
from ..model.full_precision import precise_products
from ..model.landscape import GRADIENT_COST, Landscape
from ..model.parameters import ParameterSpace
from ..model.portable import PortableLandscape
from .recorded import Recorded

_Result = TypeVar("_Result")

# Examples x points of one pass, over the landscape's examples at once. Points that are evaluated together spare calls
# of small operations, but convolutions with a kernel for each point take twice as long. Where fewer than eight points
# would make a pass, they go one at a time. Measured on convolutions, perceptrons and a transformer.
_PASS = 4
_FEWEST_TOGETHER = 8
_MOST_NUMBERS = 2**25  # of the points of one pass
NUMBERS_AT_ONCE = 2**19  # of one array of points, which stays in a cache


class ReadyPoints:
    """A loss at many points in the form in which it travels, and as a worker makes it when it is first asked for.

    Args:
        landscape: the loss.
        space: which parameters are perturbed.
        center, scale, reduces: see `BatchedLoss`.
        num_threads: threads of each worker.
    """

    def __init__(
        self,
        landscape: Landscape,
        space: ParameterSpace,
        center: Tensor,
        scale: Tensor,
        num_threads: int,
        reduces: bool,
    ) -> None:
        self._landscape, self._space = PortableLandscape(landscape), space
        self._center, self._scale = center.cpu(), scale.cpu()
        self._num_threads, self._reduces = num_threads, reduces

    @functools.cached_property
    def energy(self) -> BatchedLoss:
        """The loss at many points, on this worker."""
        landscape = self._landscape.make()
        center, scale = self._center.to(landscape.device), self._scale.to(landscape.device)
        return BatchedLoss(landscape, self._space, center, scale, self._num_threads, reduces=self._reduces)


@dataclass(frozen=True)
class _Losses:
    """Points for one call."""

    first: int
    points: Tensor

    def on(self, energy: BatchedLoss) -> tuple[Tensor]:
        return (energy.losses(self.points),)


@dataclass(frozen=True)
class _LossesWithin:
    """Points for one call, and the largest loss of each that is told."""

    first: int
    points: Tensor
    limits: Tensor

    def on(self, energy: BatchedLoss) -> tuple[Tensor]:
        count = len(self.points)
        at = PointsInPlanes.on_rays(self.points, torch.arange(count), torch.ones(count, dtype=torch.float64))
        return (energy.losses_within(at, self.limits),)


@dataclass(frozen=True)
class _Gradients:
    """Points for one call, of which gradients are wanted too."""

    first: int
    points: Tensor

    def on(self, energy: BatchedLoss) -> tuple[Tensor, Tensor]:
        return energy.with_gradients(self.points)


@dataclass(frozen=True)
class _Trajectories:
    """Chains for one call."""

    first: int
    motion: Motion
    y: Tensor
    momentum: Tensor
    gradient: Tensor

    def on(self, energy: BatchedLoss) -> tuple[Tensor, ...]:
        # On threads, arrays are shared with whoever has asked.
        ends = energy.moved(self.motion, self.y.clone(), self.momentum.clone(), self.gradient)
        return ends.y, ends.momentum, ends.x, ends.loss, ends.gradient, ends.growth


_Part = _Losses | _LossesWithin | _Gradients | _Trajectories


def _evaluate(ready: ReadyPoints, part: _Part) -> tuple[Tensor, ...]:
    """What a part gives, in a worker."""
    return part.on(ready.energy)


def _name(part: _Part) -> str:
    return f"the loss of chains from number {part.first} on"


class SpreadPoints:
    """The loss at many points on an executor: groups of chains, wherever they run, have the numbers of all together.

    Args:
        ready: the loss.
        executor: where it is evaluated.
        step: points that a worker evaluates in one pass; parts are multiples of it, so that passes stay the same.
    """

    def __init__(self, ready: ReadyPoints, executor: Executor, step: int) -> None:
        self._ready, self._executor = Placed(ready, executor, "the model, its loss or its data"), executor
        self._step = step

    def is_worth(self, points: Tensor) -> bool:
        """Whether there are points for more than one worker."""
        return len(points) > self._size(len(points))

    def losses(self, points: Tensor) -> Tensor:
        """See `BatchedLoss.losses`."""
        return self._joined([_Losses(first, points[part]) for first, part in self._parts(points)])[0]

    def losses_within(self, at: PointsInPlanes, limits: Tensor) -> Tensor:
        """See `BatchedLoss.losses_within`."""
        parts = [_LossesWithin(first, at.made(part), limits[part]) for first, part in self._parts(at.which)]
        return self._joined(parts)[0]

    def with_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `BatchedLoss.with_gradients`."""
        losses, gradients = self._joined([_Gradients(first, points[part]) for first, part in self._parts(points)])
        return losses, gradients

    def moved(self, motion: Motion, y: Tensor, momentum: Tensor, gradient: Tensor) -> Arrived:
        """See `BatchedLoss.moved`."""
        parts = [
            _Trajectories(first, motion, y[part], momentum[part], gradient[part]) for first, part in self._parts(y)
        ]
        return Arrived(*self._joined(parts))

    def _size(self, count: int) -> int:
        share = -(-count // num_workers(self._executor))
        return -(-share // self._step) * self._step

    def _parts(self, points: Tensor) -> Iterator[tuple[int, slice]]:
        """The first point of every part, and where it is."""
        size = self._size(len(points))
        for first in range(0, len(points), size):
            yield first, slice(first, first + size)

    def _joined(self, parts: Sequence[_Part]) -> list[Tensor]:
        found = dict(spread(_evaluate, self._ready, parts, self._executor, _name))
        return [torch.cat(pieces) for pieces in zip(*(found[number] for number in range(len(parts))), strict=True)]


class BatchedLoss:
    """The mean loss on the largest level at center + S x, for many points x at once.

    Perceptrons on the CPU are evaluated by the compiled extension. The points of other models are evaluated together by
    torch.func.vmap, with attention in plain operations, as its fused kernels would be run point by point. Models that
    vmap refuses, and those of which a few points have more activations than stay near the caches, are evaluated one
    point at a time. The landscape counts every evaluation, a gradient as three.

    Args:
        landscape: the loss.
        space: which parameters are perturbed.
        center: the trained parameters. [P]
        scale: the positive factor of each parameter, the diagonal of S. [P]
        num_threads: threads of the extension; default torch's number.
        executor: where points are evaluated, some on each worker; None for this process.
        reduces: whether points may have fewer coordinates, of which the loss depends on each; only a Gaussian measure
            that has the same variance along all of them stays what it is (`backends/reduced_inputs.py`).

    Attributes:
        dim: number of coordinates of a point, P unless it is reduced.
    """

    def __init__(
        self,
        landscape: Landscape,
        space: ParameterSpace,
        center: Tensor,
        scale: Tensor,
        num_threads: int | None = None,
        executor: Executor | None = None,
        reduces: bool = False,
    ) -> None:
        together = _PASS * landscape.batch_size // landscape.num_examples
        self._is_batched = together >= _FEWEST_TOGETHER
        self._points_of_a_pass = max(1, min(together, _MOST_NUMBERS // space.dim)) if self._is_batched else 1
        self._spread: SpreadPoints | None = None
        if executor is not None:
            ready = ReadyPoints(landscape, space, center, scale, num_threads or 1, reduces)
            self._spread = SpreadPoints(ready, executor, self._points_of_a_pass)
        self._native: NativePoints | None = None
        with contextlib.suppress(Unsupported):
            self._native = NativePoints(landscape, space, center, scale, num_threads, reduces)
        self.dim = space.dim if self._native is None else self._native.dim
        self._landscape, self._space = landscape, space
        self._center, self._scale = center.double(), scale.double().to(center.device)
        self._dtype = center.dtype
        self._recorded: dict[bool, Recorded] = {}

    def with_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [K] and gradients [K, P] at points [K, P], all float64 on the CPU."""
        if self._spread is not None and self._spread.is_worth(points):
            self._landscape.count(GRADIENT_COST * len(points))
            return self._spread.with_gradients(points)
        if self._native is not None:
            self._landscape.count(GRADIENT_COST * len(points))
            return self._native.with_gradients(points)
        vectors = self._vectors(points)
        batched = self._unless_refused(lambda: self._batched_gradients(vectors))
        if batched is not None:
            losses, gradients = batched
            self._landscape.count(GRADIENT_COST * len(points))
        else:
            found = [self._landscape.gradient(self._space.unflatten(vector)) for vector in vectors]
            losses = torch.tensor([loss for loss, _ in found], dtype=torch.float64)
            gradients = torch.stack([torch.cat([g[n].reshape(-1) for n in self._space.names]) for _, g in found])
        return losses.double().cpu(), (gradients.double() * self._scale).cpu()

    def losses(self, points: Tensor) -> Tensor:
        """Losses [K] at points [K, P], float64 on the CPU."""
        if self._spread is not None and self._spread.is_worth(points):
            self._landscape.count(len(points))
            return self._spread.losses(points)
        if self._native is not None:
            self._landscape.count(len(points))
            return self._native.losses(points)
        vectors = self._vectors(points)
        batched = self._unless_refused(lambda: self._batched_losses(vectors))
        if batched is not None:
            self._landscape.count(len(points))
            return batched.cpu()
        found = [self._landscape.losses(self._space.unflatten(vector))[-1] for vector in vectors]
        return torch.stack(found).cpu() if found else torch.empty(0, dtype=torch.float64)

    @property
    def fewest_at_once(self) -> int:
        """How many points are needed at least to keep all threads busy."""
        return 1 if self._native is None else self._native.num_threads

    @property
    def takes_motion(self) -> bool:
        """Whether whole trajectories can be handed over, see `moved`."""
        return self._native is not None

    def moved(self, motion: Motion, y: Tensor, momentum: Tensor, gradient: Tensor) -> Arrived:
        """The ends of trajectories, for a network that the extension evaluates.

        Args:
            motion, y, momentum, gradient: see `NativePoints.moved`.
        """
        assert self._native is not None
        self._landscape.count(GRADIENT_COST * motion.num_steps * len(y))
        if self._spread is not None and self._spread.is_worth(y):
            return self._spread.moved(motion, y, momentum, gradient)
        return self._native.moved(motion, y, momentum, gradient)

    def losses_within(self, at: PointsInPlanes, limits: Tensor) -> Tensor:
        """Losses of points, or infinity where one exceeds its limit.

        Where the extension evaluates, or points go one at a time, a point beyond its limit need not read all rows. It
        is counted as an evaluation all the same.

        Args:
            at: n points.
            limits: the largest loss of each that is told. [n] float64

        Returns:
            The losses. [n] float64
        """
        count, step = len(at.which), self._points_of_a_pass
        if self._spread is not None and self._spread.is_worth(at.which):
            self._landscape.count(count)
            return self._spread.losses_within(at, limits)
        if self._native is not None:
            self._landscape.count(count)
            return self._native.losses_within(at, limits)
        if not self._is_batched:
            self._landscape.count(count)
            vectors = (self._vectors(at.made(slice(number, number + 1)))[0] for number in range(count))
            return self._single_points.losses_within(map(self._space.unflatten, vectors), limits)
        # Whole passes, so that what is spread has the same ones.
        at_once = step * max(1, NUMBERS_AT_ONCE // (step * self.dim))
        parts = [self.losses(at.made(slice(first, first + at_once))) for first in range(0, count, at_once)]
        losses = torch.cat([torch.empty(0, dtype=torch.float64), *parts])
        return torch.where(losses <= limits, losses, math.inf)

    @functools.cached_property
    def _single_points(self) -> SinglePoints:
        return SinglePoints(self._landscape)

    def _unless_refused(self, run: Callable[[], _Result]) -> _Result | None:
        """The result of `run`, or None for a model that vmap refuses, which is tried once."""
        if self._is_batched:
            try:
                return run()
            except RuntimeError:  # an error of the model itself is raised again when points go one at a time
                self._is_batched = False
        return None

    def _vectors(self, points: Tensor) -> Tensor:
        return (self._center + self._scale * points.to(self._center.device)).to(self._dtype)

    def _batched_losses(self, vectors: Tensor) -> Tensor:
        losses = torch.empty(len(vectors), dtype=torch.float64, device=vectors.device)
        with precise_products(vectors.device):
            for part in self._passes(len(vectors)):
                losses[part] = self._function(False)(vectors[part]).double()
        return losses

    def _batched_gradients(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        losses = torch.empty(len(vectors), dtype=torch.float64, device=vectors.device)
        gradients = torch.empty_like(vectors)
        with precise_products(vectors.device):
            for part in self._passes(len(vectors)):
                gradient, loss = self._function(True)(vectors[part])
                losses[part], gradients[part] = loss.detach().double(), gradient.detach()
        return losses, gradients

    def _passes(self, num_points: int) -> Iterator[slice]:
        """The points of every pass."""
        for first in range(0, num_points, self._points_of_a_pass):
            yield slice(first, first + self._points_of_a_pass)

    def _function(self, has_gradients: bool) -> Recorded:
        """The losses, or gradients and losses, of points [K, P]."""
        if has_gradients not in self._recorded:
            batched = vmap(grad_and_value(self._loss) if has_gradients else self._loss)
            calling = functools.partial(self._calling, has_gradients)
            self._recorded[has_gradients] = Recorded(batched, self._space.dim + self._landscape.num_examples, calling)
        return self._recorded[has_gradients]

    @contextlib.contextmanager
    def _calling(self, has_gradients: bool) -> Iterator[None]:
        """What a call of the model is made in."""
        with self._landscape.measuring(), sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(has_gradients):
            yield

    def _loss(self, vector: Tensor) -> Tensor:
        return self._landscape.loss_at(self._space.unflatten(vector), 0, self._landscape.num_examples)
