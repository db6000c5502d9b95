"""Parts of the set that uniform rays do not meet: found by descents from far outside, measured, and counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..estimators.task import Task
from .parts import measure_part
from .probes import Prober
from .seek import Candidate, deeper, ends_of_descents, polish, seek
from .strata import Cone, measure_cone, share_within

# Such parts may raise the number by this much, in nats, before the number is doubted.
RAISE = 0.7
_ERRORS = 3.0  # of a number from chains, that a part must exceed it by
# A candidate is worth a look if it reaches this many times farther than every sampled ray.
_FARTHER = 1.02
_MOST_PARAMETERS = 10**6  # the directions of a cone are held as vectors
# Parts are counted where one alone does not matter, and is at least this share of the number.
_LEAST_SHARE = 1e-3
# Descents that are made to count them. Chains cost a hundred times what rays do, and are only doubted where there must
# be many: with a hundred draws that are all different there are so many that the least share counts.
_MOST_DESCENTS, _MOST_DESCENTS_OF_CHAINS = 48, 400
_LEAST_DRAWN, _ENOUGH_DRAWN = 2, 6  # that found a part: fewer say nothing of how many there are; enough to stop early
_MEASURED = 6  # of the parts that were drawn, for the mean of what they add
_SAME = 0.7  # cosine of two directions that are counted as one part
_NOT_MET = 0.1  # expected number of rays, below which the sample says nothing of a part
_NORMAL_95 = 1.645


@dataclass(frozen=True)
class _Part:
    """A part of the set that a descent ended in.

    Attributes:
        is_visible: whether it begins at the center, and is a cone.
        end: of the descent.
        crossing: where the ray in its direction leaves the basin first.
    """

    is_visible: bool
    end: Candidate
    crossing: float

    @classmethod
    def of(cls, prober: Prober, end: Candidate) -> _Part | None:
        """The part around the end of a descent; None if it is not beyond the sampled rays."""
        crossing = prober.crossing(end.unit)
        if end.inside is not None and end.inside > crossing:
            return cls(False, end, crossing)
        if not crossing > _FARTHER * float(prober.radius.max()):
            return None
        # The search for the crossing may have leapt into another part, over a gap.
        is_visible = prober.sees(end.unit, crossing)
        return cls(is_visible, end if is_visible else Candidate(end.unit, crossing), crossing)

    def axes(self, prober: Prober) -> list[Tensor]:
        """The direction of the end, and lower ones nearby. unit vectors [P]"""
        return polish(prober, self.end.unit, self.crossing) if self.is_visible else [deeper(prober, self.end).unit]

    def measured(self, task: Task, prober: Prober, number: float) -> Cone:
        """What rays find around the end, or around a lower point nearby: the largest."""
        if self.is_visible:
            cones = (measure_cone(task, unit, number) for unit in self.axes(prober))
            return max(cones, key=lambda cone: cone.log_number)
        return Cone(measure_part(task, deeper(prober, self.end).point), 0.0)


def missed_in_cones(task: Task, prober: Prober, number: float, error_of_chains: float | None) -> str:
    """A sentence that says which parts of the set uniform rays have missed; empty if none were found.

    Directions are looked for to which the loss far away leans (`seek`), and the cones around them are measured.

    Args:
        task: the basin.
        prober: some of the rays.
        number: the estimate of log E[w(r)] that is tested. nats
        error_of_chains: the standard error of a number from chains, which may have been in all of these parts, so that
            one alone must exceed their number. None for rays, which meet none of them. nats
    """
    if not 2 <= task.space.dim <= _MOST_PARAMETERS:
        return ""
    allowed = math.log(math.expm1(RAISE))  # together they are more by that
    if error_of_chains is not None:
        allowed = max(RAISE, _ERRORS * error_of_chains)
    like, largest = None, Cone(-math.inf, 0.0)
    for part in filter(None, (_Part.of(prober, end) for end in seek(prober))):
        found = part.measured(task, prober, number)
        if found.log_number - number > allowed:
            where = "a cone" if part.is_visible else "another part of the set, which is not visible from the center,"
            return (
                f"{where} around a direction that descent from afar found raises the number by "
                f"{_raised(1.0, found.log_number - number):.1f} nats; uniform rays do not meet it."
            )
        if found.log_number > largest.log_number:
            like, largest = part, found
    log_part = largest.log_number - number
    if like is None or log_part < math.log(_LEAST_SHARE):
        return ""
    if like.is_visible and task.num_directions * share_within(largest.angle, task.space.dim) > _NOT_MET:
        return ""
    if error_of_chains is None:
        return _missed_by_rays(prober, like, log_part)
    return _missed_by_chains(task, prober, number, like, log_part)


# Parts of which none matters alone are counted. Descents from several directions draw them at random, and how often two
# have drawn the same one tells how many there are, as in capture and recapture.


def _missed_by_rays(prober: Prober, like: _Part, log_part: float) -> str:
    """A sentence on the parts that rays have missed; empty if they are too few to matter, or cannot be counted.

    Args:
        prober: some of the rays.
        like: the largest that was measured; cones are counted if it is one, or else parts out of sight.
        log_part: log of what it adds to the number; the others may be like it.
    """
    seen, most = "", math.inf
    for parts, times in _draws(prober, like, _MOST_DESCENTS, is_exact=False):
        seen = _seen(parts, times)
        least, most = _number_of_parts(times)
        is_decided = _raised(least, log_part) > RAISE or not _raised(most, log_part) > RAISE
        if is_decided and sum(times) >= _ENOUGH_DRAWN:
            break
    if not seen or not _raised(most, log_part) > RAISE:
        return ""
    if math.isinf(most):
        return f"{seen}; no two found the same, so that nothing says how many more are there."
    return f"{seen}; there may be so many that they raise the number by {_raised(most, log_part):.1f} nats."


def _missed_by_chains(task: Task, prober: Prober, number: float, like: _Part, log_part: float) -> str:
    """A sentence on the parts that chains cannot have been in, as together they exceed the number; empty if they may.

    Args:
        task: the basin.
        prober: some of its rays.
        number: the estimate of log E[w(r)]. nats
        like: the largest that was measured; cones are counted if it is one, or else parts out of sight.
        log_part: log of what it adds to the number.
    """
    look_at = _ENOUGH_DRAWN
    for parts, times in _draws(prober, like, _MOST_DESCENTS_OF_CHAINS, is_exact=True):
        least, most = _number_of_parts(times)
        if sum(times) >= _ENOUGH_DRAWN and not log_part + math.log(most) > RAISE:
            return ""
        if sum(times) < look_at or not log_part + math.log(least) > RAISE:
            continue
        look_at = 2 * sum(times)
        # Parts may differ much. Large ones are found first, and those found last are most like those that are not.
        latest = [part.measured(task, prober, number).log_number for part in parts[-_MEASURED:]]
        mean = float(torch.tensor(latest, dtype=torch.float64).logsumexp(dim=0)) - math.log(len(latest))
        too_much = mean - number + math.log(least)
        if too_much > RAISE:
            return f"{_seen(parts, times)}; there must be so many that they alone are {too_much:.1f} nats more."
    return ""


def _seen(parts: list[_Part], times: list[int]) -> str:
    """How many parts how many descents have found."""
    kind = "cones" if parts[0].is_visible else "other parts of the set, which are not visible from the center"
    return f"{sum(times)} descents from afar found {len(parts)} {kind}, none of which uniform rays meet"


def _draws(prober: Prober, like: _Part, most: int, is_exact: bool) -> Iterator[tuple[list[_Part], list[int]]]:
    """The parts that descents have drawn, and how often each, after every draw from the second on.

    Args:
        prober: some of the rays.
        like: a part of the kind that is drawn.
        most: number of descents.
        is_exact: whether two ends on different walls of one part are told to be the same, for twice the evaluations.
    """
    parts, axes, times = list[_Part](), list[list[Tensor]](), list[int]()
    for end in ends_of_descents(prober, most, beyond=None if like.is_visible else like.end.inside):
        drawn = _Part.of(prober, end)
        if drawn is None or drawn.is_visible is not like.is_visible:
            continue
        found = drawn.axes(prober) if is_exact else [end.unit]
        same = [i for i, known in enumerate(axes) if any(float(u @ v) > _SAME for u in known for v in found)]
        if same:
            times[same[0]] += 1
        else:
            parts.append(drawn)
            axes.append(found)
            times.append(1)
        if sum(times) >= _LEAST_DRAWN:
            yield parts, times


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
