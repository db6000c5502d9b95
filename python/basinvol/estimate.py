"""The facade: from a model, its data and a cutoff to a volume with a verdict."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .estimators import METHODS, Outcome, Task, check_method, run
from .model.landscape import Landscape, LossFunction
from .model.parameters import ParameterSpace
from .probing.challenge import find_missed, look_along
from .probing.probes import Prober, Unbounded
from .search.radii import Status
from .trust.diagnostics import Diagnostics, Verdict
from .trust.measures import Measure
from .trust.result import CONFIDENCE, ON_CENSORED, CensoredError, Volume, check_on_censored
from .trust.volume_estimate import VolumeEstimate

__all__ = ["CONFIDENCE", "METHODS", "ON_CENSORED", "CensoredError", "Volume", "VolumeEstimate", "estimate_volume"]

# Examples x parameters up to which probes run unasked: an evaluation in torch takes about a millisecond there. Beyond,
# thirty of them would take longer than the rays of a perceptron, and say nothing that changes a `lower bound`.
_CHEAP_PRODUCTS = 1e8

# Rays whose vectors the probes hold: enough to find the longest among, small beside the estimate.
_PROBED_RAYS = 64
_PROBED_BYTES = 64 * 2**20


def estimate_volume(
    model: nn.Module,
    loss_fn: LossFunction,
    data: tuple[Tensor, Tensor] | Iterable[Any],
    cutoff: float = 0.1,
    num_directions: int = 500,
    seed: int = 0,
    *,
    scaling: str = "filter",
    search: str = "interpolate",
    method: str = "star",
    rtol: float = 1e-4,
    resolve: str = "all",
    radius_max: float | None = None,
    max_steps: int = 100,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    trainable_only: bool = False,
    backend: str = "auto",
    device: torch.device | str | None = None,
    num_threads: int | None = None,
    precision: str | None = None,
    on_censored: str = "raise",
    measure: str | Measure = "lebesgue",
    sigma: float | None = None,
    radius: float | None = None,
    method_options: Mapping[str, Any] | None = None,
    probe: bool | None = None,
    probe_rays: int = 0,
    check: str | None = None,
    progress: bool = False,
) -> VolumeEstimate:
    """The log-volume of the basin around a trained network, with an error, diagnostics and a verdict.

    With method="star", along each of `num_directions` random directions u the radius r(u) is found where the mean loss
    first exceeds the cutoff; then log V = log omega_P + log mean r^P + log det S (Huang et al. 2020; Fan, Sandlund and
    Ko 2025).

    That estimate is biased downward on the log scale, without limit when the basin is far from round: read the verdict.
    The cutoff is absolute, not an excess over the loss at the center. What each method assumes, costs and gets wrong is
    in the docstring of its module in `basinvol.estimators`.

    Args:
        model: any module; it is not changed.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        data: (inputs, targets) tensors, or batches of them such as a DataLoader.
        cutoff: loss that bounds the basin, above the loss at the center.
        num_directions: D; for method="annealed" the rays that give the chains their first scale.
        seed: of the directions and the chains.
        scaling: "filter" (filter normalization) or "none".
        search: "interpolate", "bisect" or "grid".
        method: "star", as above; "paper", the published protocol exactly: legacy generator seeded 1..D, the grid
            linspace(0, 1, 100)^2 rounded up, directions that never cross dropped (`search`, `seed`, `rtol` and
            `on_censored` do not apply); "preconditioned", directions stretched along soft axes, each divided by its
            density; "gaussian", the plain estimate of the mass under a Gaussian; "annealed", chains from a Gaussian to
            the basin; "splitting", a Gaussian mass level by level; "hit-and-run", a random walk, for small P.
        rtol: relative width of the certified brackets.
        resolve: "all", every radius; "decisive", the first 32, and of the others only those long enough to
            matter; the same volume to 1e-6 nats, with z from those 32. For methods "star" and "paper" in Lebesgue
            measure.
        radius_max: rays still inside there are censored; default 1e6 sqrt(P). For Lebesgue measure.
        max_steps: most evaluations per ray.
        include, exclude, trainable_only: which parameters are perturbed, see `ParameterSpace.of`.
        backend: "auto", "native" (C++, on the CPU), "triton" or "cuda" (on a CUDA device) or "reference"
            (torch, anywhere).
        device: where to evaluate; default the model's.
        num_threads: default torch's number.
        precision: of the products, see `find_radii`.
        on_censored: what to do with rays that never cross in Lebesgue measure: "raise", "drop" or "bound".
        measure: "lebesgue", "gaussian" with `sigma`, or "ball" with `radius`, both in units of the scale.
        sigma, radius: see `Measure`.
        method_options: settings of the method, see `Options` in its module.
        probe: look for parameters without effect, inputs of deficient rank and scale symmetries (some ten evaluations
            and a few gradients, in torch), and before a number is called trustworthy for longer directions than were
            sampled (at most D evaluations, and 60 gradients). Default: before a number is called trustworthy, and
            where it is cheap, up to 10^8 examples x parameters.
        probe_rays: number of rays that are followed beyond their radius, nine evaluations each.
        check: a second method; where the two differ by more than their errors and 1 % of the log, the number is not
            trustworthy.
        progress: show a bar, if standard error is a terminal.

    Raises:
        ValueError: a bad argument, unusable data or model, or a cutoff not above the loss at the center.
        BackendUnavailable: the named backend can not do this.
        CensoredError: rays never crossed and on_censored="raise"; carries the radii.
        RaySearchFailed: an evaluation failed; carries the radii found so far.
    """
    started = time.perf_counter()
    check_method(method)
    check_on_censored(on_censored)
    measured = _measure(measure, sigma, radius, method)
    _check_settings(method, measured, resolve, radius_max, check)
    if method == "paper":
        search, on_censored = "grid", "drop"
    space = ParameterSpace.of(model, include, exclude, trainable_only)
    task = Task(
        landscape=Landscape(model, loss_fn, data, device=device),
        space=space,
        scale=space.scale(model, scaling),
        cutoff=float(cutoff),
        num_directions=num_directions,
        seed=seed,
        measure=measured,
        search=search,
        rtol=rtol,
        resolve=resolve,
        radius_max=radius_max,
        max_steps=max_steps,
        on_censored=on_censored,
        backend=backend,
        num_threads=num_threads,
        precision=precision,
        progress=progress,
        generator="legacy" if method == "paper" else "philox",
    )
    outcome = run(method, task, method_options or {})
    diagnostics = outcome.volume.diagnostics
    if probe is None:
        is_cheap = task.landscape.num_examples * space.dim <= _CHEAP_PRODUCTS
        probe = is_cheap or diagnostics.verdict is Verdict.TRUSTWORTHY
    if probe or probe_rays:
        diagnostics = _probed(task, outcome, probe, probe_rays)
    if check is not None:
        diagnostics = _compared(outcome.volume, diagnostics, run(check, task, {}), check)
    solver = outcome.solver
    return VolumeEstimate(
        **{**_fields(outcome.volume), "diagnostics": diagnostics},
        radii=outcome.radii,
        cutoff=float(cutoff),
        center_loss=float(solver.center_losses[0]),
        num_directions=num_directions,
        seed=seed,
        method=method,
        search=search,
        scaling=scaling,
        rtol=rtol,
        resolve=resolve,
        backend=solver.choice.backend.name,
        backend_reason=solver.choice.reason,
        num_threads=solver.num_threads,
        seconds=time.perf_counter() - started,
        details=outcome.details,
        num_evaluations=outcome.num_evaluations + diagnostics.num_probes,
    )


def _fields(volume: Volume) -> dict[str, Any]:
    return {part.name: getattr(volume, part.name) for part in dataclasses.fields(volume)}


def _measure(measure: str | Measure, sigma: float | None, radius: float | None, method: str) -> Measure:
    if isinstance(measure, Measure):
        return measure
    if method == "gaussian" and measure == "lebesgue":
        measure = "gaussian"
    return Measure(measure, sigma, radius)


def _check_settings(method: str, measure: Measure, resolve: str, radius_max: float | None, check: str | None) -> None:
    if method == "gaussian" and measure.name != "gaussian":
        raise ValueError(f"method='gaussian' measures a Gaussian mass, got {measure.name!r}; use method='star'.")
    if method == "paper" and measure.is_finite:
        raise ValueError(f"method='paper' is defined for measure='lebesgue', got {measure.name!r}; use method='star'.")
    if resolve == "decisive" and (measure.is_finite or method not in ("star", "paper")):
        raise ValueError(
            "`resolve` 'decisive' proves that r^P can not matter: it is for methods 'star' and 'paper' in Lebesgue "
            f"measure, got method={method!r} and measure={measure.name!r}; use resolve='all'."
        )
    if radius_max is not None and measure.is_finite:
        raise ValueError(f"`radius_max` is for measure='lebesgue': {measure.name!r} knows how far a ray matters.")
    if check is not None:
        check_method(check)
        if check == method:
            raise ValueError(f"`check` must be another method than `method`, got {check!r} twice.")


def _probed(task: Task, outcome: Outcome, probe: bool, probe_rays: int) -> Diagnostics:
    """The diagnostics after probing, at the directions of a plain estimate with this seed."""
    found = outcome.volume.diagnostics
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
    if probe and found.verdict is Verdict.TRUSTWORTHY and len(prober.radius):
        number = outcome.volume.log_mean_power
        missed = find_missed(task, prober, outcome.uniform_directions, outcome.uniform_radii, number)
        if missed:
            found = found.doubted(Verdict.LOWER_BOUND, missed)
    return dataclasses.replace(found, num_probes=prober.num_evaluations)


def prober_of(task: Task, outcome: Outcome, count: int) -> Prober:
    """A prober with the first uniform rays and the longest one, as many as fit in memory."""
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
        directions=directions.materialize(rays.tolist(), task.space.dtype),
        radius=radii.radius[rays],
        cutoff=task.cutoff,
    )


def _compared(volume: Volume, found: Diagnostics, other: Outcome, name: str) -> Diagnostics:
    """The diagnostics after a second method; the errors of both and 1 % of the log are allowed between them."""
    difference = other.volume.log_volume - volume.log_volume
    errors = [part.standard_error for part in (volume, other.volume)]
    allowed = 3.0 * sum(error**2 for error in errors if error == error) ** 0.5 + 0.01 * abs(volume.log_volume)
    sentence = f"method {name} gives {other.volume.log_volume:,.2f} nats, {difference:+,.2f} from this one"
    found = dataclasses.replace(found, agreement=sentence, num_probes=found.num_probes + other.num_evaluations)
    if found.verdict is Verdict.TRUSTWORTHY and not abs(difference) <= allowed:
        return found.doubted(Verdict.LOWER_BOUND, f"two estimators of different kinds disagree: {sentence}.")
    return found
