"""The unit ball with many others around it, each of which adds little, and all of them together much."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..trust.volume import log_unit_ball
from .case import Case, gauge_case, rotation
from .revolution import Ball, union

_MOST_OVERLAP = 1e-3  # of the volume, between pairs of the other balls: what three of them share is less


def many_balls(dim: int, count: int, offset: float, radius: float, seed: int = 0) -> Case:
    """The unit ball, and equal balls whose centers lie at the same distance along perpendicular axes.

    Where the distance is below the radius, the center lies in all of them, in cones that rays do not meet; where it is
    above 1 + radius, they are parts of the set that no ray from the center sees.

    The volume is the sum over all balls less what two have in common (Bonferroni), which is the volume of bodies of
    revolution (`union`).

    Args:
        dim: P.
        count: of the other balls, at most P.
        offset: of their centers.
        radius: theirs.
        seed: of the axes.

    Raises:
        ValueError: there are more balls than axes, or they overlap so much that the sum is not the volume.
    """
    if not 1 <= count <= dim:
        raise ValueError(f"`count` must be from 1 to dim = {dim}, as every ball has an axis of its own, got {count}.")
    axes = rotation(dim, seed)[:count]

    def gauge(w: Tensor) -> Tensor:
        # The nearest center lies along the axis that w leans to most, so that no [count, P] differences are needed.
        from_origin = w.square().sum()
        others = (from_origin - 2.0 * offset * (axes @ w).amax() + offset**2) / radius**2
        return torch.minimum(from_origin, others)

    one = radius**dim
    with_one = union("", dim, [Ball(0.0, 1.0), Ball(offset, radius)]).log_volume - log_unit_ball(dim)
    two = union("", dim, [Ball(0.0, radius), Ball(math.sqrt(2.0) * offset, radius)]).log_volume - log_unit_ball(dim)
    volume = 1.0 + count * math.expm1(with_one)
    overlap = count * (count - 1) / 2 * max(2.0 * one - math.exp(two), 0.0)
    if not overlap <= _MOST_OVERLAP * volume:
        raise ValueError(
            f"balls of `radius` {radius:g} at `offset` {offset:g} share {overlap / volume:.2g} of their volume in "
            f"{dim} dimensions, where at most {_MOST_OVERLAP:g} keeps the formula exact; take them smaller or farther."
        )
    name = f"ball and {count} others of radius {radius:g} at {offset:g}"
    return gauge_case(name, gauge, dim, 1.0, log_unit_ball(dim) + math.log(volume - overlap))
