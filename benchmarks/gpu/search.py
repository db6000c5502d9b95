"""One radius search on the device, checked in float64 and then timed."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import basinvol as bv

from ..__main__ import check, moves_of
from ..cases import Case, perceptron
from .device import DEVICE, IS_REHEARSAL, make_room, seconds_of
from .time_model import modelled_seconds

_ROUNDS = 1 if IS_REHEARSAL else 3
_CLASS_DISTANCE = 8.0  # of the means of two classes, in standard deviations of the noise: fitted, and not exactly


def images(name: str, widths: list[int], count: int, ink: float, num_directions: int, baseline: int) -> Case:
    """Return a case with the shape of a data set of images: class means plus noise, which a perceptron can fit.

    Args:
        name: The name of the case.
        widths: The widths of the perceptron, from the inputs to the classes.
        count: The number of rows.
        ink: The share of the inputs that are not background.
        num_directions: The number of directions that basinvol solves.
        baseline: How many of them each baseline solves.

    Raises:
        RuntimeError: The trained network fits exactly or not at all, so that the case says nothing.
    """
    if IS_REHEARSAL:
        widths, count, ink, num_directions = [8, 20, 12, widths[-1]], min(count, 40), 1.0, 8
    generator = torch.Generator(DEVICE).manual_seed(0)
    targets = torch.arange(count, device=DEVICE) % widths[-1]
    drawn = (
        int(ink * widths[0]) + 1
    ) ** 0.5  # the distance between means of this many standard normal numbers, / 2^0.5
    means = torch.randn(widths[-1], widths[0], generator=generator, device=DEVICE) * _CLASS_DISTANCE / drawn / 2**0.5
    inputs = means[targets] + torch.randn(count, widths[0], generator=generator, device=DEVICE)
    blank = torch.rand(inputs.shape, generator=generator, device=DEVICE) > ink
    inputs = torch.where(blank, -0.4242, inputs)  # black after the usual normalization of MNIST, -0.1307 / 0.3081
    model = perceptron(widths).to(DEVICE)
    loss = fit_on_device(model, inputs, targets)
    if not 1e-6 < loss < CUTOFF / 2:
        raise RuntimeError(f"{name} is no case to measure: after training its loss is {loss:.3g}")
    title = f"{'-'.join(map(str, widths))}, {count:,} rows"
    return Case(name, title, model, F.cross_entropy, inputs, targets, (count,), (CUTOFF,), num_directions, baseline)


CUTOFF = 0.1


def fit_on_device(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Train until the loss is a tenth of the cutoff, for at most 500 steps, and return the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3 if not IS_REHEARSAL else 2e-2)
    loss = torch.tensor(1.0)
    for step in range(500):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        if step % 10 == 0 and float(loss.detach()) < CUTOFF / 10:
            break
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float(F.cross_entropy(model(inputs), targets))


def on_device(case: Case) -> Case:
    """Return the same case with its model and data on the device."""
    moved = {"model": case.model.to(DEVICE), "inputs": case.inputs.to(DEVICE), "targets": case.targets.to(DEVICE)}
    return dataclasses.replace(case, **moved)


def solver_of(case: Case, backend: str, precision: str | None, mode: str) -> bv.RaySolver:
    """Return a solver on one backend; its preparation is part of what is timed.

    Args:
        case: What is measured.
        backend: The name of the backend.
        precision: One of its precisions, or None for its default.
        mode: The value of `resolve`: "all" or "decisive".
    """
    landscape = bv.Landscape(case.model, case.loss_fn, (case.inputs, case.targets), case.levels)
    directions = bv.Directions(bv.ParameterSpace.of(case.model), case.num_directions)
    return bv.RaySolver(landscape, directions, case.cutoffs, resolve=mode, backend=backend, precision=precision)


def measure(case: Case, backend: str, precision: str | None, mode: str, rates: dict[str, float]) -> dict[str, Any]:
    """Check the brackets of some rays in float64, then time the whole search, preparation included.

    Args:
        case, backend, precision, mode: See `solver_of`.
        rates: See `rates.measure_rates`.
    """
    make_room()
    solver = solver_of(case, backend, precision, mode)
    radii = solver.solve_all()
    if mode == "all":
        directions = bv.Directions(bv.ParameterSpace.of(case.model), case.num_directions)
        check(case, radii, moves_of(case, directions)[0], min(8, case.num_directions))
    line: dict[str, Any] = {
        "title": case.title,
        "num_params": case.num_params,
        "levels": case.levels,
        "num_directions": case.num_directions,
        "engine": solver.description,
        "evaluations": float(radii.num_evaluations.double().mean()),
        "seconds": seconds_of(lambda: solver_of(case, backend, precision, mode).solve_all(), _ROUNDS),
    }
    rows = rows_evaluated(case, backend, precision) if mode == "all" else None
    if rows is not None:
        reached = operations(case, rows) / line["seconds"]["median"]
        kind = getattr(solver.engine, "precision", None)  # engines of several devices have none of their own
        line |= {"full_evaluations": rows / case.levels[-1] / case.num_directions, "flops": reached}
        line["fraction_of_matmul"] = reached / rates[kind] if kind in rates else None
        if kind in rates:
            layers = [(part.in_features, part.out_features) for part in case.model if isinstance(part, nn.Linear)]
            line |= modelled_seconds(layers, case.levels[-1], case.num_directions, rows, rates, kind)
    return line


def rows_evaluated(case: Case, backend: str, precision: str | None) -> float | None:
    """The rows of all evaluations of all directions, where the engine keeps a trace: a scout counts its own rows."""
    solver = solver_of(case, backend, precision, "all")
    levels = torch.tensor(solver.engine.levels)
    found = solver.engine.solve(range(case.num_directions), solver.generic_guess)
    if found.trace is None:
        return None
    highest = (~found.trace.losses.isnan()).long().cumsum(dim=1).argmax(dim=1)
    return float(levels[highest].sum())


def operations(case: Case, rows: float) -> float:
    """The floating-point operations of the products: the first layer's once per direction, the others' per evaluation.

    Args:
        case: What is measured.
        rows: The rows of all evaluations of all directions.
    """
    sizes = [layer.weight.numel() for layer in case.model if hasattr(layer, "weight")]
    return 2.0 * (case.levels[-1] * sizes[0] * case.num_directions + rows * sum(sizes[1:]))
