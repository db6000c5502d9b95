"""Crosses: sets on which products of parameters are small, as in deep linear networks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .case import Case, gauge_case

_POINTS = 400_001


def cross(num_factors: int, depth: float, order: int = 2) -> Case:
    """max over K groups of |w_1 ... w_m| <= d, and all |w_i| <= 1.

    The volume of one group is 2^m P(-sum ln u_j >= -ln d) with u_j uniform, which is a Gamma law's tail:
    2^m d sum_(j < m) (-ln d)^j / j!, and 4 d (1 - ln d) for m = 2.

    Args:
        num_factors: K; P = m K.
        depth: d, below 1.
        order: m, the number of factors of a product.
    """
    log_depth = -math.log(depth)
    one = order * math.log(2.0) - log_depth + math.log(sum(log_depth**j / math.factorial(j) for j in range(order)))

    def gauge(w: Tensor) -> Tensor:
        products = w.reshape(order, num_factors).prod(dim=0).abs()
        return torch.maximum(products.amax() / depth, w.abs().amax())

    return gauge_case(f"cross of order {order}, d = {depth:g}", gauge, order * num_factors, 1.0, num_factors * one)


def singular_disk(cutoff: float, sigmas: Sequence[float] = ()) -> Case:
    """(a b)^2 <= eps in the unit disk: an eighth of the circle by quadrature over the angle.

    Args:
        cutoff: eps; the loss outside the disk is eps + |w|^2.
        sigmas: Gaussians that the disk bounds too.
    """
    angle = (np.arange(_POINTS) + 0.5) / _POINTS * (math.pi / 4)  # an eighth of the circle
    # |a b| = r^2 sin cos <= sqrt(eps) and r <= 1.
    reach = np.minimum(1.0, cutoff**0.25 / np.sqrt(np.sin(angle) * np.cos(angle)))
    truth = math.log(8.0 * float(np.mean(reach**2 / 2.0)) * math.pi / 4)

    def gauge(w: Tensor) -> Tensor:
        square = w.square().sum()
        return torch.where(square <= 1.0, (w[0] * w[1]) ** 2, cutoff * (1.0 + square))

    masses = {s: math.log(8.0 * float(np.mean(1.0 - np.exp(-0.5 * (reach / s) ** 2))) / 8.0) for s in sigmas}
    return dataclasses.replace(
        gauge_case(f"(ab)^2 <= {cutoff:g} in a disk", gauge, 2, cutoff, truth), log_masses=masses
    )
