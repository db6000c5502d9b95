"""Chains that move by Hamiltonian Monte Carlo between a standard Gaussian and a Gibbs measure of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .batched import BatchedLoss

TARGET_ACCEPTANCE = 0.8
_ADAPTATION = 0.25
_JITTER = 0.2  # steps of one length would resonate with oscillations of the chains


@dataclass(frozen=True)
class Whitening:
    """x = mean + A y, with A diagonal [P] or lower triangular [P, P]: a Gaussian reference is standard in y."""

    mean: Tensor
    factor: Tensor

    @property
    def log_det(self) -> float:
        """ln |det A|."""
        diagonal = self.factor if self.factor.ndim == 1 else self.factor.diagonal()
        return float(diagonal.log().sum())

    def to_x(self, y: Tensor) -> Tensor:
        """[K, P] to [K, P]."""
        return self.mean + (self.factor * y if self.factor.ndim == 1 else y @ self.factor.T)

    def to_y(self, x: Tensor) -> Tensor:
        """The inverse of `to_x`."""
        offset = x - self.mean
        if self.factor.ndim == 1:
            return offset / self.factor
        solved: Tensor = torch.linalg.solve_triangular(self.factor, offset.T, upper=False)
        return solved.T

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to y of a function whose gradient with respect to x is given. [K, P]"""
        return gradient * self.factor if self.factor.ndim == 1 else gradient @ self.factor


@dataclass(frozen=True)
class Gibbs:
    """Unnormalized density exp(-beta (L - L0) - precision |x|^2 / 2)."""

    beta: float
    precision: float
    center_loss: float


@dataclass
class Chains:
    """K chains: positions, losses and gradients of the loss, in x. [K, P], [K], [K, P]"""

    x: Tensor
    loss: Tensor
    gradient: Tensor

    def copy(self, index: Tensor) -> Chains:
        """The chains at these positions, which may repeat."""
        return Chains(self.x[index].clone(), self.loss[index].clone(), self.gradient[index].clone())


class Hamiltonian:
    """Moves chains under exp(-U), U = (1 - t) |y|^2 / 2 + t (beta (L - L0) + precision |x|^2 / 2).

    Attributes:
        step: leapfrog step, in units of `shape`.
        shape: extent of the target along each coordinate of y, for the momenta. [P]
        acceptance: of the last move.
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
        """The same moves, with another reference and target."""
        return Hamiltonian(self.energy, whitening, gibbs, self.num_leapfrog, self.step, self._generator)

    def start(self, x: Tensor) -> Chains:
        """Chains at these positions. [K, P]"""
        return Chains(x, *self.energy.with_gradients(x))

    def reference(self, count: int) -> Chains:
        """Chains drawn from the Gaussian reference."""
        noise = torch.randn(count, len(self.whitening.mean), generator=self._generator, dtype=torch.float64)
        return self.start(self.whitening.to_x(noise))

    def potential(self, chains: Chains, t: float) -> Tensor:
        """U of every chain; infinite where the loss is not a number. [K]"""
        gibbs = self.gibbs
        reference = 0.5 * self.whitening.to_y(chains.x).square().sum(dim=1)
        target = gibbs.beta * (chains.loss - gibbs.center_loss) + 0.5 * gibbs.precision * chains.x.square().sum(dim=1)
        total = (1.0 - t) * reference + t * target if t > 0 else reference
        return torch.where(torch.isnan(total), math.inf, total)

    def move(self, chains: Chains, t: float, adapts: bool = False) -> Chains:
        """One trajectory of every chain, accepted or not (Duane et al. 1987; Neal 2011)."""
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
        return torch.nan_to_num(force, nan=0.0, posinf=0.0, neginf=0.0)
