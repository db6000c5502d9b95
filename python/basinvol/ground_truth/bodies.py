"""Bodies with a closed form: balls, ellipsoids, cubes, slabs, regressions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.landscape import LossFunction
from ..trust.measures import log_chi_cdf
from ..trust.volume import log_unit_ball
from .case import Case, gauge_case, rotation

_GRID = 20_001  # points of one-dimensional quadratures


def ball(dim: int, radius: float = 1.0, sigmas: Sequence[float] = ()) -> Case:
    """The ball |w| <= R, with log-volume log omega_P + P ln R and, under a Gaussian, the chi distribution's mass.

    Args:
        dim: P.
        radius: R.
        sigmas: standard deviations for which the Gaussian mass is computed.
    """
    case = gauge_case("ball", lambda w: w.square().sum(), dim, radius**2, log_unit_ball(dim) + dim * math.log(radius))
    masses = {sigma: float(log_chi_cdf(torch.tensor([radius / sigma]), dim)) for sigma in sigmas}
    return dataclasses.replace(case, log_masses=masses)


def ellipsoid(dim: int, condition: float, rotated: bool = False, seed: int = 0, cutoff: float = 0.5) -> Case:
    """The ellipsoid w'Hw/2 <= c, with log-volume log omega_P + (P/2) ln 2c - (1/2) ln det H.

    Args:
        dim: P.
        condition: the spectrum of H is log-uniform from 1 to this.
        rotated: whether the axes are rotated at random; otherwise the coordinates are in random order.
        seed: seed of the rotation or the order.
        cutoff: c.
    """
    curvature = torch.logspace(0, math.log10(condition), dim, dtype=torch.float64)
    truth = log_unit_ball(dim) + 0.5 * dim * math.log(2 * cutoff) - 0.5 * float(curvature.log().sum())
    if not rotated:
        order = torch.randperm(dim, generator=torch.Generator().manual_seed(seed))
        curvature = curvature[order]
        return gauge_case(
            f"ellipsoid, condition {condition:g}", lambda w: 0.5 * (curvature * w * w).sum(), dim, cutoff, truth
        )
    root = curvature.sqrt()[:, None] * rotation(dim, seed)
    return gauge_case(
        f"rotated ellipsoid, condition {condition:g}", lambda w: 0.5 * (root @ w).square().sum(), dim, cutoff, truth
    )


def long_axes(dim: int, length: float, num_axes: int = 1, rotated: bool = True, seed: int = 0) -> Case:
    """The unit ball stretched along few axes, with log-volume log omega_P + k ln length.

    Args:
        dim: P.
        length: factor by which the axes are stretched.
        num_axes: k, the number of axes that are stretched.
        rotated: whether these axes point anywhere or along the first coordinates.
        seed: seed of the rotation.
    """
    curvature = torch.ones(dim, dtype=torch.float64)
    curvature[:num_axes] = length**-2.0
    truth = log_unit_ball(dim) + num_axes * math.log(length)
    root = curvature.sqrt()[:, None] * (rotation(dim, seed) if rotated else torch.eye(dim, dtype=torch.float64))
    name = f"ball with {num_axes} axes {length:g} long"
    return gauge_case(name, lambda w: (root @ w).square().sum(), dim, 1.0, truth)


def two_scales(dim: int, condition: float, sigma: float, cutoff: float = 0.5) -> Case:
    """An ellipsoid with two curvatures, whose Gaussian mass is found by quadrature.

    The mass is that of chi^2_k + condition chi^2_(P-k) below 2c/sigma^2, with k = P/2, one integral over the first.

    Args:
        dim: P.
        condition: curvature on half of the axes; on the others it is 1.
        sigma: standard deviation of the Gaussian.
        cutoff: c.
    """
    num_soft = dim // 2
    curvature = torch.ones(dim, dtype=torch.float64)
    curvature[num_soft:] = condition
    truth = log_unit_ball(dim) + 0.5 * dim * math.log(2 * cutoff) - 0.5 * float(curvature.log().sum())
    case = gauge_case(
        f"ellipsoid of two scales, condition {condition:g}",
        lambda w: 0.5 * (curvature * w * w).sum(),
        dim,
        cutoff,
        truth,
    )
    limit = 2 * cutoff / sigma**2
    # Midpoints of the radius of the soft half, in units of sigma.
    step = math.sqrt(limit) / _GRID
    x = (torch.arange(_GRID, dtype=torch.float64) + 0.5) * step
    log_density = (
        (num_soft - 1) * x.log() - 0.5 * x * x - (0.5 * num_soft - 1) * math.log(2) - math.lgamma(num_soft / 2)
    )
    rest = ((limit - x * x) / condition).clamp(min=0).sqrt()
    log_rest = torch.cat([log_chi_cdf(part, dim - num_soft) for part in rest.split(10_000)])
    mass = float(torch.logsumexp(log_density + log_rest, 0)) + math.log(step)
    return dataclasses.replace(case, log_masses={sigma: mass})


def lp_ball(dim: int, p: float, radius: float = 1.0) -> Case:
    """The ball sum |w|^p <= R^p, with log-volume P ln(2 Gamma(1 + 1/p)) - ln Gamma(1 + P/p) + P ln R.

    Args:
        dim: P.
        p: the exponent; the body is spiky for p = 1, and a cube for infinite p.
        radius: R.
    """
    if math.isinf(p):
        return gauge_case("cube", lambda w: w.abs().amax(), dim, radius, dim * math.log(2 * radius))
    case = mixed([p] * dim, [1.0] * dim, cutoff=radius**p)
    return dataclasses.replace(case, name=f"l_{p:g} ball, P = {dim}")


def mixed(exponents: Sequence[float], scales: Sequence[float], cutoff: float = 1.0) -> Case:
    """The body sum |w_i/s_i|^p_i <= c, with another exponent and scale for every coordinate.

    Its log-volume is sum ln(2 s_i Gamma(1 + 1/p_i)) - ln Gamma(1 + sum 1/p_i) + (sum 1/p_i) ln c.

    Args:
        exponents: p_i. [P]
        scales: s_i. [P]
        cutoff: c.
    """
    dim, total = len(exponents), sum(1 / p for p in exponents)
    truth = sum(math.log(2 * s) + math.lgamma(1 + 1 / p) for s, p in zip(scales, exponents, strict=True))
    truth += total * math.log(cutoff) - math.lgamma(1 + total)
    powers = torch.tensor(exponents, dtype=torch.float64)
    widths = torch.tensor(scales, dtype=torch.float64)
    name = f"body of exponents {min(exponents):g} to {max(exponents):g}"
    return gauge_case(name, lambda w: ((w / widths).abs() ** powers).sum(), dim, cutoff, truth)


def star(amplitude: float = 0.5, waves: int = 5) -> Case:
    """The star r <= 1 + amplitude cos(waves t) in the plane, with log-volume ln(pi (1 + amplitude^2/2))."""

    def gauge(w: Tensor) -> Tensor:
        value: Tensor = torch.linalg.vector_norm(w) / (1.0 + amplitude * torch.cos(waves * torch.atan2(w[1], w[0])))
        return value

    return gauge_case("star", gauge, 2, 1.0, math.log(math.pi * (1 + amplitude**2 / 2)))


def needle(dim: int, length: float, width: float, along: str = "axis") -> Case:
    """The unit ball and a thin ellipsoid through it, whose volume is found by quadrature.

    Rays see the needle in a cone of angle `width`: few or none of them, though it may hold most of the volume.

    Args:
        dim: P.
        length: long semi-axis of the ellipsoid.
        width: all its other semi-axes, below 1.
        along: "axis" for the first coordinate, or "diagonal".
    """
    axis = torch.zeros(dim, dtype=torch.float64)
    axis[0] = 1.0
    if along == "diagonal":
        axis = torch.full((dim,), dim**-0.5, dtype=torch.float64)

    def gauge(w: Tensor) -> Tensor:
        height = w @ axis
        aside = w.square().sum() - height * height
        return torch.minimum(w.square().sum(), height * height / length**2 + aside / width**2)

    # V = omega_(P-1)-weighted integral over the polar angle of max(1, r_ellipsoid)^P, in ln sin to resolve the cone.
    angle = np.exp(np.linspace(math.log(1e-3 * width / length), math.log(math.pi / 2), _GRID))
    log_r = np.maximum(0.0, -0.5 * np.log((np.cos(angle) / length) ** 2 + (np.sin(angle) / width) ** 2))
    log_terms = torch.from_numpy(dim * log_r + (dim - 2) * np.log(np.sin(angle)) + np.log(np.gradient(angle)))
    log_uniform = torch.from_numpy((dim - 2) * np.log(np.sin(angle)) + np.log(np.gradient(angle)))
    log_mean = float(torch.logsumexp(log_terms, 0) - torch.logsumexp(log_uniform, 0))
    name = f"ball with a needle {length:g} x {width:g} along the {along}"
    return gauge_case(name, gauge, dim, 1.0, log_unit_ball(dim) + log_mean)


def with_dead_parameters(dim: int, num_dead: int, condition: float = 1.0, sigmas: Sequence[float] = ()) -> Case:
    """An ellipsoid in all but a few parameters that change nothing: the Lebesgue volume is infinite, a mass is not.

    Args:
        dim: P.
        num_dead: parameters that change nothing, the first ones.
        condition: the spectrum of the others is log-uniform from 1 to this.
        sigmas: standard deviations for which the Gaussian mass is computed; it is known for a condition of 1.
    """
    curvature = torch.logspace(0, math.log10(condition), dim - num_dead, dtype=torch.float64)
    name = f"ellipsoid and {num_dead} dead parameters"
    case = gauge_case(name, lambda w: (curvature * w[num_dead:].square()).sum(), dim, 1.0, math.inf)
    masses = {s: float(log_chi_cdf(torch.tensor([1 / s]), dim - num_dead)) for s in sigmas} if condition == 1.0 else {}
    return dataclasses.replace(case, log_masses=masses)


def half_space(dim: int, distance: float = 1.0, sigmas: Sequence[float] = ()) -> Case:
    """The half-space w_1 <= d, with infinite volume and Gaussian mass Phi(d / sigma).

    Args:
        dim: P.
        distance: d.
        sigmas: standard deviations for which the Gaussian mass is computed.
    """
    case = gauge_case("half-space", lambda w: w[0], dim, distance, math.inf)
    masses = {sigma: math.log(0.5 * math.erfc(-distance / sigma / math.sqrt(2))) for sigma in sigmas}
    return dataclasses.replace(case, log_masses=masses)


def slab(dim: int, half_width: float = 1.0, sigmas: Sequence[float] = ()) -> Case:
    """The slab |w_1| <= d, with infinite volume and Gaussian mass erf(d / (sigma sqrt 2)).

    Args:
        dim: P.
        half_width: d.
        sigmas: standard deviations for which the Gaussian mass is computed.
    """
    case = gauge_case("slab", lambda w: w[0].abs(), dim, half_width, math.inf)
    masses = {sigma: math.log(math.erf(half_width / sigma / math.sqrt(2))) for sigma in sigmas}
    return dataclasses.replace(case, log_masses=masses)


def regression(dim: int, condition: float, rank: int | None = None, seed: int = 0) -> Case:
    """Least squares by a linear layer without bias: a quadratic with H = 2X'X/N, infinite if X has deficient rank.

    Args:
        dim: P, the number of inputs.
        condition: the spectrum of H is log-uniform from 1 to this, on its range.
        rank: rank of the inputs X; default P.
        seed: seed of the rotation of the inputs.
    """
    rank = dim if rank is None else rank
    curvature = torch.logspace(0, math.log10(condition), rank, dtype=torch.float64)
    inputs = (curvature * rank / 2).sqrt()[:, None] * rotation(dim, seed)[:rank]
    cutoff = 0.5
    full = log_unit_ball(dim) + 0.5 * dim * math.log(2 * cutoff) - 0.5 * float(curvature.log().sum())

    def make() -> tuple[nn.Module, LossFunction, tuple[Tensor, Tensor]]:
        layer = nn.Linear(dim, 1, bias=False)
        nn.init.zeros_(layer.weight)
        return nn.Sequential(layer), F.mse_loss, (inputs.float(), torch.zeros(rank, 1))

    name = f"regression of rank {rank}, condition {condition:g}, P = {dim}"
    return Case(name, make, cutoff, dim, full if rank == dim else math.inf)
