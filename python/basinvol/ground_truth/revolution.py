"""Bodies of revolution: unions of balls, tubes and funnels along one axis, which rays from the center may never meet.

At height t along the axis the section of a union is the largest of its parts' sections, a ball of P - 1 dimensions:

    V = omega_(P-1) integral rho(t)^(P-1) dt,     mass = integral phi(t) P(chi_(P-1) <= rho(t) / sigma) dt.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..trust.measures import log_chi_cdf
from ..trust.volume import log_unit_ball
from .case import Case, gauge_case

_POINTS = 200_001  # of the integral along the axis
_MASS_STEP = 10  # each point of a mass is a quadrature of its own


@dataclass(frozen=True)
class Ball:
    """{|w - height e| <= radius}, whose gauge rises as 1 + stiffness (|w - height e|^2 - radius^2)."""

    height: float
    radius: float
    stiffness: float = 1.0

    @property
    def ends(self) -> tuple[float, float]:
        """Where it begins and ends along the axis."""
        return self.height - self.radius, self.height + self.radius

    def section(self, t: Tensor) -> Tensor:
        """Its radius across the axis, 0 where it is not. [n]"""
        return (self.radius**2 - (t - self.height) ** 2).clamp(min=0.0).sqrt()

    def gauge(self, t: Tensor, aside: Tensor) -> Tensor:
        """The gauge at a height along the axis and a squared distance from it, at most 1 inside. []"""
        return 1.0 + self.stiffness * ((t - self.height) ** 2 + aside - self.radius**2)


@dataclass(frozen=True)
class Cone:
    """Heights from `bottom` to `top`, with a section that grows evenly from one radius to another: a tube, a funnel."""

    bottom: float
    top: float
    radius_bottom: float
    radius_top: float

    @property
    def ends(self) -> tuple[float, float]:
        """Where it begins and ends along the axis."""
        return self.bottom, self.top

    def _width(self, t: Tensor) -> Tensor:
        share = ((t - self.bottom) / (self.top - self.bottom)).clamp(0.0, 1.0)
        return self.radius_bottom + (self.radius_top - self.radius_bottom) * share

    def section(self, t: Tensor) -> Tensor:
        """Its radius across the axis, 0 where it is not. [n]"""
        return torch.where((t >= self.bottom) & (t <= self.top), self._width(t), 0.0)

    def gauge(self, t: Tensor, aside: Tensor) -> Tensor:
        """The gauge at a height along the axis and a squared distance from it, at most 1 inside. []"""
        half = 0.5 * (self.top - self.bottom)
        along = ((t - self.bottom - half) / half) ** 2
        return torch.maximum(along, aside / self._width(t) ** 2)


Part = Ball | Cone


def union(name: str, dim: int, parts: Sequence[Part], sigmas: Sequence[float] = (), axis: str | int = "random") -> Case:
    """A union of parts along one axis; the center lies at height 0.

    Args:
        name: of the body.
        dim: P, at least 2.
        parts: balls and cones.
        sigmas: of the Gaussians under which its mass is computed.
        axis: "diagonal", "coordinate", "random" or the seed of a random one; where it is named, so is the case.
    """
    unit = _axis(dim, axis)

    def gauge(w: Tensor) -> Tensor:
        t = w @ unit
        aside = (w.square().sum() - t * t).clamp(min=0.0)
        return torch.stack([part.gauge(t, aside) for part in parts]).amin()

    start, stop = min(part.ends[0] for part in parts), max(part.ends[1] for part in parts)
    # Midpoints, so that no end of a part is hit.
    step = (stop - start) / _POINTS
    t = start + (torch.arange(_POINTS, dtype=torch.float64) + 0.5) * step
    section = torch.stack([part.section(t) for part in parts]).amax(dim=0)
    log_section = (dim - 1) * torch.where(section > 0, section, 1.0).log()
    log_section = torch.where(section > 0, log_section, -math.inf)
    truth = log_unit_ball(dim - 1) + float(torch.logsumexp(log_section, 0)) + math.log(step)
    if axis in ("diagonal", "coordinate"):
        name = f"{name} along the {axis}"
    case = gauge_case(name, gauge, dim, 1.0, truth)
    masses = {sigma: _mass(t, section, step, dim, sigma) for sigma in sigmas}
    return dataclasses.replace(case, log_masses=masses)


def _mass(t: Tensor, section: Tensor, step: float, dim: int, sigma: float) -> float:
    t, section, step = t[_MASS_STEP // 2 :: _MASS_STEP], section[_MASS_STEP // 2 :: _MASS_STEP], step * _MASS_STEP
    log_density = -0.5 * (t / sigma) ** 2 - 0.5 * math.log(2.0 * math.pi * sigma**2)
    log_across = log_chi_cdf(section / sigma, dim - 1)
    return float(torch.logsumexp(log_density + log_across, 0)) + math.log(step)


def _axis(dim: int, axis: str | int) -> Tensor:
    if axis == "diagonal":
        return torch.full((dim,), dim**-0.5, dtype=torch.float64)
    if axis == "coordinate":
        return torch.eye(dim, dtype=torch.float64)[0]
    generator = torch.Generator().manual_seed(0 if axis == "random" else int(axis))
    unit = torch.randn(dim, dtype=torch.float64, generator=generator)
    norm: Tensor = torch.linalg.vector_norm(unit)
    return unit / norm


def hidden_balls(
    dim: int,
    offset: float = 1.1,
    radius: float = 1.3,
    count: int = 1,
    sigmas: Sequence[float] = (),
    axis: str | int = "random",
) -> Case:
    """The unit ball and larger ones through the center that rays hardly meet, in cones of a few standard deviations.

    Args:
        dim: P.
        offset: of their centers, smaller than their radius, so that the center lies inside.
        radius: theirs.
        count: 1, or 2 for one on either side.
        sigmas, axis: see `union`.
    """
    sides = [1.0, -1.0][:count]
    parts: list[Part] = [Ball(0.0, 1.0), *(Ball(side * offset, radius) for side in sides)]
    return union(f"ball and {count} hidden of radius {radius:g} at {offset:g}", dim, parts, sigmas, axis)


def two_basins(
    dim: int,
    distance: float = 4.0,
    floor: float = 0.8,
    curvature: float = 0.25,
    sigmas: Sequence[float] = (1.0,),
    axis: str | int = "diagonal",
) -> Case:
    """min(|w|^2, floor + curvature |w - b|^2) <= 1: the center's basin, and another with a wider funnel.

    Args:
        dim: P.
        distance: |b|.
        floor: the loss at the bottom of the other basin.
        curvature: of its funnel, smaller than 1.
        sigmas, axis: see `union`.
    """
    radius = math.sqrt((1.0 - floor) / curvature)
    parts: list[Part] = [Ball(0.0, 1.0), Ball(distance, radius, curvature)]
    return union(f"two basins, the other of radius {radius:.3g} at {distance:g}", dim, parts, sigmas, axis)


def tube(dim: int, length: float, radius: float, sigmas: Sequence[float] = (), axis: str | int = "random") -> Case:
    """The unit ball with a tube through it.

    Args:
        dim: P.
        length: from the center to either end.
        radius: of the tube.
        sigmas, axis: see `union`.
    """
    parts: list[Part] = [Ball(0.0, 1.0), Cone(-length, length, radius, radius)]
    return union(f"ball with a tube {length:g} x {radius:g}", dim, parts, sigmas, axis)


def funnel(
    dim: int,
    length: float,
    neck: float,
    mouth: float,
    sigmas: Sequence[float] = (),
    axis: str | int = "random",
) -> Case:
    """The unit ball with a cone that opens outward from the center.

    Args:
        dim: P.
        length: from the center to the mouth.
        neck, mouth: radii at the center and at the end.
        sigmas, axis: see `union`.
    """
    parts: list[Part] = [Ball(0.0, 1.0), Cone(0.0, length, neck, mouth)]
    return union(f"ball with a funnel {length:g} x {neck:g} to {mouth:g}", dim, parts, sigmas, axis)


def golf_hole(dim: int, radius: float, slope: float = 0.01, sigmas: Sequence[float] = (1.0,)) -> Case:
    """A ball in a plain: |w|^2 / R^2 inside, and a plateau of twice the cutoff that hardly leans toward it outside.

    Args:
        dim: P.
        radius: R, of the hole.
        slope: of the plateau, as a multiple of |w|^2.
        sigmas: see `union`.
    """
    case = union("ball", dim, [Ball(0.0, radius)], sigmas)

    def gauge(w: Tensor) -> Tensor:
        square = w.square().sum()
        return torch.minimum(square / radius**2, 2.0 + slope * square)

    hole = gauge_case(f"golf hole of radius {radius:g}", gauge, dim, 1.0, case.log_volume)
    return dataclasses.replace(hole, log_masses=case.log_masses)
