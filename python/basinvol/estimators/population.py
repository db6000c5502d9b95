"""A population of chains carried from a reference Gaussian to a Gibbs measure, temperature by temperature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..progress import Bar
from ..trust.diagnostics import log_mean_exp
from .checkpoint import Checkpoint
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


@dataclass
class Underway:
    """Chains on their way through the temperatures of an annealing.

    Attributes:
        chains: K chains, at the last temperature that was passed.
        t: share of the way, from 0 to 1, at which they are.
        log_weights: their log weights in their groups. [G, K / G] float64
        log_z: log of the integral at the last resampling, from each group. [G] float64
        acceptances: mean acceptance at every temperature that was passed.
        passed: the population there.
    """

    chains: Chains
    t: float
    log_weights: Tensor
    log_z: Tensor
    acceptances: list[float] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)


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

    def anneal(
        self, schedule: Sequence[Temperature], bar: Bar, checkpoint: Checkpoint | None = None
    ) -> tuple[Chains, Annealed]:
        """The chains [K] after an annealing that counts: all temperatures and steps are fixed, so that Z is unbiased.

        Args:
            schedule: the temperatures, from the reference to the target.
            bar: is told of every temperature.
            checkpoint: where the chains are kept on their way, and found by a call that goes on.
        """
        kept = None if checkpoint is None else checkpoint.restored()
        at = self._setting_out(self.hamiltonian.reference(self._count), 0.0) if kept is None else kept["at"]
        return self._carried(at, schedule, bar, checkpoint)

    def anneal_backward(self, chains: Chains, schedule: Sequence[Temperature], bar: Bar) -> tuple[Chains, Annealed]:
        """The same from the target to the reference: `log_z` is that of the reference over the target.

        Args:
            chains: K chains, each distributed as the target, though they may be one point. Then 1 / Z is unbiased.
            schedule: the temperatures, from the reference to the target as in `anneal`.
            bar: is told of every temperature.
        """
        first = schedule[0]
        way = [*reversed(schedule[:-1]), Temperature(0.0, first.step, first.shape)]
        return self._carried(self._setting_out(chains, schedule[-1].t), way, bar)

    def _setting_out(self, chains: Chains, t: float) -> Underway:
        """Chains at temperature t, all of one weight."""
        log_weights = torch.zeros((self._groups, self._count // self._groups), dtype=torch.float64)
        return Underway(chains, t, log_weights, torch.zeros(self._groups, dtype=torch.float64))

    def _carried(
        self, at: Underway, schedule: Sequence[Temperature], bar: Bar, checkpoint: Checkpoint | None = None
    ) -> tuple[Chains, Annealed]:
        """Carries chains through the temperatures that they have not passed yet, up or down."""
        hamiltonian, size, log_z = self.hamiltonian, self._count // self._groups, at.log_z
        for number, temperature in enumerate(schedule):
            hamiltonian.step, hamiltonian.shape = temperature.step, temperature.shape
            if number < len(at.passed):
                bar.update()
                continue
            increment = _increment(hamiltonian.rest(at.chains), at.t, temperature.t)
            log_weights = at.log_weights + increment.reshape(self._groups, size)
            index = torch.arange(self._count).reshape(self._groups, size).clone()
            # Within its group only, so that groups stay independent and their spread is an error.
            poor = [g for g in range(self._groups) if effective_size(log_weights[g]) < _RESAMPLE * size]
            for group in poor:
                log_z[group] += log_mean_exp(log_weights[group])
                index[group] = group * size + self._resampled(log_weights[group])
                log_weights[group] = 0.0
            at.t, at.log_weights = temperature.t, log_weights
            at.chains = hamiltonian.move(at.chains.copy(index.reshape(-1)) if poor else at.chains, at.t)
            at.acceptances.append(hamiltonian.acceptance)
            at.passed.append(Passed(at.t, at.chains.loss, log_weights.clone(), log_z.clone()))
            if checkpoint is not None:
                checkpoint.keep({"at": at})
            bar.update()
        log_z = log_z + torch.logsumexp(at.log_weights, dim=1) - math.log(size)
        log_chain = (log_z[:, None] + torch.log_softmax(at.log_weights, dim=1)).reshape(-1)
        span = min(_ACCEPTANCE_SPAN, len(at.acceptances))
        smallest = float(torch.tensor(at.acceptances).unfold(0, span, 1).mean(dim=1).min()) if at.acceptances else 1.0
        return at.chains, Annealed(log_z, log_chain - torch.logsumexp(log_chain, dim=0), smallest, at.passed)

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
