"""Chains that move by Hamiltonian Monte Carlo between a standard Gaussian and a Gibbs measure of the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..backends.motion import Arrived, Motion
from .batched import NUMBERS_AT_ONCE, BatchedLoss
from .noise import Noise, empty

TARGET_ACCEPTANCE = 0.8  # the step is adapted to this acceptance ...
_ADAPTATION = 0.5  # ... by this share of the difference, in ln step
_JITTER = 0.2  # steps of one length would resonate with oscillations of the chains
# The length of a trajectory as an angle, where a quarter of a period would forget a Gaussian of the extent that momenta
# assume. For one swiss-roll network, with three seeds, lengths from 0.4 to 3 cost up to 1.6 times the least.
_TRAJECTORY = 1.0
FIRST_ANGLE = 0.5 * _TRAJECTORY  # of a step, before anything is known of the loss


@dataclass(frozen=True)
class Whitening:
    """The map x = mean + Q (lengths * y), under which the reference Gaussian of x is standard in y.

    Attributes:
        mean: mean of the reference Gaussian. [P] float64
        lengths: its standard deviation along each axis. [P] float64
        axes: the axes as columns of an orthogonal matrix Q; None for the coordinates. [P, P] float64
    """

    mean: Tensor
    lengths: Tensor
    axes: Tensor | None = None

    @cached_property
    def precision(self) -> float | None:
        """The precision of a reference Gaussian that is the same in all directions around 0, else None."""
        is_round = bool((self.mean == 0).all()) and bool((self.lengths == self.lengths[0]).all())
        return float(self.lengths[0]) ** -2 if is_round else None

    @property
    def log_det(self) -> float:
        """The log of the map's determinant, in nats."""
        return float(self.lengths.log().sum())

    def to_x(self, y: Tensor) -> Tensor:
        """The points x of K points y. [K, P]"""
        stretched = self.lengths * y
        return self.mean + (stretched if self.axes is None else stretched @ self.axes.T)

    def to_y(self, x: Tensor) -> Tensor:
        """The points y of K points x, the inverse of `to_x`. [K, P]"""
        offset = x - self.mean
        return (offset if self.axes is None else offset @ self.axes) / self.lengths

    def pull_back(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to y of a function whose gradient with respect to x is given. [K, P]"""
        return (gradient if self.axes is None else gradient @ self.axes) * self.lengths


@dataclass(frozen=True)
class Gibbs:
    """The unnormalized density exp(-beta (L - L0) - precision |x|^2 / 2).

    Attributes:
        beta: inverse temperature, per unit of loss.
        precision: precision of the Gaussian factor, in scaled coordinates; 0 for none.
        center_loss: L0, the loss at the center.
    """

    beta: float
    precision: float
    center_loss: float


@dataclass
class Chains:
    """The states of K chains.

    Attributes:
        x: positions, in scaled coordinates around the center. [K, P] float64
        loss: losses there. [K] float64
        gradient: gradients of the loss in x. [K, P] float64
    """

    x: Tensor
    loss: Tensor
    gradient: Tensor

    def copy(self, index: Tensor) -> Chains:
        """A copy of the chains at these positions, which may repeat."""
        return Chains(self.x[index].clone(), self.loss[index].clone(), self.gradient[index].clone())

    def part(self, which: slice) -> Chains:
        """Some of the chains, as views."""
        return Chains(self.x[which], self.loss[which], self.gradient[which])


class Hamiltonian:
    """Moves chains under exp(-U), where U = |y|^2 / 2 + t R and R = beta (L - L0) + precision |x|^2 / 2 - |y|^2 / 2.

    The motion in the reference Gaussian is exact, a rotation of y and its momentum, and only R is integrated by steps
    (Beskos, Pinski, Sanz-Serna and Stuart 2011; Shahbaba, Lan, Johnson and Neal 2014). So the step does not shrink with
    the number of parameters, of which most feel the reference alone, but with the number of those that R confines.

    Args:
        energy: the loss L at many points.
        whitening: the map between x and y, which defines the reference Gaussian.
        gibbs: the target, at t = 1.
        most_steps: most steps of a trajectory; as many are made as lead through an angle of one.
        step: step to begin with, as an angle.
        generator: generator of all random numbers, on the CPU.

    Attributes:
        step: step as an angle, where the extent of the target is `shape`.
        shape: extent of the target along each coordinate of y, for the momenta. [P]
        acceptance: mean acceptance probability of the last move.
    """

    def __init__(
        self,
        energy: BatchedLoss,
        whitening: Whitening,
        gibbs: Gibbs,
        most_steps: int,
        step: float,
        generator: torch.Generator,
    ) -> None:
        self.energy, self.whitening, self.gibbs = energy, whitening, gibbs
        self.most_steps, self.step = most_steps, step
        self.shape = torch.ones_like(whitening.mean)
        self.acceptance = math.nan
        self._generator = generator

    def with_target(self, whitening: Whitening, gibbs: Gibbs) -> Hamiltonian:
        """The same moves, with another reference Gaussian and target."""
        return Hamiltonian(self.energy, whitening, gibbs, self.most_steps, self.step, self._generator)

    def start(self, x: Tensor) -> Chains:
        """Chains that start at these positions. [K, P]"""
        return Chains(x, *self.energy.with_gradients(x))

    def reference(self, count: int) -> Chains:
        """New chains, `count` of them, drawn from the reference Gaussian."""
        noise = Noise(self._generator).fill(empty(count, len(self.whitening.mean)))
        return self.start(self.whitening.to_x(noise))

    def rest(self, chains: Chains) -> Tensor:
        """R of every chain, in which the target and the reference differ; infinite where the loss is no number. [K]"""
        gibbs, whitening = self.gibbs, self.whitening
        rest = gibbs.beta * (chains.loss - gibbs.center_loss)
        if whitening.precision != gibbs.precision:
            rest = rest + 0.5 * gibbs.precision * chains.x.square().sum(dim=1)
            rest = rest - 0.5 * whitening.to_y(chains.x).square().sum(dim=1)
        return torch.where(torch.isnan(rest), math.inf, rest)

    def move(self, chains: Chains, t: float, adapts: bool = False) -> Chains:
        """The chains after one trajectory each, accepted or not (Duane et al. 1987; Neal 2011).

        Args:
            chains: K chains.
            t: share of the way from the reference Gaussian, at 0, to the target, at 1.
            adapts: whether to move the step toward the target acceptance, which a run that counts must not.
        """
        jitter = 1.0 + _JITTER * (2.0 * float(self._uniform(())) - 1.0)
        step = self.step * jitter
        count = min(max(round(_TRAJECTORY * jitter / step), 1), self.most_steps)
        log_uniform = self._uniform((len(chains.loss),)).log()
        noise, motion = Noise(self._generator), self._motion(t, step, count)
        shape = chains.x.shape
        moved = Chains(empty(*shape), torch.empty_like(chains.loss), empty(*shape))
        acceptance = torch.empty_like(chains.loss)
        at_once = max(self.energy.fewest_at_once, NUMBERS_AT_ONCE // shape[1])
        for first in range(0, len(chains.loss), at_once):
            part = slice(first, first + at_once)
            before = chains.part(part)
            momentum = noise.fill(torch.empty_like(before.x), first=first)
            after, log_ratio = self._trajectory(before, momentum, motion)
            acceptance[part] = log_ratio.clamp(max=0.0).exp()
            accepted = log_uniform[part] < log_ratio
            torch.where(accepted[:, None], after.x, before.x, out=moved.x[part])
            torch.where(accepted, after.loss, before.loss, out=moved.loss[part])
            torch.where(accepted[:, None], after.gradient, before.gradient, out=moved.gradient[part])
        self.acceptance = float(acceptance.mean())
        if adapts:
            self.step *= math.exp(_ADAPTATION * (self.acceptance - TARGET_ACCEPTANCE))
            self.step = min(self.step, _TRAJECTORY)
        return moved

    def _motion(self, t: float, step: float, count: int) -> Motion:
        """What trajectories of `count` steps have in common."""
        gibbs, whitening = self.gibbs, self.whitening
        precision, reference = gibbs.precision, 1.0
        if whitening.precision == precision:  # both Gaussians are the same, and R is the loss alone
            precision = reference = 0.0
        angle = step * self.shape
        return Motion(whitening.mean, whitening.lengths, angle, count, t, gibbs.beta, precision, reference)

    def _trajectory(self, chains: Chains, momentum: Tensor, motion: Motion) -> tuple[Chains, Tensor]:
        """The chains at the end of a trajectory, and the log of the ratio of densities that decides on it. [K]"""
        y, t = self.whitening.to_y(chains.x), motion.t
        if self.whitening.axes is None and self.energy.takes_motion:
            ends = self.energy.moved(motion, y, momentum, chains.gradient)
        else:
            ends = self._moved(motion, y, momentum, chains)
        after = Chains(ends.x, ends.loss, ends.gradient)
        # Where t is 0 the rest has no weight, not even an infinite one, whose product with 0 would be NaN. A trajectory
        # that ends at a loss that is not finite is rejected, whatever the chain's own.
        rest_before, rest_after = (t * self.rest(at) if t > 0 else torch.zeros_like(at.loss) for at in (chains, after))
        change = rest_after + ends.growth
        log_ratio = torch.where(torch.isfinite(change), rest_before - change, -math.inf)
        return after, torch.where(torch.isnan(log_ratio), -math.inf, log_ratio)

    def _moved(self, motion: Motion, y: Tensor, momentum: Tensor, chains: Chains) -> Arrived:
        """The ends of trajectories, step by step. It uses up y and momentum."""
        before = _squares(y) + _squares(momentum)
        cos, sin, spare = motion.angle.cos(), motion.angle.sin(), torch.empty_like(y)
        self._push(motion, 0.5, chains, y, momentum)
        moved = chains
        for number in range(motion.num_steps):
            # In place: an array of a trajectory has millions of numbers.
            torch.mul(y, sin, out=spare)
            y.mul_(cos).addcmul_(momentum, sin)
            momentum.mul_(cos).sub_(spare)
            moved = self.start(self.whitening.to_x(y))
            self._push(motion, 0.5 if number == motion.num_steps - 1 else 1.0, moved, y, momentum)
        growth = 0.5 * (_squares(y) + _squares(momentum) - before)
        return Arrived(y, momentum, moved.x, moved.loss, moved.gradient, growth)

    def _push(self, motion: Motion, share: float, chains: Chains, y: Tensor, momentum: Tensor) -> None:
        """Takes share x t x angle x the gradient of R with respect to y from the momentum. [K, P]"""
        if motion.reference == 0.0:
            force, factor = self.whitening.pull_back(chains.gradient), motion.beta
        else:
            force = self.whitening.pull_back(motion.beta * chains.gradient + motion.precision * chains.x) - y
            factor = 1.0
        if not math.isfinite(float(force.sum())):
            # A trajectory through a bad point goes straight on; it stays reversible, and its end decides.
            force = torch.nan_to_num(force, nan=0.0, posinf=0.0, neginf=0.0)
        momentum.addcmul_(motion.angle, force, value=-share * motion.t * factor)

    def _uniform(self, shape: Sequence[int]) -> Tensor:
        return torch.rand(tuple(shape), generator=self._generator, dtype=torch.float64)


def _squares(vectors: Tensor) -> Tensor:
    """The squared norm of every row. [K]"""
    norms: Tensor = torch.linalg.vecdot(vectors, vectors)
    return norms
