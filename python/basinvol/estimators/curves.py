"""Curves of log mass against cutoff from what chains left on their way: one row for every cutoff that they passed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..trust.curve import Curve
from .groups import mean_of_groups
from .hamiltonian import Gibbs
from .population import Passed

_MOST_CUTOFFS = 100


@dataclass(frozen=True)
class Rung:
    """A group of chains below one loss level.

    Attributes:
        level: the loss level, infinite at the start.
        log_mass: log of the mass below it.
        loss: losses of the chains, which are spread evenly over that mass. [K / G] float64
    """

    level: float
    log_mass: float
    loss: Tensor


def annealed_curve(passed: Sequence[Passed], target: Gibbs) -> Curve:
    """The curve of chains that were annealed from the measure itself.

    In each group the chains of all temperatures together are a sample of the measure, each with the weight that makes
    up for the temperatures that could have drawn it (Ferrenberg and Swendsen 1989); the mass of a group below a cutoff
    is the sum of the weights there. The cutoffs are the mean losses of the temperatures.

    Args:
        passed: the population at every temperature.
        target: the density at the end, with that of the measure as its Gaussian factor.
    """
    if not passed:  # the measure itself is in the basin, in the mean
        return Curve.of([])
    # An even choice: the work grows with the square of the number, and neighbors hardly differ.
    chosen = [passed[i] for i in sorted({round(x) for x in torch.linspace(0, len(passed) - 1, _MOST_CUTOFFS).tolist()})]
    beta = torch.tensor([state.t * target.beta for state in chosen], dtype=torch.float64)
    log_weights = torch.stack([state.log_weights for state in chosen], dim=1)  # [G, T, K / G]
    num_groups, _, size = log_weights.shape
    log_z = torch.stack([state.log_z for state in chosen], dim=1) + torch.logsumexp(log_weights, dim=2) - math.log(size)
    loss = torch.stack([state.loss.reshape(num_groups, size) for state in chosen], dim=1)
    log_share = torch.log_softmax(log_weights, dim=2) + math.log(size)
    rise = (loss - target.center_loss).nan_to_num(nan=math.inf)
    log_sample = torch.stack([_log_measure(rise[g], log_share[g], beta, log_z[g]) for g in range(num_groups)])
    log_chain = torch.log_softmax((log_z[:, :, None] + log_share).transpose(0, 1).flatten(1), dim=1)
    rows = []
    for cutoff in (log_chain.exp() * loss.transpose(0, 1).flatten(1)).sum(dim=1).tolist():
        inside = torch.where(loss <= cutoff, log_sample, -math.inf)
        log_groups = torch.logsumexp(inside.flatten(1), dim=1)
        if math.isfinite(cutoff) and bool(torch.isfinite(log_groups).all()):
            rows.append((cutoff, *mean_of_groups(log_groups), log_groups))
    return Curve.of(rows)


def _log_measure(rise: Tensor, log_share: Tensor, beta: Tensor, log_z: Tensor) -> Tensor:
    """The log of the part of the measure that each chain of a group stands for. [T, K / G]

    Args:
        rise: losses over that of the center. [T, K / G]
        log_share: log weights of the chains, with a mean weight of one at each temperature. [T, K / G]
        beta: inverse temperatures. [T]
        log_z: log of the integral at each temperature. [T]
    """
    # Where the loss is infinite no temperature but that of the measure itself, beta = 0, could have drawn the chain.
    energy = torch.where(beta == 0, 0.0, rise[..., None] * beta)
    drawn = torch.logsumexp(-energy - log_z, dim=2) + math.log(rise.shape[1])
    return torch.where(torch.isfinite(rise), log_share - drawn, -math.inf)


def splitting_curve(groups: Sequence[Sequence[Rung]], last: float) -> Curve:
    """The curve of groups of chains that came down by loss levels of their own.

    Args:
        groups: the rungs of every group, from the top down.
        last: the loss that all of them reached.
    """
    # Every group passed these: at its i-th level each is near the i-th level of the others.
    depth = min(map(len, groups))
    levels = [float(torch.tensor([rungs[i].level for rungs in groups]).median()) for i in range(1, depth)]
    rows = []
    for cutoff in [*(level for level in levels if level > last), last]:
        log_groups = torch.tensor([_log_mass_below(cutoff, rungs) for rungs in groups], dtype=torch.float64)
        if bool(torch.isfinite(log_groups).all()):
            rows.append((cutoff, *mean_of_groups(log_groups), log_groups))
    return Curve.of(rows)


def _log_mass_below(cutoff: float, rungs: Sequence[Rung]) -> float:
    """The log of the mass of one group below a cutoff, by the lowest rung above it."""
    rung = min((rung for rung in rungs if rung.level > cutoff), key=lambda rung: rung.level)
    share = float((rung.loss <= cutoff).double().mean())
    return rung.log_mass + math.log(share) if share > 0.0 else -math.inf
