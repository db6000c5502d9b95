"""The published protocol, exactly: its directions, its grid, and its treatment of rays that never cross."""

from __future__ import annotations

import dataclasses

from ..rays import SearchOptions
from . import star
from .star import Options
from .task import Outcome, Task

__all__ = ["GENERATOR", "Options", "estimate", "published"]

GENERATOR = "legacy"  # torch's, seeded 1..D, see `Directions`


def published(options: SearchOptions, end: float = 1.0, points: int = 100) -> SearchOptions:
    """The same options with the published search: the first point outside on end x linspace(0, 1, points)^2.

    Args:
        options: all others.
        end: the last point of the grid.
        points: number of points, the center included.
    """
    grid = tuple(end * (point / (points - 1)) ** 2 for point in range(1, points))
    return dataclasses.replace(options, search="grid", grid=grid)


def estimate(task: Task, options: Options) -> Outcome:
    """The number ln((1/D) sum r^P) as Fan, Sandlund and Ko (2025) compute it, to check published numbers.

    Bias: that of the plain estimate, see `star`; in addition, rounding to the grid biases it upward, and dropping the
    directions that never cross biases it downward. `search`, `seed`, `rtol` and `on_censored` do not apply.
    """
    as_published = dataclasses.replace(task, options=published(task.options), generator=GENERATOR, on_censored="drop")
    return star.estimate(as_published, options)
