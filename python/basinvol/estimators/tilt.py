"""The Gaussian that is closest to the measure of an ellipsoid."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..trust.measures import Measure

_BISECTIONS = 200


@dataclass(frozen=True)
class Tilt:
    """A Gaussian with precisions base + tau g, for curvatures g of the ellipsoid {sum g x^2 <= 1}.

    Attributes:
        base: precision of the measure itself.
        tau: factor of the curvatures.
    """

    base: float
    tau: float

    def precision(self, curvature: Tensor) -> Tensor:
        """The precisions of the Gaussian, for these curvatures. [P] float64"""
        return self.base + self.tau * curvature

    @classmethod
    def of(cls, curvature: Tensor, measure: Measure) -> Tilt:
        """The Gaussian of largest entropy relative to the measure whose mean is inside the basin.

        The base is 1/sigma^2 under a Gaussian measure, else 0 or, in a ball, large enough for E |x|^2 <= R^2; tau is
        the smallest for which E sum g x^2 <= 1. In many dimensions the points of a basin lie near its boundary, and
        this Gaussian has its mass there.
        """
        if measure.is_gaussian:
            return _with_base(curvature, 1.0 / measure.variance)
        free = _with_base(curvature, 0.0)
        limit = measure.radius_max(len(curvature)) ** 2
        if float((1.0 / free.precision(curvature)).sum()) <= limit:
            return free
        low, high = math.log(1e-12 * len(curvature) / limit), math.log(len(curvature) / limit)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            precision = _with_base(curvature, math.exp(middle)).precision(curvature)
            low, high = (middle, high) if float((1.0 / precision).sum()) > limit else (low, middle)
        return _with_base(curvature, math.exp(high))


def _with_base(curvature: Tensor, base: float) -> Tilt:
    """The smallest tau for which sum g / (base + tau g) <= 1."""
    count = float(len(curvature))  # the answer for base = 0, where each of the P terms is 1 / tau
    if base == 0.0:
        return Tilt(0.0, count)
    if float((curvature / base).sum()) <= 1.0:
        return Tilt(base, 0.0)
    low, high = 0.0, count
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float((curvature / (base + middle * curvature)).sum()) > 1.0 else (low, middle)
    return Tilt(base, high)
