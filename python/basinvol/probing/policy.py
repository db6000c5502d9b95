"""Rules that say which probes run before a number is returned, and how they change its verdict."""

from __future__ import annotations

import dataclasses
import math

from ..backends.unit_vector import unit_vectors
from ..estimators import Method, Outcome, Task
from ..search.radii import Status
from ..trust.diagnostics import Diagnostics, Verdict
from ..trust.result import Volume
from .challenge import find_missed, look_along
from .probes import Prober, Unbounded

# Examples x parameters up to which probes run unasked: an evaluation in torch takes about a millisecond there. Beyond,
# thirty of them would take longer than the rays of a perceptron, and say nothing that changes a `lower bound`.
_CHEAP_PRODUCTS = 1e8

# Rays whose vectors the probes hold: enough to find long ones among them, and small beside the estimate.
_PROBED_RAYS = 64
_PROBED_BYTES = 64 * 2**20

# Two methods may differ by three of their errors and this share of the log before one of them is doubted.
_AGREEMENT_ERRORS, _AGREEMENT_SHARE = 3.0, 0.01
_ROUNDING_NATS = 0.05  # of brackets, which rays of a round body agree to


def probed(task: Task, outcome: Outcome, probe: bool | None, probe_rays: int) -> Diagnostics:
    """The diagnostics of an outcome after probing, at the directions of a plain estimate with this seed.

    Args:
        task: what was measured.
        outcome: the number, with the rays behind it.
        probe: whether to look for unbounded and longer directions; None to do so where it is cheap or the number would
            be trusted.
        probe_rays: number of rays that are followed beyond their radius.
    """
    found = _held_against_rays(task, outcome)
    if probe is None:
        is_cheap = task.landscape.num_examples * task.space.dim <= _CHEAP_PRODUCTS
        probe = is_cheap or found.verdict is Verdict.TRUSTWORTHY
    if not probe and not probe_rays:
        return found
    spent = task.landscape.num_evaluations
    prober = prober_of(task, outcome, max(_PROBED_RAYS if probe else 0, probe_rays))
    unbounded = prober.find_unbounded() if probe else Unbounded()
    found = dataclasses.replace(found, unbounded=unbounded.sentences)
    if probe_rays:
        along = look_along(prober, probe_rays)
        found = dataclasses.replace(found, reentrant=along.reentrant, non_monotone=along.non_monotone)
    # What is visible from the center may be finite where the whole set is not.
    is_infinite = unbounded.is_star_infinite or (outcome.beyond_star and bool(unbounded.sentences))
    if found.verdict is Verdict.TRUSTWORTHY and not task.measure.is_finite and is_infinite:
        found = found.doubted(
            Verdict.CENSORED,
            f"the Lebesgue volume is infinite, because {unbounded.sentences[0]}; use measure='gaussian' or 'ball'.",
        )
    # Last, and only for numbers that are still trusted: it costs the most, and can only take that verdict away.
    if probe and not outcome.sees_all and found.verdict is Verdict.TRUSTWORTHY and len(prober.radius):
        number = outcome.volume.log_mean_power
        rays = outcome.uniform_directions, outcome.uniform_radii
        error = outcome.volume.standard_error if outcome.beyond_star else None
        missed = find_missed(task, prober, *rays, number, error_of_chains=error)
        if missed:
            found = found.doubted(Verdict.LOWER_BOUND, missed)
    return dataclasses.replace(found, num_probes=task.landscape.num_evaluations - spent)


def _held_against_rays(task: Task, outcome: Outcome) -> Diagnostics:
    """The diagnostics of chains after a look at their own rays, which cost nothing more.

    What rays see is a part of what chains measure. An estimate from chains that lies below that of the rays, by more
    than the errors of both, has missed the center's own basin: many groups of chains may agree on that. Independent
    draws from the whole measure miss nothing.
    """
    volume = outcome.volume
    found = volume.diagnostics
    if not outcome.beyond_star or outcome.sees_all or found.verdict is not Verdict.TRUSTWORTHY:
        return found
    rays = Volume.of(outcome.uniform_radii, task.space, task.scale, "bound", task.measure)
    if rays.diagnostics.verdict is Verdict.TRUSTWORTHY:
        least = rays.log_volume - _AGREEMENT_ERRORS * rays.standard_error
    else:
        least = rays.lower_bound
    shortfall = least - (volume.log_volume + _AGREEMENT_ERRORS * volume.standard_error)
    if not shortfall > _ROUNDING_NATS:
        return found
    return found.doubted(
        Verdict.LOWER_BOUND,
        f"rays from the center alone give {rays.log_volume:,.2f} nats, and the chains less: they missed its basin.",
    )


def checked(volume: Volume, found: Diagnostics, task: Task, method: Method) -> Diagnostics:
    """The diagnostics after a second method; the two may differ by three errors and 1 % of the log.

    A method that only gives a bound disagrees with numbers that exceed it by more than three errors.

    Args:
        volume: the volume from the first method.
        found: its diagnostics so far.
        task: what was measured.
        method: the second method.
    """
    spent = task.landscape.num_evaluations
    outcome = method.estimate(task)
    other = outcome.volume
    difference = other.log_volume - volume.log_volume
    errors = [part.standard_error for part in (volume, other)]
    # NaN, an unknown error, differs from itself and allows nothing.
    allowed = _AGREEMENT_ERRORS * sum(error**2 for error in errors if error == error) ** 0.5
    allowed += _AGREEMENT_SHARE * abs(volume.log_volume)
    sentence = f"method {method.name} gives {other.log_volume:,.2f} nats, {difference:+,.2f} from this one"
    agrees = abs(difference) <= allowed
    if math.isfinite(outcome.at_most):
        sentence = f"method {method.name} gives at most {outcome.at_most:,.2f} nats, with 95 % confidence"
        agrees = volume.log_volume - allowed <= outcome.at_most
    found = dataclasses.replace(found, agreement=sentence, num_checks=task.landscape.num_evaluations - spent)
    if found.verdict is Verdict.TRUSTWORTHY and not agrees:
        return found.doubted(Verdict.LOWER_BOUND, f"two estimators of different kinds disagree: {sentence}.")
    return found


def prober_of(task: Task, outcome: Outcome, count: int) -> Prober:
    """A prober with the first uniform rays and the longest one, as many as fit in memory.

    Args:
        task: what was measured.
        outcome: the number, with the rays behind it.
        count: most rays.
    """
    directions, radii = outcome.uniform_directions, outcome.uniform_radii
    count = max(1, min(count, _PROBED_BYTES // (4 * task.space.dim)))
    crossed = radii.is_status(Status.CROSSED).nonzero().reshape(-1)
    rays = crossed[:count].clone()
    if len(crossed) > count:
        longest = crossed[radii.radius[crossed].argmax()]
        rays[-1] = longest if longest not in rays else rays[-1]
    return Prober(
        landscape=task.landscape,
        space=task.space,
        center=outcome.solver.problem.center,
        scale=task.scale,
        directions=unit_vectors(directions, rays.tolist(), task.space.dtype),
        radius=radii.radius[rays],
        cutoff=task.cutoff,
    )
