"""Times networks beyond perceptrons against plain PyTorch: `python -m benchmarks.modules [case ...]`.

Every answer is checked before its time is used. Seconds are those of one direction, the mean over all that are solved;
a line for each case is added to benchmarks/results/modules.jsonl, and the table of the newest lines is printed and put
into the README.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import basinvol as bv
from basinvol.backends.extension import compiled_extension
from basinvol.experiments.records.run_directory import machine

from .baselines import bisection
from .networks import NETWORKS, Network
from .table import put_into_readme

RESULTS = Path(__file__).parent / "results" / "modules.jsonl"
GRID_POINTS = 100  # of the paper's pipeline, each a pass over the full data in one batch
TIMED_PASSES = 3  # of these, as all cost the same
CUTOFF_ABOVE_CENTER = 0.1
DECISIVE_DIRECTIONS = 200  # most of which are proved short


class BatchedPerturbed:
    """A model whose parameters are set in place, evaluated in batches; what `bisection` is given."""

    def __init__(self, network: Network, batch_size: int) -> None:
        self._network, self._batch_size = network, batch_size
        self._parameters = list(network.model.parameters())
        self._center = [p.detach().clone() for p in self._parameters]

    def loss(self, move: list[Tensor], radius: float) -> float:
        """Return the mean loss at center + radius x move."""
        for parameter, center, part in zip(self._parameters, self._center, move, strict=True):
            parameter.copy_(center + radius * part)
        total, count = 0.0, len(self._network.inputs)
        for first in range(0, count, self._batch_size):
            part = slice(first, min(first + self._batch_size, count))
            outputs = self._network.model(self._network.inputs[part])
            total += float(self._network.loss_fn(outputs, self._network.targets[part])) * (part.stop - first)
        return total / count

    def restore(self) -> None:
        """Set the parameters back to the center."""
        for parameter, center in zip(self._parameters, self._center, strict=True):
            parameter.copy_(center)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.modules", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"cases to measure (default all): {', '.join(NETWORKS)}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.cases or NETWORKS:
        line = measure(name, NETWORKS[name](), options.threads)
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
    found = table()
    put_into_readme("modules", found)
    print(found)


@torch.no_grad()
def measure(name: str, network: Network, threads: int) -> dict[str, Any]:
    """Check the radii of one network, then time them and the baselines; return one line of results."""
    space = bv.ParameterSpace.of(network.model)
    landscape = bv.Landscape(network.model, network.loss_fn, (network.inputs, network.targets))
    cutoff = float(landscape.losses()[0]) + CUTOFF_ABOVE_CENTER
    directions = bv.Directions(space, network.num_directions)
    solver = bv.RaySolver(landscape, directions, [cutoff], num_threads=threads)
    started = time.perf_counter()
    radii = solver.solve_all().at()
    everything = (time.perf_counter() - started) / network.num_directions
    share = _share_of_peak(solver, everything * network.num_directions, threads)
    decisive = _decisive(name, landscape, space, cutoff, threads, radii)

    move = list(space.unflatten(directions.materialize([0])[0] * space.scale(network.model)).values())
    full, batched = BatchedPerturbed(network, len(network.inputs)), BatchedPerturbed(network, landscape.batch_size)
    started = time.perf_counter()
    (bracket,) = bisection(batched, [move], cutoff, float(radii.radius.mean()) / 4)
    bisected = time.perf_counter() - started
    lower, upper = float(radii.lower[0]), float(radii.upper[0])
    if not (bracket[0] <= upper * (1 + 1e-5) and bracket[1] >= lower * (1 - 1e-5)):
        raise SystemExit(f"{name}: bisection has {bracket}, basinvol {lower, upper}")
    started = time.perf_counter()
    for _ in range(TIMED_PASSES):
        full.loss(move, lower)
    grid = (time.perf_counter() - started) * GRID_POINTS / TIMED_PASSES
    full.restore()
    return {
        "case": name,
        "title": network.title,
        "machine": machine(),
        "torch": torch.__version__,
        "engine": solver.description,
        "num_params": space.dim,
        "num_directions": network.num_directions,
        "share_of_peak": share,
        "evaluations": float(radii.num_evaluations.double().mean()),
        "full_evaluations": float(radii.num_full_evaluations.mean()),
        "seconds": {"all": everything, "decisive": decisive, "grid": grid, "bisection": bisected},
    }


def _decisive(
    name: str, landscape: bv.Landscape, space: bv.ParameterSpace, cutoff: float, threads: int, every: bv.Radii
) -> float:
    """Return the seconds of one ray, the pilot included; most rays after it are proved short. `every` is the check."""
    directions = bv.Directions(space, DECISIVE_DIRECTIONS)
    solver = bv.RaySolver(landscape, directions, [cutoff], resolve="decisive", num_threads=threads)
    started = time.perf_counter()
    radii = solver.solve_all().at()
    seconds = (time.perf_counter() - started) / DECISIVE_DIRECTIONS
    both = slice(0, min(DECISIVE_DIRECTIONS, len(every)))
    if not bool((radii.upper[both] >= every.lower[both]).all()):
        raise SystemExit(f"{name}: a ray that was proved short is longer than that")
    return seconds


def _share_of_peak(solver: bv.RaySolver, seconds: float, threads: int) -> float | None:
    """Return the multiply-adds of the solver over those that the machine could have done; None where nobody counts."""
    operations = getattr(solver.engine, "operations", None)
    return None if operations is None else operations / seconds / compiled_extension().measure_peak(threads, 0.5)


def table() -> str:
    """Return the newest line of every case as a Markdown table."""
    records = map(json.loads, RESULTS.read_text().splitlines())
    # Lines without that number timed a ray after the pilot in place of all of them.
    newest = {record["case"]: record for record in records if "num_directions" in record}
    head = ["network", "directions", "all, each", "evaluations", "of peak", "vs grid", "vs bisection"]
    head += [f"decisive, each of {DECISIVE_DIRECTIONS}", "vs grid", "vs bisection"]
    lines = [head, ["---"] * len(head)]
    for name in NETWORKS:
        if name not in newest:
            continue
        record = newest[name]
        seconds, share = record["seconds"], record["share_of_peak"]
        cells = [record["title"], str(record["num_directions"]), f"{seconds['all']:.2f} s"]
        evaluations = record.get("full_evaluations", record["evaluations"])  # older lines count those of few rows, too
        cells += [f"{evaluations:.1f}", "" if share is None else f"{share:.0%}"]
        cells += [f"{seconds[baseline] / seconds['all']:,.1f}x" for baseline in ("grid", "bisection")]
        cells += [f"{seconds['decisive']:.2f} s"]
        cells += [f"{seconds[baseline] / seconds['decisive']:,.1f}x" for baseline in ("grid", "bisection")]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
