"""What a volume is measured in: Lebesgue measure, the mass under a Gaussian, or what lies inside a ball.

The Lebesgue volume of {loss <= cutoff} is infinite for most networks: a unit that no example reaches, or a weight
matrix with more columns than its inputs have rank, gives unbounded directions. The other two are always finite.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..inputs.arguments import one_of, real_number
from .volume import log_unit_ball

MEASURES = ("lebesgue", "gaussian", "ball")

# chi_P exceeds sqrt(P) + t with probability below exp(-t^2/2) (Laurent and Massart 2000): 1e-14 at 8.
_BEYOND_GAUSSIAN = 8.0
# The integrand falls to exp(-_DEPTH) of its maximum inside the window of the quadrature.
_DEPTH = 40.0
_NODES = 200  # of the quadrature, for a relative error of about 1e-12


@dataclass(frozen=True)
class Measure:
    """The measure of a basin, in the scaled coordinates in which directions are uniform.

    Attributes:
        name: "lebesgue", ordinary volume; "gaussian", the mass under N(center, sigma^2 S^2) (Scherlis and Belrose
            2025), at most 1; "ball", the volume inside {|S^-1 (w - center)| <= radius}.
        sigma: standard deviation in units of the scale, for "gaussian".
        radius: radius of the ball in units of the scale, for "ball".

    Raises:
        ValueError: the name is unknown, or sigma or radius is missing, not positive, or belongs to another measure.
    """

    name: str = "lebesgue"
    sigma: float | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        one_of("measure", self.name, MEASURES)
        for parameter, owner in (("sigma", "gaussian"), ("radius", "ball")):
            value = getattr(self, parameter)
            if value is not None:
                value = real_number(parameter, value)
            if self.name != owner and value is not None:
                raise ValueError(f"`{parameter}` belongs to measure={owner!r}, got it with measure={self.name!r}.")
            if self.name == owner and not (value is not None and 0 < value < math.inf):
                raise ValueError(
                    f"measure={owner!r} needs a positive `{parameter}` in units of the scale, got {parameter}={value}."
                )

    @property
    def is_gaussian(self) -> bool:
        """Whether the measure is a probability, so that the basin has a mass and not a volume."""
        return self.name == "gaussian"

    @property
    def is_ball(self) -> bool:
        """Whether the measure is the volume inside a ball."""
        return self.name == "ball"

    @property
    def variance(self) -> float:
        """The variance of every coordinate, in squared units of the scale; infinite unless Gaussian."""
        return math.inf if self.sigma is None else self.sigma**2

    @property
    def limit(self) -> float:
        """The radius of the ball, in units of the scale; infinite for the other measures."""
        return math.inf if self.radius is None else self.radius

    @property
    def is_finite(self) -> bool:
        """Whether every basin has a finite measure, so that rays that never leave can be counted in full."""
        return self.name != "lebesgue"

    def radius_max(self, dim: int) -> float:
        """The radius beyond which at most 1e-14 of the measure lies; infinite for Lebesgue."""
        return min(self.limit, math.sqrt(self.variance) * (math.sqrt(dim) + _BEYOND_GAUSSIAN))

    def log_weights(self, radius: Tensor, dim: int) -> Tensor:
        """The log of the integrand w(r), where measure = constant x E_u[w(r(u))]. [D] float64

        It is P ln r for Lebesgue, P ln min(r, R) in a ball, and the Gaussian's log mass within r.

        Args:
            radius: radii in scaled coordinates. [D]
            dim: P.
        """
        radius = radius.double()
        if self.is_gaussian:
            return log_chi_cdf(radius / math.sqrt(self.variance), dim)
        return dim * radius.clamp(max=self.limit).log()

    def log_largest(self, dim: int) -> float:
        """Log of the largest weight that a ray can have, in `dim` dimensions; infinite for Lebesgue measure."""
        return 0.0 if self.is_gaussian else dim * math.log(self.limit) if self.is_ball else math.inf

    def log_constant(self, dim: int, log_det_scale: float) -> float:
        """The log of the constant, in nats: the unit ball times the scale's determinant, or 0 for a probability."""
        return 0.0 if self.is_gaussian else log_unit_ball(dim) + log_det_scale

    @property
    def quantity(self) -> str:
        """The name of the number: "log mass" or "log volume"."""
        return "log mass" if self.is_gaussian else "log volume"

    def describe(self, scaling: str) -> str:
        """The measure in a few words, with its parameter and the coordinates that it is stated in."""
        units = "" if scaling == "none" else f" x {scaling} scale"
        if self.is_gaussian:
            return f"gaussian around the center, sigma {self.sigma:g}{units}"
        if self.is_ball:
            return f"lebesgue inside a ball around the center, radius {self.radius:g}{units}"
        return "lebesgue, without limit"

    def settings(self) -> dict[str, Any]:
        """The measure as plain values, for records and JSON."""
        return {"measure": self.name, "sigma": self.sigma, "ball_radius": self.radius}


LEBESGUE = Measure()


def log_chi_cdf(radius: Tensor, dim: int) -> Tensor:
    """The log of P(chi_P <= r), the standard Gaussian's mass within r; exact far in the tail. [D] float64

    >>> import math
    >>> radius = torch.tensor([1.0])
    >>> round(float(log_chi_cdf(radius, dim=2).exp()), 6) == round(1.0 - math.exp(-0.5), 6)
    True

    The integral of x^(P-1) exp(-x^2/2) from 0 to r is found by Gauss-Legendre quadrature in ln x, on a window below the
    smaller of r and the maximum, where the integrand is log-concave; the relative error is about 1e-12.

    Args:
        radius: r, in units of the standard deviation. [D]
        dim: P.
    """
    radius = radius.double()
    log_peak, width = 0.5 * math.log(dim), 1.0 / math.sqrt(2.0 * dim)
    reach = 12.0 * width + _DEPTH / dim
    positive = (radius > 0) & (radius < math.inf)
    log_radius = torch.where(positive, radius, 1.0).log()
    stop = log_radius.clamp(max=log_peak + 12.0 * width)
    # Below the maximum the integrand grows with at least this slope up to its end.
    slope = (dim - (2.0 * stop).exp()).clamp(min=0.0)
    start = torch.where(stop <= log_peak, stop - (_DEPTH / slope).clamp(max=reach), log_peak - reach)

    nodes, weights = _gauss_legendre(_NODES)
    half = 0.5 * (stop - start)
    t = start[..., None] + half[..., None] * (1.0 + nodes)
    log_integral = torch.logsumexp(dim * t - 0.5 * (2.0 * t).exp() + weights.log(), dim=-1) + half.log()
    log_whole = (0.5 * dim - 1.0) * math.log(2.0) + math.lgamma(0.5 * dim)
    found = (log_integral - log_whole).clamp(max=0.0)  # rounding must not make a probability exceed 1
    return torch.where(positive, found, torch.where(radius > 0, 0.0, -math.inf))


@functools.cache
def _gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(nodes), torch.from_numpy(weights)
