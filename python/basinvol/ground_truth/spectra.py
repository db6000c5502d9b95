"""Quadratic basins of any spectrum, and their mass under a Gaussian, exact far into the tail."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..trust.volume import log_unit_ball
from .case import Case, gauge_case, rotation

_POINTS = 20_001
_WIDTHS = 60.0  # of the peak, on either side of the saddle
_BISECTIONS = 200


def power_law(
    dim: int,
    largest: float,
    power: float,
    rank: int | None = None,
    rotated: bool = False,
    sigmas: Sequence[float] = (),
    seed: int = 0,
) -> Case:
    """sum a_k w_k^2 <= 1 with a_k = largest k^-power for k up to the rank, and 0 beyond it.

    Args:
        dim: P.
        largest, power: of the spectrum.
        rank: number of axes that are bounded; default all.
        rotated: whether the axes are those of a random rotation.
        sigmas: Gaussians under which its mass is computed.
        seed: of the rotation.
    """
    rank = dim if rank is None else rank
    spectrum = torch.zeros(dim, dtype=torch.float64)
    spectrum[:rank] = largest * torch.arange(1, rank + 1, dtype=torch.float64) ** -power
    truth = log_unit_ball(dim) - 0.5 * float(spectrum.log().sum()) if rank == dim else math.inf
    kind = f"{'rotated ' if rotated else ''}spectrum {largest:g} k^-{power:g}" + (
        "" if rank == dim else f" of rank {rank}"
    )
    if rotated:
        root = spectrum.sqrt()[:, None] * rotation(dim, seed)
        case = gauge_case(kind, lambda w: (root @ w).square().sum(), dim, 1.0, truth)
    else:
        case = gauge_case(kind, lambda w: (spectrum * w * w).sum(), dim, 1.0, truth)
    masses = {sigma: log_quadratic_cdf(spectrum.numpy() * sigma**2, 1.0) for sigma in sigmas}
    return dataclasses.replace(case, log_masses=masses)


def slabs(dim: int, half_width: float, count: int = 1, rotated: bool = False, sigmas: Sequence[float] = (1.0,)) -> Case:
    """|q_j w| <= h for j up to `count`, q_j orthonormal: infinite; under a Gaussian erf(h / sigma sqrt 2)^count.

    Args:
        dim: P.
        half_width: h.
        count: number of slabs.
        rotated: whether the normals are rows of a random rotation and not of the identity.
        sigmas: Gaussians under which its mass is computed.
    """
    normals = (rotation(dim, 1) if rotated else torch.eye(dim, dtype=torch.float64))[:count]
    name = f"{'rotated ' if rotated else ''}{count} slabs of half-width {half_width:g}"
    case = gauge_case(name, lambda w: (normals @ w).abs().amax(), dim, half_width, math.inf)
    masses = {s: count * math.log(math.erf(half_width / s / math.sqrt(2.0))) for s in sigmas}
    return dataclasses.replace(case, log_masses=masses)


def log_quadratic_cdf(weights: NDArray[np.float64], limit: float, offsets: NDArray[np.float64] | float = 0.0) -> float:
    """ln P(sum a_i (z_i + b_i)^2 <= c) for standard normal z, however small.

    The inverse Laplace transform of exp(s c) prod (1 + 2 a_i s)^(-1/2) exp(-s a_i b_i^2 / (1 + 2 a_i s)) / s along the
    vertical line through its saddle (Imhof 1961 inverts the same transform on the imaginary axis, which loses the tail
    to cancellation).

    Args:
        weights: a_i >= 0, at least one of them positive; the relative error is below 1e-6 from three on. [P]
        limit: c > 0.
        offsets: b_i, or one for all. [P]
    """
    is_seen = weights > 0
    a, b = weights[is_seen], np.broadcast_to(offsets, weights.shape)[is_seen]
    ab2 = a * b**2

    def log_transform(s: NDArray[Any]) -> NDArray[Any]:
        total: NDArray[Any] = s * limit - np.log(s)
        for part in np.array_split(np.arange(len(a)), max(1, len(a) // 64)):
            spread = 1.0 + 2.0 * a[part, None] * s
            total = total - (0.5 * np.log(spread) + s * ab2[part, None] / spread).sum(axis=0)
        return total

    # The derivative is positive at `high`, as a / (1 + 2 a s) is at most 1 / (2 s), and over the square 1 / (8 s).
    low, high = 1e-12 / limit, 2.0 * (len(a) / 2.0 + 1.0 + float((b**2).sum()) / 8.0) / limit
    for _ in range(_BISECTIONS):  # bisection of the derivative, in ln s
        middle = math.sqrt(low * high)
        spread = 1.0 + 2.0 * a * middle
        slope = limit - 1.0 / middle - float((a / spread + ab2 / spread**2).sum())
        low, high = (middle, high) if slope < 0 else (low, middle)
    saddle = math.sqrt(low * high)
    spread = 1.0 + 2.0 * a * saddle
    second = saddle**-2.0 + float((2.0 * a**2 / spread**2 + 4.0 * a * ab2 / spread**3).sum())
    # Even steps near the saddle and growing ones in the tail, which falls as a power only if there are few axes.
    u = np.linspace(-_WIDTHS, _WIDTHS, _POINTS)
    y, weight = np.sinh(u / 8.0) * 8.0 / math.sqrt(second), np.cosh(u / 8.0) / math.sqrt(second)
    log_values = log_transform(saddle + 1j * y)
    peak = float(log_values.real.max())
    integral = float((np.exp(log_values - peak).real * weight).sum()) * (u[1] - u[0]) / (2.0 * math.pi)
    return min(peak + math.log(integral), 0.0)
