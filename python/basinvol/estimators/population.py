"""A population of chains carried from a reference Gaussian to a Gibbs measure, temperature by temperature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..progress import Bar
from ..trust.diagnostics import log_mean_exp
from .hamiltonian import Chains, Hamiltonian

# Conditional effective sample size between two temperatures of the pilot (Zhou, Johansen and Aston 2016).
_CONDITIONAL_ESS = 0.9
_MOST_TEMPERATURES = 2000
_BISECTIONS = 60  # more than float64 resolves between two temperatures
_RESHAPE = 1.5  # ratio of temperatures between two fits of the chains' extent
_ACCEPTANCE_SPAN = 10  # temperatures in a row whose mean acceptance is judged: one move alone says little
_TUNED_ACCEPTANCE, _MOST_TUNING_MOVES = 0.6, 10
_RESAMPLE = 0.5  # chains are resampled when their effective number falls below this share of them


@dataclass(frozen=True)
class Temperature:
    """A point on the way from the reference Gaussian to the basin, and how chains move there.

    Attributes:
        t: share of the way, from 0 to 1.
        step, shape: see `Hamiltonian`.
    """

    t: float
    step: float
    shape: Tensor


@dataclass(frozen=True)
class Passed:
    """A population at one temperature of an annealing that counts.

    Attributes:
        t: share of the way from the measure to the target.
        loss: losses of the chains. [K] float64
        log_weights: log weights of the chains in their groups. [G, K / G] float64
        log_z: log of the integral at the last resampling, from each group. [G] float64
    """

    t: float
    loss: Tensor
    log_weights: Tensor
    log_z: Tensor


@dataclass(frozen=True)
class Annealed:
    """What an annealing says of the target's integral.

    Attributes:
        log_z: log of the ratio of the target's integral to that of the reference Gaussian, from each group. [G] float64
        log_chain: log weight of each chain in the average over all groups; the weights sum to 1. [K] float64
        acceptance: smallest mean acceptance over ten temperatures in a row.
        passed: the population at every temperature.
    """

    log_z: Tensor
    log_chain: Tensor
    acceptance: float
    passed: list[Passed]


class Population:
    """Independent groups of chains that are annealed together.

    Args:
        hamiltonian: the moves; its step and shape are set on the way.
        num_chains: K.
        num_groups: G, a divisor of K.
        generator: generator of the random numbers of resampling, on the CPU.
    """

    def __init__(self, hamiltonian: Hamiltonian, num_chains: int, num_groups: int, generator: torch.Generator) -> None:
        self.hamiltonian = hamiltonian
        self._count, self._groups = num_chains, num_groups
        self._generator = generator

    def choose_temperatures(
        self, bar: Bar, is_there: Callable[[Chains, Tensor], bool] | None = None, reshapes: bool = False
    ) -> tuple[list[Temperature], float, bool]:
        """A first annealing that keeps the conditional effective sample size; it tunes the steps too.

        Args:
            bar: is told of every temperature.
            is_there: says whether to end, given the chains and their log weights [K]; by default it ends at the target.
            reshapes: whether the momenta follow the extent of the chains.

        Returns:
            The temperatures, the share of the way at which they end, and whether that is the goal.
        """
        hamiltonian, t, shaped = self.hamiltonian, 0.0, 0.0
        chains = hamiltonian.reference(self._count)
        log_weights = torch.zeros(self._count, dtype=torch.float64)
        schedule: list[Temperature] = []
        while t < 1.0 and len(schedule) < _MOST_TEMPERATURES:
            if is_there is not None and is_there(chains, log_weights):
                break
            rest = hamiltonian.rest(chains)
            goal = _next_temperature(rest, log_weights, t)
            log_weights = log_weights + _increment(rest, t, goal)
            t = goal
            if effective_size(log_weights) < _RESAMPLE * self._count:
                chains = chains.copy(self._resampled(log_weights))
                log_weights = torch.zeros_like(log_weights)
            if reshapes and t > _RESHAPE * shaped:
                hamiltonian.shape = hamiltonian.whitening.to_y(chains.x).std(dim=0).clamp(1e-6, 1.0)
                shaped = t
            # Where few parameters let the temperature fall fast, one move is not enough for the step to follow.
            for _ in range(_MOST_TUNING_MOVES):
                chains = hamiltonian.move(chains, t, adapts=True)
                if hamiltonian.acceptance >= _TUNED_ACCEPTANCE:
                    break
            schedule.append(Temperature(t, hamiltonian.step, hamiltonian.shape))
            bar.update()
        return schedule, t, t >= 1.0 if is_there is None else is_there(chains, log_weights)

    def anneal(self, schedule: Sequence[Temperature], bar: Bar) -> tuple[Chains, Annealed]:
        """The chains [K] after an annealing that counts: all temperatures and steps are fixed, so that Z is unbiased.

        Args:
            schedule: the temperatures, from the reference to the target.
            bar: is told of every temperature.
        """
        hamiltonian, size = self.hamiltonian, self._count // self._groups
        chains = hamiltonian.reference(self._count)
        log_weights = torch.zeros((self._groups, size), dtype=torch.float64)
        log_z = torch.zeros(self._groups, dtype=torch.float64)
        acceptances, t, passed = [], 0.0, list[Passed]()
        for temperature in schedule:
            increment = _increment(hamiltonian.rest(chains), t, temperature.t)
            log_weights = log_weights + increment.reshape(self._groups, size)
            t, hamiltonian.step, hamiltonian.shape = temperature.t, temperature.step, temperature.shape
            index = torch.arange(self._count).reshape(self._groups, size).clone()
            # Within its group only, so that groups stay independent and their spread is an error.
            poor = [g for g in range(self._groups) if effective_size(log_weights[g]) < _RESAMPLE * size]
            for group in poor:
                log_z[group] += log_mean_exp(log_weights[group])
                index[group] = group * size + self._resampled(log_weights[group])
                log_weights[group] = 0.0
            chains = hamiltonian.move(chains.copy(index.reshape(-1)) if poor else chains, t)
            acceptances.append(hamiltonian.acceptance)
            passed.append(Passed(t, chains.loss, log_weights.clone(), log_z.clone()))
            bar.update()
        log_z += torch.logsumexp(log_weights, dim=1) - math.log(size)
        log_chain = (log_z[:, None] + torch.log_softmax(log_weights, dim=1)).reshape(-1)
        span = min(_ACCEPTANCE_SPAN, len(acceptances))
        smallest = float(torch.tensor(acceptances).unfold(0, span, 1).mean(dim=1).min()) if acceptances else 1.0
        return chains, Annealed(log_z, log_chain - torch.logsumexp(log_chain, dim=0), smallest, passed)

    def _resampled(self, log_weights: Tensor) -> Tensor:
        """Positions of chains in proportion to their weights, by systematic resampling. [K]"""
        count = len(log_weights)
        edges = torch.softmax(log_weights, dim=0).cumsum(0)
        comb = (torch.arange(count) + torch.rand((), generator=self._generator, dtype=torch.float64)) / count
        return torch.searchsorted(edges, comb).clamp(max=count - 1)  # rounding may leave the last edge below 1


def _next_temperature(rest: Tensor, log_weights: Tensor, t: float) -> float:
    """The farthest temperature to which the conditional effective sample size allows to go.

    Args:
        rest: R of every chain, see `Hamiltonian`. [K]
        log_weights: log weights of the chains. [K]
        t: the temperature at which they are.
    """
    if _conditional_ess(log_weights, _increment(rest, t, 1.0)) >= _CONDITIONAL_ESS:
        return 1.0
    low, high = t, 1.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        enough = _conditional_ess(log_weights, _increment(rest, t, middle)) >= _CONDITIONAL_ESS
        low, high = (middle, high) if enough else (low, middle)
    return max(low, t * (1.0 + 1e-6), 1e-15)  # always some progress, or the schedule would never end


def _increment(rest: Tensor, t: float, goal: float) -> Tensor:
    """The log of the ratio of densities between two temperatures. [K]"""
    return torch.where(torch.isfinite(rest), (t - goal) * rest, -math.inf)


def _conditional_ess(log_weights: Tensor, increment: Tensor) -> float:
    share = torch.log_softmax(log_weights, dim=0)
    first, second = torch.logsumexp(share + increment, 0), torch.logsumexp(share + 2.0 * increment, 0)
    return float((2.0 * first - second).exp())


def refined(schedule: Sequence[Temperature], parts: int) -> list[Temperature]:
    """The schedule with every step divided into `parts` equal parts."""
    before, fine = 0.0, []
    for temperature in schedule:
        steps = [before + (temperature.t - before) * (i + 1) / parts for i in range(parts)]
        fine += [Temperature(t, temperature.step, temperature.shape) for t in steps]
        before = temperature.t
    return fine


def effective_size(log_weights: Tensor) -> float:
    """The effective number of weights, (sum w)^2 / sum w^2; 0 if no weight is finite."""
    if not bool(torch.isfinite(log_weights.max())):
        return 0.0
    return 1.0 / float(torch.softmax(log_weights, dim=0).square().sum())
