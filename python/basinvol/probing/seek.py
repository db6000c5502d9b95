"""Where else may the basin reach? Descents from far outside of what uniform rays saw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .probes import Prober

# Distances of the starts, in the largest radius that was sampled: the loss far out leans toward what lies farther.
_DISTANCES = (1.5, 3.0, 8.0, 20.0, 50.0, 125.0)
_FARTHEST_ON_SPHERE = 8.0  # from farther out, what is found on the sphere is found in space as well
_DISTANCE_IF_DEAR = 3.0  # the only one where an evaluation takes long
# Where descents begin that draw at random. In space, those from nearer fall back into the part around the center, and
# they begin at least so many times farther out than the part that was found.
_DRAWN_ON_SPHERE, _DRAWN_IN_SPACE, _DRAWN_BEYOND = (3.0, 8.0), (8.0, 20.0), (2.0, 4.0)
_DRAWN_FROM = 4  # points, of which the lowest is the start
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

    @property
    def point(self) -> Tensor:
        """The point of {loss <= cutoff}, in scaled coordinates; the center if there is none. [P]"""
        return (self.inside or 0.0) * self.unit


def seek(prober: Prober) -> list[Candidate]:
    """Directions to which the loss far from the center leans, most of them different.

    From the sampled direction of lowest loss at each distance a descent is made in space, to wherever the loss falls
    below the cutoff, and from the nearer ones another on the sphere, to the direction that is lowest at that distance.
    """
    found: list[Candidate] = []
    largest = float(prober.radius.max())
    directions = prober.directions[:_NUM_LOOKS].double()
    is_cheap = prober.landscape.num_examples * prober.space.dim <= _CHEAP_PRODUCTS
    for factor in _DISTANCES if is_cheap else (_DISTANCE_IF_DEAR,):
        distance = factor * largest
        losses = [prober.loss(_point(prober, distance * unit)) for unit in directions]
        start = directions[min(range(len(losses)), key=lambda i: losses[i])]
        on_sphere_and_in_space = (distance, None) if factor <= _FARTHEST_ON_SPHERE else (None,)
        for stays_at in on_sphere_and_in_space:
            end, is_inside = _descend(prober, distance * start, stays_at=stays_at)
            candidate = _candidate(end, is_inside)
            if candidate is None:
                continue
            same = [i for i, other in enumerate(found) if float(candidate.unit @ other.unit) > _SAME]
            if not same:
                found.append(candidate)
            elif candidate.inside and not found[same[0]].inside:
                found[same[0]] = candidate
    return found


def ends_of_descents(prober: Prober, count: int, beyond: float | None) -> Iterator[Candidate]:
    """Where descents from far out end: they draw among all that the loss leans toward.

    Each begins at the lowest of a few points, along the rays and then along other directions that are drawn: more of
    them lean toward something else than the part around the center.

    Args:
        prober: the landscape with some of its rays.
        count: how many descents, from each distance in turn.
        beyond: distance of a part out of sight, to draw more like it by descents in space; None for descents that stay
            on the spheres that they begin on.
    """
    largest = float(prober.radius.max())
    distances = [factor * largest for factor in (_DRAWN_ON_SPHERE if beyond is None else _DRAWN_IN_SPACE)]
    if beyond is not None:
        distances = [max(near, factor * beyond) for near, factor in zip(distances, _DRAWN_BEYOND, strict=True)]
    units = _starts(prober)
    for distance in itertools.islice(itertools.cycle(distances), count):
        starts = [distance * unit for unit in itertools.islice(units, _DRAWN_FROM)]
        lowest = min(starts, key=lambda start: prober.loss(_point(prober, start)))
        end, is_inside = _descend(prober, lowest, stays_at=distance if beyond is None else None)
        candidate = _candidate(end, is_inside)
        if candidate is not None:
            yield candidate


def _starts(prober: Prober) -> Iterator[Tensor]:
    """Yield one unit vector after the other, first those of the rays and then random ones. [P]"""
    yield from prober.directions.double()
    draw = torch.Generator().manual_seed(0)
    while True:
        unit = torch.randn(prober.space.dim, dtype=torch.float64, generator=draw).to(prober.directions.device)
        yield unit / torch.linalg.vector_norm(unit)


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


def deeper(prober: Prober, candidate: Candidate) -> Candidate:
    """The bottom of the part that a descent in space has ended in, at its wall; the same if none is found."""
    if candidate.inside is None:
        return candidate
    end, _ = _descend(prober, candidate.inside * candidate.unit, stays_at=None, until=prober.center_loss)
    found = _candidate(end, is_inside=True)
    # Where the loss has no minimum, the descent may have left the part.
    is_near = found is not None and 0.5 < float(torch.linalg.vector_norm(end)) / candidate.inside < 2.0
    return found if found is not None and is_near else candidate


def _candidate(end: Tensor, is_inside: bool) -> Candidate | None:
    """The end of a descent as a direction; None if it has none."""
    length = float(torch.linalg.vector_norm(end))
    return Candidate(end / length, length if is_inside else None) if 0.0 < length < math.inf else None


def _point(prober: Prober, x: Tensor) -> Tensor:
    """A point in scaled coordinates as parameters. [P]"""
    return prober.center + prober.scale * x.to(prober.center)


def _descend(prober: Prober, start: Tensor, stays_at: float | None, until: float | None = None) -> tuple[Tensor, bool]:
    """The lowest point of a descent with the steps of Barzilai and Borwein (1988), and whether it is inside.

    Args:
        prober: the landscape with some of its rays.
        start: in scaled coordinates. [P]
        stays_at: the radius of the sphere that it stays on; None for all of space.
        until: the loss at which a descent in space ends; the cutoff if None.
    """
    until = prober.cutoff if until is None else until
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
        is_done = stays_at is None and loss <= until
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
