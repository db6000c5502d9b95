"""Chains that move by Hamiltonian Monte Carlo between a standard Gaussian and a Gibbs measure of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .batched import BatchedLoss

TARGET_ACCEPTANCE = 0.8  # the step is adapted to this acceptance ...
_ADAPTATION = 0.25  # ... by this share of the difference, in ln step
_JITTER = 0.2  # steps of one length would resonate with oscillations of the chains


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


class Hamiltonian:
    """Moves chains under exp(-U), where U = (1 - t) |y|^2 / 2 + t (beta (L - L0) + precision |x|^2 / 2).

    Args:
        energy: the loss L at many points.
        whitening: the map between x and y, which defines the reference Gaussian.
        gibbs: the target, at t = 1.
        num_leapfrog: leapfrog steps of a trajectory.
        step: leapfrog step to begin with.
        generator: generator of all random numbers, on the CPU.

    Attributes:
        step: leapfrog step, in units of `shape`.
        shape: extent of the target along each coordinate of y, for the momenta. [P]
        acceptance: mean acceptance probability of the last move.
    """

    def __init__(
        self,
        energy: BatchedLoss,
        whitening: Whitening,
        gibbs: Gibbs,
        num_leapfrog: int,
        step: float,
        generator: torch.Generator,
    ) -> None:
        self.energy, self.whitening, self.gibbs = energy, whitening, gibbs
        self.num_leapfrog, self.step = num_leapfrog, step
        self.shape = torch.ones_like(whitening.mean)
        self.acceptance = math.nan
        self._generator = generator

    def with_target(self, whitening: Whitening, gibbs: Gibbs) -> Hamiltonian:
        """The same moves, with another reference Gaussian and target."""
        return Hamiltonian(self.energy, whitening, gibbs, self.num_leapfrog, self.step, self._generator)

    def start(self, x: Tensor) -> Chains:
        """Chains that start at these positions. [K, P]"""
        return Chains(x, *self.energy.with_gradients(x))

    def reference(self, count: int) -> Chains:
        """New chains, `count` of them, drawn from the reference Gaussian."""
        noise = torch.randn(count, len(self.whitening.mean), generator=self._generator, dtype=torch.float64)
        return self.start(self.whitening.to_x(noise))

    def potential(self, chains: Chains, t: float) -> Tensor:
        """The potential U of every chain; infinite where the loss is not a number. [K]"""
        gibbs = self.gibbs
        reference = 0.5 * self.whitening.to_y(chains.x).square().sum(dim=1)
        target = gibbs.beta * (chains.loss - gibbs.center_loss) + 0.5 * gibbs.precision * chains.x.square().sum(dim=1)
        # At t = 0 an infinite loss must not count: 0 x infinity is NaN.
        total = (1.0 - t) * reference + t * target if t > 0 else reference
        return torch.where(torch.isnan(total), math.inf, total)

    def move(self, chains: Chains, t: float, adapts: bool = False) -> Chains:
        """The chains after one trajectory each, accepted or not (Duane et al. 1987; Neal 2011).

        Args:
            chains: K chains.
            t: share of the way from the reference Gaussian, at 0, to the target, at 1.
            adapts: whether to move the step toward the target acceptance, which a run that counts must not.
        """
        jitter = 1.0 + _JITTER * (2.0 * float(torch.rand((), generator=self._generator)) - 1.0)
        step = self.step * jitter
        momentum = torch.randn(chains.x.shape, generator=self._generator, dtype=torch.float64)
        before = self.potential(chains, t) + 0.5 * momentum.square().sum(dim=1)
        y, moved = self.whitening.to_y(chains.x), chains
        momentum = momentum - 0.5 * step * self.shape * self._force(moved, y, t)
        for leap in range(self.num_leapfrog):
            y = y + step * self.shape * momentum
            moved = self.start(self.whitening.to_x(y))
            last = leap == self.num_leapfrog - 1
            momentum = momentum - (0.5 if last else 1.0) * step * self.shape * self._force(moved, y, t)
        # Trajectories that end at a loss that is not finite are rejected, whatever the chain's own.
        after = self.potential(moved, t) + 0.5 * momentum.square().sum(dim=1)
        log_ratio = torch.where(torch.isfinite(after), before - after, -math.inf)
        log_ratio = torch.where(torch.isnan(log_ratio), -math.inf, log_ratio)
        uniform = torch.rand(len(y), generator=self._generator, dtype=torch.float64)
        accepted = uniform.log() < log_ratio
        self.acceptance = float(log_ratio.clamp(max=0.0).exp().mean())
        if adapts:
            self.step *= math.exp(_ADAPTATION * (self.acceptance - TARGET_ACCEPTANCE))
        return Chains(
            torch.where(accepted[:, None], moved.x, chains.x),
            torch.where(accepted, moved.loss, chains.loss),
            torch.where(accepted[:, None], moved.gradient, chains.gradient),
        )

    def _force(self, chains: Chains, y: Tensor, t: float) -> Tensor:
        gibbs = self.gibbs
        target = gibbs.beta * chains.gradient + gibbs.precision * chains.x
        force = (1.0 - t) * y + t * self.whitening.pull_back(target)
        # A trajectory through a bad point goes straight on; it stays reversible, and its end decides.
        return torch.nan_to_num(force, nan=0.0, posinf=0.0, neginf=0.0)
