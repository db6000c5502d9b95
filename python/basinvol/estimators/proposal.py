"""Radii along a stretched proposal, in the coordinates of the measure."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..model.stretch import Stretch, StretchedDirections
from ..rays import RaySolver
from ..search.radii import Radii
from .stages import Stage
from .task import Task, in_chunks

__all__ = ["Stretch", "StretchedDirections", "log_norms", "scaled_radii", "solve_stretched"]


def solve_stretched(task: Task, num_stretched: int, stretch: Stretch) -> tuple[RaySolver, Radii, Tensor]:
    """Radii along directions v = Bu / |Bu| in the measure's coordinates, and ln |B^-1 v| there. [D]

    Args:
        task: the basin.
        num_stretched: D, the number of directions.
        stretch: the map B.
    """
    if stretch.is_diagonal:
        along = task.directions(num_stretched, Stage.STRETCHED)
        # The scale is stored in the parameters' precision: the stretch that is used is the one that was rounded.
        scale = task.scale.double().cpu()
        rounded = (scale * stretch.diagonal).to(task.scale.dtype).double() / torch.where(scale > 0, scale, 1.0)
        exact = Stretch.along_coordinates(torch.where(scale > 0, rounded, stretch.diagonal))
        solver = task.solver(along, stretch.diagonal)
        radii = solver.solve_all(task.progress, "stretched rays").at()
        norms = torch.cat(
            [torch.linalg.vector_norm(exact.apply(part), dim=1) for _, part in in_chunks(along, range(along.count))]
        )
        return solver, scaled_radii(radii, norms), -norms.log()
    rotated = task.stretched(num_stretched, stretch, Stage.STRETCHED)
    solver = task.solver(rotated)
    radii = solver.solve_all(task.progress, "stretched rays").at()
    chunks = in_chunks(rotated, range(rotated.count))
    return solver, radii, torch.cat([log_norms(stretch.solve(part)) for _, part in chunks])


def scaled_radii(radii: Radii, factor: Tensor) -> Radii:
    """Radii [D] in coordinates in which each ray is `factor` [D] times longer."""
    return dataclasses.replace(
        radii, lower=radii.lower * factor, upper=radii.upper * factor, radius=radii.radius * factor
    )


def log_norms(vectors: Tensor) -> Tensor:
    """The log of the norm of every row, ln |v|. [n]"""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return norms.log()
