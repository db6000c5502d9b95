"""From the free energy of chains at one temperature to the measure of {loss <= cutoff}."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..progress import Bar
from ..trust.chains import ChainSamples
from ..trust.diagnostics import weight_statistics
from .batched import BatchedLoss
from .checkpoint import Checkpoint
from .hamiltonian import Chains, Gibbs, Hamiltonian
from .mixing import LEAST_MOVES, rank_normalized_r_hat, samples_of, watched
from .population import effective_size

_MIN_CONVERTED = 20.0  # effective samples near the cutoff, below which their density is smoothed
_FARTHEST = 5.0  # standard deviations of the loss that a normal density may be extended to the cutoff
_LOOKS, _WAYPOINTS = 5, 8  # last moves that are tested for what is visible from the center, and parts of each way


@dataclass(frozen=True)
class Limits:
    """The bounds of the set that is measured.

    Attributes:
        cutoff: largest loss inside.
        radius: largest |x| inside, in scaled coordinates; infinite unless the measure is a ball.
    """

    cutoff: float
    radius: float


@dataclass(frozen=True)
class Conversion:
    """The estimate of ln E[exp(beta (L - L0) + ...) 1{inside}] over chains at the target.

    Attributes:
        log_mean: the estimate. nats
        error: its standard error. nats
        num_samples: effective number of samples behind it.
        is_smoothed: whether it comes from a normal density of the loss, because samples near the cutoff are too few.
        visible: share of the measure whose straight way to the center is inside: what rays could see of it.
        r_hat: largest R-hat of the chains' statistics, NaN for fewer than eight moves.
        slope: d ln measure / d ln (cutoff - L0), as beta times the mean of L - L0: exact for a measure that is a power
            of the cutoff, and the estimate of Lau et al. (2023) of a learning coefficient.
        samples: what the chains looked like over these moves.
        first, last: the chains' losses after the first move [K], and the chains after the last move.
    """

    log_mean: float
    error: float
    num_samples: float
    is_smoothed: bool
    visible: float
    first: Tensor
    last: Chains
    samples: ChainSamples
    r_hat: float = math.nan
    slope: float = math.nan


def convert(
    hamiltonian: Hamiltonian,
    chains: Chains,
    log_chain: Tensor,
    limits: Limits,
    num_moves: int,
    bar: Bar,
    checkpoint: Checkpoint,
) -> Conversion:
    """Moves the chains on at the target, where every state counts, and converts their energy to a measure.

    Args:
        hamiltonian: the moves, with the target.
        chains: K chains at the target.
        log_chain: log of the weight of each; the weights sum to 1. [K]
        limits: the bounds of the set.
        num_moves: M, moves of every chain.
        bar: is told of every move.
        checkpoint: where the chains are kept on their way, and found by a call that goes on.
    """
    lists: dict[str, list[Tensor]] = {"losses": [], "norms": [], "seen": [], "statistics": []}
    kept = checkpoint.restored()
    if kept is not None:
        chains, lists = kept["chains"], kept["lists"]
        bar.update(len(lists["losses"]))
    losses, norms, seen, statistics = lists.values()
    for move in range(len(losses), num_moves):
        chains = hamiltonian.move(chains, 1.0)
        if move >= num_moves - _LOOKS:
            seen.append(_is_visible(hamiltonian.energy, chains, limits))
        losses.append(chains.loss)
        statistics.append(watched(chains.x, chains.loss))
        norms.append(chains.x.square().sum(dim=1))
        checkpoint.keep({"chains": chains, "lists": lists})
        bar.update()
    loss, norm = torch.stack(losses), torch.stack(norms)
    seen_by_move = torch.stack(statistics)
    r_hat = float(rank_normalized_r_hat(seen_by_move).max()) if num_moves >= LEAST_MOVES else math.nan
    samples = samples_of(seen_by_move, chains.x.shape[1])
    log_terms = _log_terms(hamiltonian.gibbs, limits, loss, norm) + log_chain - math.log(len(loss))
    looked = log_terms[-len(seen) :].reshape(-1)
    visible = float((torch.softmax(looked, dim=0) * torch.stack(seen).reshape(-1)).sum())
    effective = effective_size(log_terms.reshape(-1))
    is_smoothed = effective < _MIN_CONVERTED and hamiltonian.gibbs.beta > 0.0 and math.isinf(limits.radius)
    if is_smoothed:
        log_mean, error = _smoothed(hamiltonian.gibbs, limits.cutoff, loss, log_chain)
    else:
        # Moves of one chain are correlated: the error comes from the chains' means.
        per_chain = torch.logsumexp(log_terms, dim=0)
        log_mean, error = float(torch.logsumexp(per_chain, dim=0)), weight_statistics(per_chain)["standard_error"]
    rise = float((log_chain.exp() * (loss.mean(dim=0) - hamiltonian.gibbs.center_loss)).sum())
    slope = hamiltonian.gibbs.beta * rise if math.isfinite(rise) else math.nan
    return Conversion(log_mean, error, effective, is_smoothed, visible, losses[0], chains, samples, r_hat, slope)


def _log_terms(gibbs: Gibbs, limits: Limits, loss: Tensor, norm: Tensor) -> Tensor:
    """The log of what undoes the Gibbs measure, at samples inside; a Gaussian's own density stays. [M, K]"""
    log_values = gibbs.beta * (loss - gibbs.center_loss)
    inside = loss <= limits.cutoff
    if math.isfinite(limits.radius):
        log_values = log_values + 0.5 * gibbs.precision * norm
        inside &= norm <= limits.radius**2
    return torch.where(inside, log_values, -math.inf)


def _is_visible(energy: BatchedLoss, chains: Chains, limits: Limits) -> Tensor:
    """Whether the straight way from the center to each chain stays inside. [K]"""
    inside = torch.ones(len(chains.loss), dtype=torch.bool)
    for part in range(1, _WAYPOINTS):
        inside &= energy.losses(part / _WAYPOINTS * chains.x) <= limits.cutoff
    return inside.double()


def _smoothed(gibbs: Gibbs, cutoff: float, loss: Tensor, log_chain: Tensor) -> tuple[float, float]:
    """The integral of p(E) exp(beta E) up to the cutoff, with p a normal density, and its error."""
    weights = log_chain.exp() / len(loss)
    mean = float((weights * loss).sum())
    deviation = math.sqrt(float((weights * (loss - mean) ** 2).sum()))
    # Below the cutoff ln p(E) + beta E is nearly linear: the integral is the value at the cutoff over the slope there.
    if not deviation > 0.0:
        return -math.inf, math.inf
    z = (cutoff - mean) / deviation
    slope = gibbs.beta - z / deviation
    if slope <= 0.0 or abs(z) > _FARTHEST:
        return -math.inf, math.inf
    log_density = -0.5 * z * z - 0.5 * math.log(2.0 * math.pi) - math.log(deviation)
    error = (1.0 + abs(z)) / math.sqrt(loss.shape[1])
    return log_density + gibbs.beta * (cutoff - gibbs.center_loss) - math.log(slope), error
