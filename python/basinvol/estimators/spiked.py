"""The few stiff axes of a basin in many dimensions, from gradients on its boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_FLOOR = 1e-6  # of the bulk curvature
_HELD_OUT = 3  # one gradient of three measures the axes that the other two found


@dataclass(frozen=True)
class Spiked:
    """The matrix `bulk` I + axes diag(values - bulk) axes'.

    Attributes:
        bulk: eigenvalue perpendicular to the axes.
        axes: orthonormal columns. [P, k] float64
        values: eigenvalues along the axes. [k] float64
    """

    bulk: float
    axes: Tensor
    values: Tensor

    def spectrum(self) -> Tensor:
        """The eigenvalues of the matrix, those of the axes first. [P]"""
        dim, count = self.axes.shape
        return torch.cat([self.values, torch.full((dim - count,), self.bulk, dtype=torch.float64)])


def fit_normals(points: Tensor, gradients: Tensor) -> Spiked:
    """The curvature G of the ellipsoid {y'Gy <= 1} with stiff axes among the normals of its boundary.

    At a boundary point y the scaled normal h = g / (g.y) is Gy, whatever the slope of the loss. For y uniform in
    direction, E[hh' P / |y|^2] = G^2: the axes are those of a part of the normals, and the others, which are
    independent of that choice, measure G^2 along them without bias. What remains of the mean of 1/|y|^2, the trace of G
    over P, is the bulk.

    Args:
        points: points on the boundary. [n, P]
        gradients: gradients of the loss there, in the same coordinates. [n, P]
    """
    slope = (gradients * points).sum(dim=1)
    outward = slope > 0  # elsewhere the loss falls along the ray, as in no ellipsoid
    points, gradients, slope = points[outward], gradients[outward], slope[outward]
    dim, norms = points.shape[1], torch.linalg.vector_norm(points, dim=1)
    normals = gradients / (slope * norms)[:, None]
    held = torch.arange(len(normals)) % _HELD_OUT == 0
    axes = torch.linalg.svd(normals[~held], full_matrices=False).Vh.T
    values = (dim * (normals[held] @ axes).square().mean(dim=0)).sqrt()
    trace = dim * float((norms**-2.0).mean())
    rest = (trace - float(values.sum())) / max(dim - axes.shape[1], 1)
    bulk = max(rest, _FLOOR * trace / dim)
    return Spiked(bulk, axes, values.clamp(min=_FLOOR * bulk))


def undo_stretch(found: Spiked, precision: Spiked) -> Spiked:
    """The curvature in coordinates x that was found in coordinates y = (precision / bulk)^(1/2) x."""
    relative = precision.values / precision.bulk
    root = found.axes + precision.axes @ ((relative.sqrt() - 1.0)[:, None] * (precision.axes.T @ found.axes))
    weights = torch.cat([found.bulk * (relative - 1.0), found.values - found.bulk])
    basis, mixing = torch.linalg.qr(torch.cat([precision.axes, root], dim=1))
    shifts, turn = torch.linalg.eigh(mixing @ (weights[:, None] * mixing.T))
    return Spiked(found.bulk, basis @ turn, (found.bulk + shifts).clamp(min=_FLOOR * found.bulk))
