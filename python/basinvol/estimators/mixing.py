"""Have chains forgotten where they began? Independent groups that agree do not say so: all may be equally wrong."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..trust.chains import ChainSamples

# Of chains this short: those of round and elliptic bodies stay below 1.5, those of crosses whose arms they do not
# leave are from 2.2 on (docs/trust.md).
MAX_R_HAT = 2.0
LEAST_MOVES = 8  # of a chain, for R-hat
MAX_DRIFT_Z, MIN_DRIFT_NATS = 3.0, 0.1


def rank_normalized_r_hat(samples: Tensor) -> Tensor:
    """Rank-normalized split R-hat of Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), one for each statistic.

    Near 1 if every half of every chain covers the same values; larger where chains stay apart or still move somewhere.
    Ranks make it a statement about distributions without moments, such as the arms of a cross.

    Args:
        samples: of every chain. [M, K, S]

    Returns:
        One for each statistic, 1 for one that is constant, and NaN for fewer than 4 samples of a chain. [S] float64
    """
    if len(samples) < 4:
        return torch.full((samples.shape[2],), math.nan, dtype=torch.float64)
    half = len(samples) // 2
    split = torch.cat([samples[:half], samples[half : 2 * half]], dim=1).double()  # [half, 2 K, S]
    flat = split.flatten(0, 1)
    # The mean rank of equal values, or a statistic with few values would look like one with many.
    below = torch.stack([torch.searchsorted(column.sort().values, column) for column in flat.T.contiguous()], dim=1)
    above = torch.stack(
        [torch.searchsorted(column.sort().values, column, right=True) for column in flat.T.contiguous()], dim=1
    )
    ranks = 0.5 * (below + above + 1).double()
    scores = torch.special.ndtri((ranks - 0.375) / (len(flat) + 0.25)).reshape(split.shape)
    within = scores.var(dim=0).mean(dim=0)
    between = half * scores.mean(dim=0).var(dim=0)
    ratio = ((half - 1) / half * within + between / half) / torch.where(within > 0, within, 1.0)
    is_constant = between + within == 0
    return torch.where(is_constant, 1.0, torch.where(within > 0, ratio, math.inf)).sqrt()


def unmixed(r_hat: float) -> str:
    """Why chains that stay apart are not trusted."""
    return f"the chains stay apart (rank-normalized R-hat {r_hat:.2f}, above {MAX_R_HAT:g}), and may miss parts."


def drift(later_minus_earlier: Tensor) -> tuple[float, float]:
    """How far a log of measure grew from the earlier samples of walkers to the later ones, and in standard errors.

    Args:
        later_minus_earlier: of independent groups, added up over all stages. [G] nats
    """
    mean = float(later_minus_earlier.mean())
    error = float(later_minus_earlier.std()) / math.sqrt(len(later_minus_earlier))
    return mean, abs(mean) / error if error > 0 else 0.0


def is_drifting(later_minus_earlier: Tensor) -> bool:
    """Whether that growth is too large to be noise and to be nothing: walkers lag behind, and never ahead. [G]"""
    mean, z = drift(later_minus_earlier)
    return z > MAX_DRIFT_Z and mean > MIN_DRIFT_NATS


def watched(x: Tensor, loss: Tensor) -> Tensor:
    """Statistics of chains that R-hat is asked of: the loss, the distance from the center, and sizes of coordinates.

    Args:
        x: positions. [K, P]
        loss: of every chain. [K]

    Returns:
        The loss, the distance and the sizes of the coordinates of `watched_coordinates`. [K, 2 + C]
    """
    distance = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return torch.cat([loss[:, None], distance, x[:, watched_coordinates(x.shape[1])].abs()], dim=1)


def watched_coordinates(dim: int, most: int = 64) -> Tensor:
    """The coordinates that are watched, evenly spaced among all. [C] int64"""
    return torch.linspace(0, dim - 1, min(most, dim)).round().long()


def samples_of(statistics: Tensor, dim: int) -> ChainSamples:
    """The statistics of `watched`, over moves, by name. [M, K, 2 + C]"""
    loss, distance, sizes = statistics[..., 0], statistics[..., 1], statistics[..., 2:]
    return ChainSamples(loss, distance, sizes, watched_coordinates(dim))
