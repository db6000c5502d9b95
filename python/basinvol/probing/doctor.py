"""Checks of a model, its loss and its basin before a volume is measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..estimators import Task
from ..estimators.star import Options, estimate
from ..inputs.fields import reversed_examples
from ..model.directions import Directions
from ..model.landscape import Landscape, LossFunction, as_scalar
from ..model.parameters import ParameterSpace
from ..rays import SearchOptions
from ..search.radii import Radii, Status
from ..trust.diagnostics import diagnose
from .challenge import look_along
from .policy import prober_of

_NUM_RAYS = 32  # rays that are solved
_FOLLOWED = 16  # rays that are followed beyond their radius
# A cutoff this close to the loss at the center makes the excess, and not the basin, what is measured.
_CLOSE = 0.5
# Noise of float32 sums below this share of the way to the cutoff moves no radius that matters.
_MAX_NOISE = 1e-3


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: what was looked at.
        state: "ok", "note" or "problem".
        sentence: what was found.
    """

    topic: str
    state: str
    sentence: str


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they were made; `print` shows them."""

    findings: tuple[Finding, ...]

    @property
    def has_problems(self) -> bool:
        """Whether any finding stands in the way of a measurement."""
        return any(finding.state == "problem" for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(f"{f.topic:<18}{f.state:<9}{f.sentence}" for f in self.findings)


def examine(
    model: nn.Module,
    loss_fn: LossFunction | None,
    data: tuple[Tensor, Tensor] | Iterable[Any],
    cutoff: float = 0.1,
    num_directions: int = 500,
    seed: int = 0,
    scaling: str = "filter",
    backend: str = "auto",
    progress: bool = False,
) -> Report:
    """Findings about a model, its loss and its basin, from 32 rays.

    They are: determinism of the loss in eval mode, dropout and batch normalization, tied and frozen parameters, the
    loss at the center against the cutoff, the noise of the loss in the parameters' precision, monotone and re-entrant
    rays, unbounded directions, and a forecast of cost and verdict for `num_directions`.

    The cost is about 500 evaluations of the loss. The model is not changed.

    Args:
        model: any module.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        data: (inputs [N, ...], targets [N, ...]), or batches of them such as a DataLoader.
        cutoff: loss that bounds the basin.
        num_directions: D of the measurement that is forecast.
        seed: seed of the directions.
        scaling: "filter" or "none", see `ParameterSpace.scale`.
        backend, progress: see `estimate_volume`.

    Raises:
        ValueError: an argument is bad.
    """
    findings = [*_modules(model), *_parameters(model)]
    try:
        landscape = Landscape(model, loss_fn, data)
    except ValueError as error:
        return Report((*findings, Finding("loss", "problem", str(error))))
    findings.append(Finding("determinism", "ok", "two evaluations at the center gave the same loss."))
    space = ParameterSpace.of(model)
    center = float(landscape.losses()[-1])
    findings += [_center(center, cutoff), _noise(landscape, center, cutoff)]
    if not cutoff > center:
        return Report(tuple(findings))
    task = Task(
        landscape=landscape,
        space=space,
        scale=space.scale(model, scaling),
        cutoff=float(cutoff),
        num_directions=min(_NUM_RAYS, num_directions),
        seed=seed,
        on_censored="bound",
        options=SearchOptions(backend=backend),
        progress=progress,
    )
    started = time.perf_counter()
    outcome = estimate(task, Options())
    seconds = time.perf_counter() - started
    prober = prober_of(task, outcome, _NUM_RAYS)
    findings.append(_zero_filters(space.zero_filters(task.scale)))
    findings += _rays(outcome.radii, look_along(prober, _FOLLOWED), min(_FOLLOWED, len(prober.radius)))
    unbounded = prober.find_unbounded()
    kind = "problem" if unbounded.is_star_infinite else "note"
    findings += [Finding("unbounded", kind, f"{sentence}.") for sentence in unbounded.sentences]
    if unbounded.is_star_infinite:
        findings.append(
            Finding("measure", "note", "the Lebesgue volume is infinite: use measure='gaussian' or measure='ball'.")
        )
    choice = outcome.solver.choice
    findings.append(Finding("backend", "ok", f"{choice.backend.name}: {choice.reason}."))
    findings += _forecast(outcome.radii, space.dim, num_directions, seconds, directions=task.directions(1))
    return Report(tuple(findings))


def _modules(model: nn.Module) -> list[Finding]:
    dropout = [n for n, m in model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    norms = [n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    batch = [n for n in norms if not getattr(model.get_submodule(n), "track_running_stats", True)]
    found = [
        _either(
            "dropout",
            dropout,
            lambda: f"{', '.join(dropout)} drop nothing in eval mode, which is what is measured.",
            "there is none.",
        )
    ]
    if batch:
        sentence = f"{', '.join(batch)} use the statistics of each batch: the loss depends on how data are batched."
        found.append(Finding("normalization", "problem", sentence))
    else:
        found.append(
            _either(
                "normalization",
                norms,
                lambda: f"{', '.join(norms)} use their running statistics, which directions do not move.",
                "there is none that depends on the batch.",
            )
        )
    return found


def _parameters(model: nn.Module) -> list[Finding]:
    every = dict(model.named_parameters(remove_duplicate=False))
    once = dict(model.named_parameters())
    tied = sorted(set(every) - set(once))
    frozen = [name for name, p in once.items() if not p.requires_grad]
    return [
        _either("tied", tied, lambda: f"{', '.join(tied)} are moved together with their twins.", "none."),
        _either(
            "frozen",
            frozen,
            lambda: f"{', '.join(frozen)} are perturbed too; pass trainable_only=True to leave them.",
            "none.",
        ),
    ]


def _either(topic: str, names: list[str], sentence: Callable[[], str], otherwise: str) -> Finding:
    return Finding(topic, "note", sentence()) if names else Finding(topic, "ok", otherwise)


def _center(loss: float, cutoff: float) -> Finding:
    if not cutoff > loss:
        return Finding(
            "center",
            "problem",
            f"its loss {loss:.6g} is not below the cutoff {cutoff:g}: train longer or raise `cutoff`.",
        )
    if loss > _CLOSE * cutoff:
        sentence = f"its loss {loss:.6g} is near the cutoff {cutoff:g}: the volume is that of a small excess."
        return Finding("center", "note", sentence)
    return Finding("center", "ok", f"its loss {loss:.6g} is well below the cutoff {cutoff:g}.")


def _backwards(landscape: Landscape) -> float:
    """The loss at the center, from the last example to the first, in batches of other sizes."""
    count, total = landscape.num_examples, 0.0
    # At least three, and no batch much larger than those of the measurement, for which there is memory.
    size = max(1, min(count // 3, landscape.batch_size + landscape.batch_size // 2))
    with landscape.measuring():
        for last in range(count, 0, -size):
            first = max(0, last - size)
            if landscape.weight(first, last) > 0:
                inputs, targets = (
                    reversed_examples(values[first:last]) for values in (landscape.inputs, landscape.targets)
                )
                loss = as_scalar(landscape.caller.loss({}, inputs, targets))
                total += float(loss.double()) * landscape.share(first, last)
    return total


def _noise(landscape: Landscape, loss: float, cutoff: float) -> Finding:
    """Compares the loss with that of the examples in reverse order, which differs by rounding alone."""
    difference = abs(_backwards(landscape) - loss)
    share = difference / abs(cutoff - loss) if cutoff != loss else math.inf
    sentence = f"examples in another order move the loss by {difference:.2g}, {share:.1g} of the way to the cutoff."
    return Finding("noise", "ok" if share <= _MAX_NOISE else "problem", sentence)


def _zero_filters(zero: dict[str, int]) -> Finding:
    if zero:
        named = ", ".join(f"{name} ({count})" for name, count in zero.items())
        return Finding("scale", "problem", f"parameters of scale 0 are never perturbed: {named}; use scaling='none'.")
    return Finding("scale", "ok", "every parameter is perturbed.")


def _rays(radii: Radii, along: Any, followed: int) -> list[Finding]:
    count = len(radii)
    censored = int(radii.is_status(Status.CENSORED).sum())
    broken = int(radii.is_status(Status.NON_FINITE).sum())
    found = []
    if censored:
        found.append(Finding("rays", "problem", f"{censored} of {count} never leave the basin."))
    if broken:
        found.append(Finding("rays", "problem", f"{broken} of {count} end at a loss that is NaN or infinite."))
    if not found:
        found.append(Finding("rays", "ok", f"all of {count} leave the basin."))
    falls, returns = round(along.non_monotone * followed), round(along.reentrant * followed)
    state = "ok" if falls == returns == 0 else "note"
    sentence = (
        f"of {followed} followed to 5 radii, {falls} fall before the crossing and {returns} enter again beyond it."
    )
    return [*found, Finding("monotone", state, sentence)]


def _forecast(radii: Radii, dim: int, num_directions: int, seconds: float, directions: Directions) -> list[Finding]:
    count = len(radii)
    per_ray = float(radii.num_evaluations.double().mean())
    cost = (
        f"{num_directions} directions take about {seconds / count * num_directions:.1f} s and "
        f"{per_ray * num_directions:,.0f} evaluations."
    )
    findings = [Finding("cost", "ok", cost)]
    crossed = radii.radius[radii.is_status(Status.CROSSED)]
    if len(crossed) < 2:
        return findings
    deviation = float((dim * crossed.log()).std())
    z = deviation / math.sqrt(2.0 * math.log(max(num_directions, 2)))
    # For normal log weights of standard deviation s, exp(s^2) directions are worth one.
    needed = deviation**2 / math.log(10.0)
    used = torch.ones(count, dtype=torch.bool)
    now = diagnose(radii, used, radii.entering, dim).verdict
    if z <= 0.6:
        sentence = (
            f"z = {z:.2f}: {num_directions} plain directions are enough if nothing else is found ({now} at {count})."
        )
        return [*findings, Finding("verdict", "ok", sentence)]
    sentence = (
        f"z = {z:.2f}: the plain number will be a lower bound, and about 10^{needed:.0f} directions would be needed; "
        "use method='preconditioned' or 'annealed', or compare minima only."
    )
    return [*findings, Finding("verdict", "note", sentence)]
