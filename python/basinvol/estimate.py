"""The function that leads from a model, its data and a cutoff to a volume with a verdict; it only connects rooms."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeGuard, overload

import torch
from torch import Tensor, nn

from .backends import Backend
from .estimators import METHODS, Method, SharedRays, Task, find_method
from .executors import opened
from .inputs.arguments import one_of, real_number, whole_number
from .model.deadline import Deadline
from .model.default_device import cpu_by_default
from .model.landscape import Landscape, LossFunction
from .model.parameters import ParameterSpace
from .probing.policy import checked, probed
from .rays import SearchOptions, check_cutoffs
from .resuming import call_of, keep_result, kept_result
from .storage.journal import Journal
from .trust.diagnostics import zero_scale_sentence
from .trust.measures import Measure
from .trust.result import CONFIDENCE, ON_CENSORED, CensoredError, Volume
from .trust.volume_estimate import VolumeEstimate

__all__ = ["CONFIDENCE", "METHODS", "ON_CENSORED", "CensoredError", "Volume", "VolumeEstimate", "estimate_volume"]


@overload
def estimate_volume(
    model: nn.Module,
    loss_fn: LossFunction | None,
    data: tuple[Tensor, Tensor] | Mapping[str, Tensor] | Iterable[Any],
    cutoff: float = 0.1,
    *args: Any,
    **options: Any,
) -> VolumeEstimate: ...


@overload
def estimate_volume(
    model: nn.Module,
    loss_fn: LossFunction | None,
    data: tuple[Tensor, Tensor] | Mapping[str, Tensor] | Iterable[Any],
    cutoff: Sequence[float],
    *args: Any,
    **options: Any,
) -> list[VolumeEstimate]: ...


@cpu_by_default
def estimate_volume(
    model: nn.Module,
    loss_fn: LossFunction | None,
    data: tuple[Tensor, Tensor] | Mapping[str, Tensor] | Iterable[Any],
    cutoff: float | Sequence[float] = 0.1,
    num_directions: int = 500,
    seed: int = 0,
    *,
    scaling: str = "filter",
    search: str = "interpolate",
    method: str | Method = "star",
    rtol: float = 1e-4,
    resolve: str = "all",
    radius_max: float | None = None,
    max_steps: int = 100,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    trainable_only: bool = False,
    backend: str | Backend = "auto",
    device: torch.device | str | None = None,
    batch_size: int | None = None,
    num_threads: int | None = None,
    precision: str | None = None,
    compile: bool = False,
    on_censored: str = "raise",
    measure: str | Measure = "lebesgue",
    sigma: float | None = None,
    radius: float | None = None,
    method_options: Mapping[str, Any] | None = None,
    probe: bool | None = None,
    probe_rays: int = 0,
    check: str | Method | None = None,
    progress: bool = False,
    resume: str | os.PathLike[str] | None = None,
    budget_seconds: float | None = None,
    executor: Executor | str | None = None,
) -> VolumeEstimate | list[VolumeEstimate]:
    """The log-volume of the basin around a trained network, with an error, diagnostics and a verdict.

    With method="star", along each of `num_directions` random directions u the radius r(u) is found where the mean loss
    first exceeds the cutoff; then log V = log omega_P + log mean r^P + log det S (Huang et al. 2020; Fan, Sandlund and
    Ko 2025).

    That estimate is biased downward on the log scale, without limit when the basin is far from round: read the verdict.
    For a ball it is exact:

    >>> import basinvol as bv
    >>> case = bv.ground_truth.ball(10, radius=2.0)
    >>> est = bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=100, scaling="none")
    >>> print(est.diagnostics.verdict)
    trustworthy
    >>> abs(est.log_volume - case.log_volume) < 1e-3
    True

    The cutoff is absolute, not an excess over the loss at the center. What each method assumes, costs and gets wrong is
    in the docstring of its module in `basinvol.estimators`.

    Args:
        model: any module; it is not changed.
        loss_fn: loss_fn(outputs, targets) -> mean loss; with dictionaries, None for `outputs.loss`, or
            loss_fn(outputs, batch).
        data: (inputs [N, ...], targets [N, ...]) tensors, a dictionary of tensors that the model takes by name, or
            batches of these such as a DataLoader, which may be larger than memory; see `Landscape`.
        cutoff: loss that bounds the basin, above the loss at the center; or several, for one estimate each, in this
            order, whose rays are solved in one pass. Their `num_evaluations` and `seconds` are those of all so far.
        num_directions: D; for method="annealed" the rays that give the chains their first scale.
        seed: seed of the directions and the chains.
        scaling: "filter" (filter normalization) or "none".
        search: "interpolate", "bisect" or "grid".
        method: "star", as above; "paper", the published protocol exactly: legacy generator seeded 1..D, the grid
            linspace(0, 1, 100)^2 rounded up, directions that never cross dropped (`search`, `seed`, `rtol` and
            `on_censored` do not apply); "preconditioned", directions stretched along soft axes, each divided by its
            density; "gaussian", the plain estimate of the mass under a Gaussian; "annealed", chains from a Gaussian to
            the basin; "splitting", a Gaussian mass, one loss level after the other; "direct", a Gaussian mass of more
            than about e^-7, as a share of independent draws; "hit-and-run", a random walk, for small P.
        rtol: relative width of the certified brackets.
        resolve: "all", every radius; "decisive", the first 32, or 8 where these are very unlike each other, and of the
            others only those long enough to matter; the same volume to 1e-6 nats, with z from the first. For methods
            "star" and "paper" in Lebesgue measure.
        radius_max: rays still inside there are censored; default 1e6 sqrt(P). For Lebesgue measure.
        max_steps: most evaluations per ray.
        include, exclude, trainable_only: which parameters are perturbed, see `ParameterSpace.of`.
        backend: "auto", "native" (C++, on the CPU), "triton" or "cuda" (on a CUDA device), "torch" (any
            module, anywhere) or "reference" (the same plainly).
        device: where to evaluate; default the model's device.
        batch_size: most examples per forward pass in torch, see `Landscape`; it changes no result but by rounding.
        num_threads: threads of the CPU; default torch's number.
        precision: precision of the products, see `find_radii`.
        compile: whether the backend "torch" evaluates the rays through torch.compile, see `find_radii`.
        on_censored: what to do with rays that never cross in Lebesgue measure: "raise", "drop" or "bound".
        measure: "lebesgue", "gaussian" with `sigma`, or "ball" with `radius`, both in units of the scale.
        sigma, radius: see `Measure`.
        method_options: settings of the method, see `Options` in its module.
        probe: whether to look for parameters without effect, inputs of deficient rank and scale symmetries (some ten
            evaluations and a few gradients, in torch), and, before a number is called trustworthy, for longer
            directions than were sampled (at most D evaluations, and 60 gradients). Default: before a number is called
            trustworthy, and where it is cheap, up to 10^8 examples x parameters.
        probe_rays: number of rays that are followed beyond their radius, nine evaluations each.
        check: a second method; where the two differ by more than their errors and 1 % of the log, the number is not
            trustworthy.
        progress: whether to show bars with the time left, on a terminal or in a notebook.
        resume: a file in which solved rays and chains are kept every two seconds. After a kill or an interrupt the same
            call goes on from there and gives the same result, but for `seconds`; after its end it gives the result at
            once. The file of another call is refused; the number of threads may change. Delete it when it is not
            needed any more.
        budget_seconds: seconds after which `BudgetSpent` is raised; work that has begun on a few directions, or on
            one step of all chains, is finished before.
        executor: where blocks of directions are searched, and the losses of chains evaluated, see `find_radii`.

    Raises:
        ValueError: an argument is bad, the data or the model cannot be used, or `resume` belongs to another call.
        CenterOutsideError: the cutoff is not above the loss at the center; it is a ValueError too.
        BudgetSpent: `budget_seconds` are over.
        BackendUnavailable: the named backend cannot solve this problem.
        CensoredError: rays never crossed and on_censored="raise"; the error carries the radii.
        RaySearchFailed: an evaluation failed; the error carries the radii found so far.
    """
    # Arguments are refused before the model is evaluated, which may take long.
    started = time.perf_counter()
    one_of("on_censored", on_censored, ON_CENSORED)
    chosen = find_method(method, method_options)
    second = None if check is None else find_method(check)
    measured = _measure(measure, sigma, radius, chosen.name)
    _check_settings(chosen.name, measured, resolve, radius_max, second)
    whole_number("probe_rays", probe_rays, least=0)
    options = SearchOptions(
        search=search,
        rtol=rtol,
        resolve=resolve,
        radius_max=radius_max,
        max_steps=max_steps,
        backend=backend,
        num_threads=num_threads,
        precision=precision,
        compile=compile,
    )
    space = ParameterSpace.of(model, include, exclude, trainable_only)
    cutoffs = check_cutoffs(cutoff) if _is_several(cutoff) else (real_number("cutoff", cutoff),)
    deadline = None if budget_seconds is None else _deadline(budget_seconds)
    task = Task(
        landscape=Landscape(model, loss_fn, data, device=device, batch_size=batch_size),
        space=space,
        scale=space.scale(model, scaling),
        cutoff=cutoffs[0],
        num_directions=whole_number("num_directions", num_directions),
        seed=whole_number("seed", seed),
        measure=measured,
        options=options,
        on_censored=on_censored,
        progress=progress,
        shared=SharedRays(cutoffs) if len(cutoffs) > 1 else None,
    )
    task.landscape.deadline = deadline
    _warn_of_zero_scale(task)

    def estimate(task: Task) -> VolumeEstimate:
        outcome = chosen.estimate(task)
        diagnostics = probed(task, outcome, probe, probe_rays)
        if second is not None:
            diagnostics = checked(outcome.volume, diagnostics, task, second)
        solver = outcome.solver
        return VolumeEstimate(
            **{**_fields(outcome.volume), "diagnostics": diagnostics},
            radii=outcome.radii,
            cutoff=task.cutoff,
            center_loss=float(solver.center_losses[0]),
            num_directions=task.num_directions,
            seed=task.seed,
            method=chosen.name,
            search=solver.problem.settings.method,
            scaling=scaling,
            rtol=rtol,
            resolve=resolve,
            backend=solver.choice.backend.name,
            backend_reason=solver.choice.reason,
            num_threads=solver.num_threads,
            seconds=time.perf_counter() - started,
            details=outcome.details,
            num_evaluations=task.landscape.num_evaluations,
            parameters=space.describe(),
            passed=outcome.curve,
            samples=outcome.samples,
        )

    def estimates(task: Task) -> list[VolumeEstimate]:
        return [estimate(dataclasses.replace(task, cutoff=cutoff)) for cutoff in cutoffs]

    with opened(executor, num_threads or 1, int(task.landscape.device.type == "cuda")) as workers:
        task = dataclasses.replace(task, options=dataclasses.replace(options, executor=workers))
        if resume is None:
            found = estimates(task)
        else:
            call = call_of(
                task,
                chosen,
                {
                    "cutoff": cutoffs,
                    "num_directions": task.num_directions,
                    "seed": task.seed,
                    "scaling": scaling,
                    "measure": measured,
                    "on_censored": on_censored,
                    "perturbed parameters": space.names,
                    "probe": probe,
                    "probe_rays": probe_rays,
                    "check": second,
                },
            )
            with Journal.opened(Path(resume), call) as journal:
                kept = kept_result(journal)
                found = estimates(dataclasses.replace(task, journal=journal)) if kept is None else kept
                if kept is None:
                    keep_result(journal, found)
    return found if _is_several(cutoff) else found[0]


def _is_several(cutoff: object) -> TypeGuard[Sequence[float]]:
    return hasattr(cutoff, "__len__") and not isinstance(cutoff, (str, bytes, Tensor))


def _deadline(budget_seconds: float) -> Deadline:
    seconds = real_number("budget_seconds", budget_seconds)
    if not 0.0 < seconds < math.inf:
        raise ValueError(f"`budget_seconds` must be a positive number of seconds, got {seconds:g}.")
    return Deadline(seconds)


def _fields(volume: Volume) -> dict[str, Any]:
    return {part.name: getattr(volume, part.name) for part in dataclasses.fields(volume)}


def _measure(measure: str | Measure, sigma: float | None, radius: float | None, method: str) -> Measure:
    if isinstance(measure, Measure):
        return measure
    if method == "gaussian" and measure == "lebesgue":
        measure = "gaussian"
    return Measure(measure, sigma, radius)


def _check_settings(
    method: str, measure: Measure, resolve: str, radius_max: float | None, check: Method | None
) -> None:
    if method == "gaussian" and measure.name != "gaussian":
        raise ValueError(f"method='gaussian' measures a Gaussian mass, got {measure.name!r}; use method='star'.")
    if method == "paper" and measure.is_finite:
        raise ValueError(f"method='paper' is defined for measure='lebesgue', got {measure.name!r}; use method='star'.")
    if resolve == "decisive" and (measure.is_finite or method not in ("star", "paper")):
        raise ValueError(
            "`resolve` 'decisive' proves that r^P cannot matter: it is for methods 'star' and 'paper' in Lebesgue "
            f"measure, got method={method!r} and measure={measure.name!r}; use resolve='all'."
        )
    if radius_max is not None and measure.is_finite:
        raise ValueError(f"`radius_max` is for measure='lebesgue': {measure.name!r} knows how far a ray matters.")
    if check is not None and check.name == method:
        raise ValueError(f"`check` must be another method than `method`, got {method!r} twice.")


def _warn_of_zero_scale(task: Task) -> None:
    """Warns before the work, and not only in the verdict after it."""
    zero = task.space.zero_filters(task.scale)
    if zero:
        warnings.warn(
            f"{zero_scale_sentence(zero)}, so the verdict will be `invalid`; pass exclude={sorted(zero)} or "
            "scaling='none'.",
            stacklevel=3,
        )
