"""Where else may the basin reach? Descents from far outside of what uniform rays saw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .probes import Prober

# Distances of the starts, in the largest radius that was sampled: the loss far out leans toward what lies farther.
_DISTANCES = (1.5, 3.0, 8.0)
_DISTANCE_IF_DEAR = 3.0  # the only one where an evaluation takes long
_CHEAP_PRODUCTS = 1e8  # examples x parameters, about a millisecond in torch
_NUM_LOOKS = 64  # rays whose loss is looked at there
_STEPS = 24
_CONVERGED = 0.01
# Shares of a crossing at which a direction is polished, and the cosine from which on two are the same cone.
_POLISHED_AT, _POLISHED_SAME = (0.5, 0.75), 0.99
_SAME = 0.9  # cosine of two directions that are one candidate


@dataclass(frozen=True)
class Candidate:
    """A direction that may reach farther.

    Attributes:
        unit: in scaled coordinates. [P]
        inside: distance of a point of {loss <= cutoff} on it, if a descent ended in one.
    """

    unit: Tensor
    inside: float | None = None


def seek(prober: Prober) -> list[Candidate]:
    """Directions to which the loss far from the center leans, most of them different.

    From the sampled direction of lowest loss at each of three distances two descents are made: one on the sphere, to
    the direction that is lowest at that distance, and one in space, to wherever the loss falls below the cutoff.
    """
    found: list[Candidate] = []
    largest = float(prober.radius.max())
    directions = prober.directions[:_NUM_LOOKS].double()
    is_cheap = prober.landscape.num_examples * prober.space.dim <= _CHEAP_PRODUCTS
    for factor in _DISTANCES if is_cheap else (_DISTANCE_IF_DEAR,):
        distance = factor * largest
        losses = [prober.loss(_point(prober, distance * unit)) for unit in directions]
        start = directions[min(range(len(losses)), key=lambda i: losses[i])]
        on_sphere = _descend(prober, distance * start, stays_at=distance)
        in_space = _descend(prober, distance * start, stays_at=None)
        for end, is_inside in (on_sphere, in_space):
            length = float(torch.linalg.vector_norm(end))
            if not 0.0 < length < math.inf:
                continue
            candidate = Candidate(end / length, length if is_inside else None)
            same = [i for i, other in enumerate(found) if float(candidate.unit @ other.unit) > _SAME]
            if not same:
                found.append(candidate)
            elif candidate.inside and not found[same[0]].inside:
                found[same[0]] = candidate
    return found


def polish(prober: Prober, unit: Tensor, crossing: float) -> list[Tensor]:
    """The direction, and lower ones that descents on spheres inside of its crossing reach from it. unit vectors [P]

    A descent from afar ends on the wall of what it found; nearer to the center the loss leads on to the middle.

    Args:
        prober: the landscape with some of its rays.
        unit: a direction in scaled coordinates. [P]
        crossing: the radius at which it leaves the basin.
    """
    units = [unit]
    for distance in (share * crossing for share in _POLISHED_AT):
        end, _ = _descend(prober, distance * unit, stays_at=distance)
        found = end / torch.linalg.vector_norm(end)
        if all(float(found @ other) < _POLISHED_SAME for other in units):
            units.append(found)
    return units


def _point(prober: Prober, x: Tensor) -> Tensor:
    """A point in scaled coordinates as parameters. [P]"""
    return prober.center + prober.scale * x.to(prober.center)


def _descend(prober: Prober, start: Tensor, stays_at: float | None) -> tuple[Tensor, bool]:
    """The lowest point of a descent with the steps of Barzilai and Borwein (1988), and whether it is inside.

    On the sphere of radius `stays_at`, or where that is None in all of space until the loss is below the cutoff.
    """
    x, lowest, best = start, math.inf, start
    before: tuple[Tensor, Tensor] | None = None
    step = 0.0
    for _ in range(_STEPS):
        loss, named = prober.landscape.gradient(prober.space.unflatten(_point(prober, x)))
        if loss < lowest:
            lowest, best = loss, x
        gradient = (prober.scale * torch.cat([named[n].reshape(-1) for n in prober.space.names])).double()
        length = float(torch.linalg.vector_norm(x))
        if stays_at is not None:  # on a sphere only what is along it counts
            gradient = gradient - (gradient @ x) * x / length**2
        size = float(torch.linalg.vector_norm(gradient))
        is_done = stays_at is None and loss <= prober.cutoff
        if is_done or not math.isfinite(loss) or not _CONVERGED * abs(loss) < size * length < math.inf:
            break
        if before is None:
            step = 0.1 * length / size
        else:
            moved, turned = x - before[0], gradient - before[1]
            curvature = float(moved @ turned)
            step = float(moved @ moved) / curvature if curvature > 0 else 2.0 * step
        before = (x, gradient)
        x = x - min(step, 0.5 * length / size) * gradient
        if stays_at is not None:
            x = x * (stays_at / torch.linalg.vector_norm(x))
    return best, lowest <= prober.cutoff
