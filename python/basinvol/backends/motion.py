"""Where chains are tried and how they move, in the form that an engine can carry out as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PointsInPlanes:
    """The points first x points[which] + second x partners[which], each in the plane of two vectors.

    Attributes:
        points, partners: the vectors. [K, P] float64
        which: the row of both that spans the plane of each point. [n] int64
        first, second: the coordinates there. [n] float64
    """

    points: Tensor
    partners: Tensor
    which: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def on_ellipses(cls, points: Tensor, partners: Tensor, which: Tensor, angle: Tensor) -> PointsInPlanes:
        """The points of ellipses.

        Args:
            points, partners: conjugate radii of ellipses. [K, P] float64
            which: on which of these ellipses each point is. [n] int64
            angle: where it is, from the row of `points` toward that of `partners`. [n] float64
        """
        return cls(points, partners, which, angle.cos(), angle.sin())

    @classmethod
    def on_rays(cls, vectors: Tensor, which: Tensor, radius: Tensor) -> PointsInPlanes:
        """The points on rays.

        Args:
            vectors: directions of rays. [K, P] float64
            which: on which of them each point is. [n] int64
            radius: how far along it. [n] float64
        """
        return cls(vectors, vectors, which, radius, torch.zeros_like(radius))

    def made(self, part: slice = slice(None)) -> Tensor:
        """Some of the points themselves. [n, P]"""
        which, first, second = self.which[part], self.first[part, None], self.second[part, None]
        return first * self.points[which] + second * self.partners[which]


@dataclass(frozen=True)
class Motion:
    """A trajectory under exp(-|y|^2 / 2 - t R), where R = beta L + precision |x|^2 / 2 - reference |y|^2 / 2.

    y and its momentum turn by an angle in every step, which is exact for the Gaussian of y, between kicks by R.

    Attributes:
        mean, lengths: the points of the loss are x = mean + lengths y. [P] float64
        angle: by how much each coordinate turns in a step. [P] float64
        num_steps: how many steps there are.
        t, beta, precision, reference: see above.
    """

    mean: Tensor
    lengths: Tensor
    angle: Tensor
    num_steps: int
    t: float
    beta: float
    precision: float
    reference: float


@dataclass(frozen=True)
class Arrived:
    """Where trajectories of K chains end.

    Attributes:
        y, momentum: positions and momenta. [K, P] float64
        x: the points of the loss. [K, P] float64
        loss: the losses there. [K] float64
        gradient: their gradients by x. [K, P] float64
        growth: by how much (|y|^2 + |momentum|^2) / 2 has grown. [K] float64
    """

    y: Tensor
    momentum: Tensor
    x: Tensor
    loss: Tensor
    gradient: Tensor
    growth: Tensor
