"""The plain estimate: the mean over uniform directions of what each ray covers."""

from __future__ import annotations

from dataclasses import dataclass

from ..trust.result import Volume
from .task import Outcome, Task


@dataclass(frozen=True)
class Options:
    """The plain estimate has no settings of its own."""


def estimate(task: Task, options: Options) -> Outcome:
    """The volume from log E_u[w(r(u))] over uniform directions u.

    The weight w(r) is r^P for a volume (Huang et al. 2020; Fan, Sandlund and Ko 2025), and the Gaussian's mass within r
    for a mass (Scherlis and Belrose 2025).

    Bias: none for the measure of the part of the basin that is visible from the center; on the log scale the number is
    too low, without limit, unless exp(KL) directions are used, where KL ~ (P/2) ln(arithmetic / geometric mean of the
    squared semi-axes) for an ellipsoid (Chatterjee and Diaconis 2018). Cost: about five evaluations a direction.
    """
    rays = task.uniform_rays()
    volume = Volume.of(rays.radii, task.space, task.scale, task.on_censored, task.measure)
    return Outcome.of_rays(volume, rays)
