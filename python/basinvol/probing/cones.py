"""Parts of the set that uniform rays do not meet: found by descents from far outside, measured, and counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..estimators.task import Task
from .probes import Prober
from .seek import Candidate, deeper, ends_of_descents, polish, seek
from .strata import Cone, measure_cone, share_within

# Such parts may raise the number by this much, in nats, before the number is doubted.
RAISE = 0.7
# A candidate is worth a look if it reaches this many times farther than every sampled ray.
_FARTHER = 1.02
_MOST_PARAMETERS = 10**6  # the directions of a cone are held as vectors
# Parts are counted where one alone does not matter, and is at least this share of the number.
_LEAST_SHARE = 1e-3
# Descents that are made to count them. Chains cost a hundred times what rays do, and are only doubted where there must
# be many: with a hundred draws that are all different there are so many that the least share counts.
_MOST_DESCENTS, _MOST_DESCENTS_OF_CHAINS = 48, 400
_LEAST_DRAWN = 6  # fewer that found a part say nothing of how many there are
_SAME = 0.7  # cosine of two directions that are counted as one part
_NOT_MET = 0.1  # expected number of rays, below which the sample says nothing of a part
_NORMAL_95 = 1.645


@dataclass(frozen=True)
class _Part:
    """A part of the set that was measured, and whether it is visible from the center."""

    is_visible: bool
    cone: Cone


def missed_in_cones(task: Task, prober: Prober, number: float, is_of_rays: bool) -> str:
    """A sentence that says which parts of the set uniform rays have missed; empty if none were found.

    Directions are looked for to which the loss far away leans (`seek`), and the cones around them are measured.

    Args:
        task: the basin.
        prober: some of the rays.
        number: the estimate of log E[w(r)] that is tested. nats
        is_of_rays: whether it comes from rays, which meet none of these parts; chains may have been in all of them.
    """
    if not 2 <= task.space.dim <= _MOST_PARAMETERS:
        return ""
    largest: _Part | None = None
    for candidate in seek(prober):
        first = prober.crossing(candidate.unit)
        is_visible = _is_visible(prober, candidate, first)
        if is_visible is None:
            continue
        inner = candidate if is_visible else deeper(prober, candidate)
        units = polish(prober, candidate.unit, first) if is_visible else [inner.unit]
        for unit in units:
            cone = measure_cone(task, unit, number, None if is_visible else inner.inside)
            if cone.log_number - number > math.log(math.expm1(RAISE)):  # together they are more by that
                where = "a cone" if is_visible else "another part of the set, which is not visible from the center,"
                return (
                    f"{where} around a direction that descent from afar found raises the number by "
                    f"{_raised(1.0, cone.log_number - number):.1f} nats; uniform rays do not meet it."
                )
            if largest is None or cone.log_number > largest.cone.log_number:
                largest = _Part(is_visible, cone)
    return "" if largest is None else _missed_in_many(task, prober, number, largest, is_of_rays)


def _missed_in_many(task: Task, prober: Prober, number: float, part: _Part, is_of_rays: bool) -> str:
    """The same of many parts like this one, none of which matters alone.

    Descents from several directions draw parts at random. How often two have drawn the same one tells how many there
    are, as in capture and recapture. Rays have missed them all, and their number is doubted unless there are few. A
    number from chains is doubted if there must be so many that they cannot be a part of it.
    """
    log_part = part.cone.log_number - number
    met = task.num_directions * share_within(part.cone.angle, task.space.dim) if part.is_visible else 0.0
    if met > _NOT_MET or log_part < math.log(_LEAST_SHARE):
        return ""
    times, least, most = list[int](), 0.0, math.inf
    for times in _draws(prober, part.is_visible, _MOST_DESCENTS if is_of_rays else _MOST_DESCENTS_OF_CHAINS):
        if sum(times) < _LEAST_DRAWN:
            continue
        least, most = _number_of_parts(times)
        if not _raised(most, log_part) > RAISE:
            return ""
        if not is_of_rays and log_part + math.log(least) > RAISE:
            break
    if sum(times) < _LEAST_DRAWN:
        return ""
    kind = "cones" if part.is_visible else "other parts of the set, which are not visible from the center"
    seen = f"{sum(times)} descents from afar found {len(times)} {kind}, none of which uniform rays meet"
    if not is_of_rays:
        too_much = log_part + math.log(least)
        return (
            f"{seen}; there must be so many that they alone are {too_much:.1f} nats more." if too_much > RAISE else ""
        )
    if math.isinf(most):
        return f"{seen}; no two found the same, so that nothing says how many more are there."
    return f"{seen}; there may be so many that they raise the number by {_raised(most, log_part):.1f} nats."


def _draws(prober: Prober, is_visible: bool, most: int) -> Iterator[list[int]]:
    """How often each of the parts that were drawn was drawn, after every descent that found one, at most so many."""
    units, times = list[Tensor](), list[int]()
    for found in ends_of_descents(prober, most, in_space=not is_visible):
        if _is_visible(prober, found, prober.crossing(found.unit)) is not is_visible:
            continue
        same = [i for i, unit in enumerate(units) if float(found.unit @ unit) > _SAME]
        if same:
            times[same[0]] += 1
        else:
            units.append(found.unit)
            times.append(1)
        yield times


def _is_visible(prober: Prober, candidate: Candidate, first: float) -> bool | None:
    """Whether what a descent found begins at the center; None where it found nothing beyond the sampled rays.

    Args:
        prober: the landscape with some of its rays.
        candidate: the end of the descent.
        first: the first crossing in its direction.
    """
    if candidate.inside is not None and candidate.inside > first:
        return False
    return True if first > _FARTHER * float(prober.radius.max()) else None


def _number_of_parts(times: list[int]) -> tuple[float, float]:
    """How many parts there are, at least and at most, with 95 % confidence each.

    Of k draws among N parts alike, k (k - 1) / 2 N pairs are expected to be the same. They are taken for a Poisson
    variable, whose limits are those of Wilson and Hilferty (1931).

    Args:
        times: how often each of the parts that were drawn was drawn.
    """

    def pairs(count: int) -> float:
        return count * (count - 1) / 2

    def limit(count: float, sign: float) -> float:
        return count * max(1.0 - 1.0 / (9.0 * count) + sign * _NORMAL_95 / (3.0 * math.sqrt(count)), 0.0) ** 3

    drawn, same = pairs(sum(times)), sum(map(pairs, times))
    return drawn / limit(same + 1.0, 1.0), drawn / limit(same, -1.0) if same else math.inf


def _raised(count: float, log_part: float) -> float:
    """By how many nats so many parts raise the number, each of which is exp(log_part) of it."""
    parts = torch.tensor([0.0, log_part + math.log(count)], dtype=torch.float64)
    return float(torch.logsumexp(parts, dim=0))
