"""Attempts to refute a number before it is called trustworthy, and losses beyond the radius of some rays."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..estimators.stages import Stage
from ..estimators.task import Task, in_chunks
from ..model.directions import Directions
from ..model.stretch import Stretch
from ..rays import RaySolver, SearchOptions
from ..search.radii import Radii
from ..trust.diagnostics import log_mean_exp
from .cones import RAISE, missed_in_cones
from .probes import Prober

# The basin is tried this many times farther than the longest ray that was sampled: a single axis that long would add
# a nat or more that the sample did not see.
_BEYOND = math.e
_NUM_FAILURES = 2  # descents that find nothing more, after which no other is tried
_DESCENT_STEPS = 30  # gradients of one descent
_CONVERGED = 0.01  # slope on the sphere, as a share of the loss per radian
_MOST_AXES = 16
_LONGEST = 1e9  # times the typical radius: farther out no axis is followed
_NUM_RAYS = 128  # rays that are sent along the axes that were found
# Shares of the radius at which the loss along a ray is looked at.
_INSIDE = (0.25, 0.5, 0.75)
_OUTSIDE = (1.05, 1.25, 1.5, 2.0, 3.0, 5.0)
# A fall of the loss before the radius smaller than this share of the way to the cutoff is rounding.
_FALL = 1e-3


def find_missed(
    task: Task, prober: Prober, directions: Directions, radii: Radii, number: float, *, error_of_chains: float | None
) -> str:
    """A sentence that says what a sample of uniform rays has missed; empty if nothing was found.

    A needle thinner than all probes is not found: no finite number of evaluations finds every needle.

    Args:
        task: the basin.
        prober: some of the rays.
        directions, radii: uniform rays. [D]
        number: the estimate of log E[w(r)] that is tested. nats
        error_of_chains: its standard error if it comes from chains, None if it comes from rays alone. nats
    """
    return _missed_along_axes(task, prober, directions, radii, number) or missed_in_cones(
        task, prober, number, error_of_chains
    )


def _missed_along_axes(task: Task, prober: Prober, directions: Directions, radii: Radii, number: float) -> str:
    """Directions are looked for in which the basin reaches far beyond every sampled ray (`find_longer`).

    If there are any, as many rays again are sent around them, from a mixture of uniform and stretched directions with
    the exact ratio of densities: an unbiased estimate of the same number, and one that sees what lies along them.
    """
    found = find_longer(prober, most=task.num_directions)
    if not found:
        return ""
    typical = float(prober.radius.median())
    reach = min(task.measure.radius_max(task.space.dim), _LONGEST * typical)
    lengths = [_length(prober, vector, reach) for _, vector in found]
    order, axes = _independent([vector.double() for _, vector in found], lengths)
    # Under a Gaussian the soft axis has width sigma, and the others typical / sqrt(P).
    longest = math.sqrt(task.measure.variance * task.space.dim)
    stretch = Stretch.along_axes(axes, torch.tensor([min(lengths[i], longest) / typical for i in order]))
    after, error = _estimate_along(task, prober, directions, radii, stretch)
    if after - number <= max(RAISE, 3.0 * error):
        return ""
    return (
        f"rays sent along {found[order[0]][0]}, where the basin reaches {lengths[order[0]] / typical:.3g} times the "
        f"typical radius, raise the number by {after - number:.1f} nats."
    )


def find_longer(prober: Prober, most: int) -> list[tuple[str, Tensor]]:
    """Directions, as names and unit vectors [P], that are still inside far beyond every ray of the prober.

    The directions that are tried are both ends of every coordinate axis, if these are at most `most`, the diagonal of
    every tensor, the center's own direction, and the lowest loss that gradient descent on a sphere finds from the
    longest rays.

    Args:
        prober: the landscape with some of its rays.
        most: most evaluations to spend on coordinate axes.
    """
    distance = _BEYOND * float(prober.radius.max())
    dim = prober.space.dim
    tried = [("the center itself", torch.where(prober.scale > 0, prober.center / prober.scale, 0.0))]
    tried += [(f"all of {name} together", _indicator(prober, part)) for name, part in prober.parts()]
    if 2 * dim <= most:
        tried += [(f"coordinate {i}", _indicator(prober, slice(i, i + 1))) for i in range(dim)]
    found = []
    for name, vector in tried:
        norm = torch.linalg.vector_norm(vector)
        for sign in (1.0, -1.0) if float(norm) > 0 else ():
            unit = sign * vector / norm
            if prober.loss(prober.center + distance * prober.scale * unit) <= prober.cutoff:
                found.append((name, unit))
                break
    # Each descent stays perpendicular to what was found before it, until several find nothing more.
    failures = 0
    for ray in prober.radius.argsort(descending=True).tolist():
        known = _independent([vector for _, vector in found], [1.0] * len(found))[1] if found else None
        if failures == _NUM_FAILURES or (known is not None and known.shape[1] >= min(_MOST_AXES, dim - 1)):
            break
        lowest = _descend(prober, prober.directions[ray], distance, known)
        failures += lowest is None
        if lowest is not None:
            found.append(("a direction of descent", lowest))
    return found


def _independent(vectors: list[Tensor], lengths: list[float]) -> tuple[list[int], Tensor]:
    """The unit vectors, from the longest down, that are far from the span of those before, and a basis. [P, k]"""
    order: list[int] = []
    basis: list[Tensor] = []
    for i in sorted(range(len(vectors)), key=lambda i: -lengths[i]):
        rest = vectors[i] - sum(((vectors[i] @ axis) * axis for axis in basis), torch.zeros_like(vectors[i]))
        norm = torch.linalg.vector_norm(rest)
        # More than 30 degrees from the span: what is closer is taken for the same axis.
        if float(norm) > 0.5 and len(order) < min(_MOST_AXES, len(rest)):
            order.append(i)
            basis.append(rest / norm)
    return order, torch.stack(basis, dim=1)


def _indicator(prober: Prober, part: slice) -> Tensor:
    vector = torch.zeros_like(prober.center)
    vector[part] = 1.0
    return vector


def _length(prober: Prober, unit: Tensor, reach: float) -> float:
    """The length to which a direction stays inside, by doubling, within a factor of two and at most `reach`."""
    length = _BEYOND * float(prober.radius.max())
    while length < reach:
        if not prober.loss(prober.center + 2.0 * length * prober.scale * unit) <= prober.cutoff:
            break
        length *= 2.0
    return min(length, reach)


def _descend(prober: Prober, direction: Tensor, distance: float, known: Tensor | None) -> Tensor | None:
    """The unit vector at which descent on a sphere, perpendicular to `known` [P, k], is below the cutoff, or None. [P]

    The steps are those of Barzilai and Borwein (1988).
    """

    def perpendicular(vector: Tensor) -> Tensor:
        projected: Tensor = vector if known is None else vector - known @ (known.T @ vector)
        return projected

    v = perpendicular(direction)
    v = v / torch.linalg.vector_norm(v)
    step, before = 0.0, None
    lowest, best = prober.cutoff, None
    for _ in range(_DESCENT_STEPS):
        point = prober.center + distance * prober.scale * v
        loss, named = prober.landscape.gradient(prober.space.unflatten(point))
        if loss <= lowest:
            lowest, best = loss, v
        gradient = prober.scale * torch.cat([named[name].reshape(-1) for name in prober.space.names])
        slope = perpendicular(gradient - (gradient @ v) * v)
        size = float(torch.linalg.vector_norm(slope))
        if not math.isfinite(loss) or not _CONVERGED * abs(loss) < size < math.inf:
            break
        if before is None:
            step = 0.1 / size
        else:
            moved, turned = v - before[0], slope - before[1]
            curvature = float(moved @ turned)
            step = float(moved @ moved) / curvature if curvature > 0 else 2.0 * step
        before = (v, slope)
        v = v - min(step, 1.0 / size) * slope  # at most one radian, or a step could leave the neighborhood
        v = v / float(torch.linalg.vector_norm(v))
    return best


def _estimate_along(
    task: Task, prober: Prober, directions: Directions, radii: Radii, stretch: Stretch
) -> tuple[float, float]:
    """The estimate of log E[w(r)] from uniform and stretched rays, weighted as one mixture, and its error, in nats."""
    dim, measure = task.space.dim, task.measure
    along = task.stretched(_NUM_RAYS, stretch, Stage.CHALLENGE)
    options = SearchOptions(
        rtol=max(1e-9, min(1e-4, 0.01 / dim)),
        radius_max=min(measure.radius_max(dim), 1e3 * _LONGEST * float(prober.radius.max())),
        num_threads=task.options.num_threads,
    )
    solver = RaySolver(task.landscape, along, [task.cutoff], scaling=task.scale, options=options, journal=task.journal)
    found = solver.solve_all(task.progress, "probes").at()
    parts = []
    for sample, rays in ((directions, radii), (along, found)):
        chunks = in_chunks(sample, range(len(rays)))
        norms = torch.cat([torch.linalg.vector_norm(stretch.solve(v), dim=1) for _, v in chunks])
        log_mixture = torch.logaddexp(torch.zeros(()), stretch.log_density(norms.log())) - math.log(2.0)
        parts.append((measure.log_weights(rays.entering, dim), log_mixture))
    (plain, plain_mixture), (stretched, stretched_mixture) = parts
    halves = torch.tensor([log_mean_exp(plain - plain_mixture), log_mean_exp(stretched - stretched_mixture)])
    total = log_mean_exp(halves)
    return total, _relative_error([plain - plain_mixture - total, stretched - stretched_mixture - total])


def _relative_error(halves: list[Tensor]) -> float:
    """The standard error of the mean of two means of weights exp(.), by the delta method."""
    variances = [float(half.exp().var()) / len(half) for half in halves]
    return 0.5 * math.sqrt(sum(variances))


@dataclass(frozen=True)
class BeyondRays:
    """Properties of the loss along the probed rays.

    Attributes:
        reentrant: share of the rays that enter the basin again beyond their radius.
        non_monotone: share of the rays along which the loss falls by more than rounding before their radius.
    """

    reentrant: float
    non_monotone: float


def look_along(prober: Prober, most: int) -> BeyondRays:
    """Evaluates the loss at three points inside and six outside (up to 5 times the radius) on at most `most` rays.

    The cost is nine evaluations a ray. A first crossing is the boundary of the star-shaped part; a ray that enters
    again has more of the basin behind it, which no number here counts.
    """
    reentrant = falls = 0
    for ray, radius in enumerate(prober.radius[:most].tolist()):
        move = prober.directions[ray] * prober.scale
        losses = [prober.loss(prober.center + share * radius * move) for share in (*_INSIDE, *_OUTSIDE)]
        inside, outside = losses[: len(_INSIDE)], losses[len(_INSIDE) :]
        reentrant += any(loss <= prober.cutoff for loss in outside)
        path = [prober.center_loss, *inside, prober.cutoff]
        tolerance = _FALL * (prober.cutoff - prober.center_loss)
        falls += any(after < loss - tolerance for loss, after in itertools.pairwise(path))
    count = max(len(prober.radius[:most]), 1)
    return BeyondRays(reentrant / count, falls / count)
