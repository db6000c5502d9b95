"""Times losses and gradients of many chains against torch's autograd: `python -m benchmarks.gradients [case ...]`.

Every gradient is held against autograd in float64 before anything is timed. Times are those of one chain. A line for
each case is added to benchmarks/results/gradients.jsonl, and the newest lines are printed as a table.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.extension import compiled_extension
from basinvol.backends.points import NativePoints
from basinvol.experiments.records.run_directory import machine

from .cases import Case, mnist_5000

RESULTS = Path(__file__).parent / "results" / "gradients.jsonl"
NUM_ROWS = {"mnist-60": 60, "mnist-4000": 4000}
NUM_CHAINS = 64
NUM_CHECKED = 7  # chains whose gradients are recomputed in float64
NUM_LOOPED = 8  # chains that the loop evaluates, as all cost the same
DISTANCE = 1.0  # of the chains from the center, in scaled coordinates
PEAK_SECONDS = 0.5


class Autograd:
    """What a chain method does in plain torch: losses and gradients by the points, through autograd.

    Args:
        case: The network, its loss and its data.
        num_rows: How many of the rows count.
        dtype: The type in which it computes.
    """

    def __init__(self, case: Case, num_rows: int, dtype: torch.dtype = torch.float32) -> None:
        self._space, self._dtype = bv.ParameterSpace.of(case.model), dtype
        self._center = self._space.flatten(case.model).double()
        self._scale = self._space.scale(case.model).double()
        self._model = copy.deepcopy(case.model).to(dtype).eval()
        self._inputs, self._targets = case.inputs[:num_rows].to(dtype), case.targets[:num_rows]

    def one_by_one(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses and gradients, one point after the other. [K], [K, P]"""
        found = [grad_and_value(self._loss)(vector) for vector in self._vectors(points)]
        gradients, losses = (torch.stack(parts) for parts in zip(*found, strict=True))
        return losses.double(), gradients.double() * self._scale

    def together(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses and gradients of all points in one batched call. [K], [K, P]"""
        gradients, losses = vmap(grad_and_value(self._loss))(self._vectors(points))
        return losses.double(), gradients.double() * self._scale

    def _vectors(self, points: Tensor) -> Tensor:
        # Float32 parameters whatever the type of the arithmetic, so that all compute the loss of the same networks.
        return (self._center + self._scale * points).float().to(self._dtype)

    def _loss(self, vector: Tensor) -> Tensor:
        pieces = torch.split(vector, list(self._space.sizes))
        named = {n: p.view(s) for n, p, s in zip(self._space.names, pieces, self._space.shapes, strict=True)}
        return F.cross_entropy(functional_call(self._model, named, (self._inputs,)), self._targets)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradients", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"cases to measure (default all): {', '.join(NUM_ROWS)}")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved repetitions (default 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    case = mnist_5000()
    for name in options.cases or NUM_ROWS:
        line = measure(name, case, NUM_ROWS[name], options.rounds, options.threads)
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
    print(table())


def measure(name: str, case: Case, num_rows: int, rounds: int, threads: int) -> dict[str, Any]:
    """Check the gradients of one case, then time them and torch's in turn.

    Args:
        name: The name of the case in the results.
        case: The network, its loss and its data.
        num_rows: How many of the rows count.
        rounds: How often everything is timed; medians are reported.
        threads: The number of threads of basinvol and of torch.

    Returns:
        One line of results: seconds of one chain, ratios to torch in the same run, and shares of the measured peak.
    """
    space = bv.ParameterSpace.of(case.model)
    landscape = bv.Landscape(case.model, case.loss_fn, (case.inputs[:num_rows], case.targets[:num_rows]))
    native = NativePoints(landscape, space, space.flatten(case.model), space.scale(case.model), threads)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(NUM_CHAINS, space.dim, generator=generator, dtype=torch.float64)
    points *= DISTANCE / points.norm(dim=1, keepdim=True)
    check(name, case, num_rows, native, points[:NUM_CHECKED])

    autograd = Autograd(case, num_rows)
    runs: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
        "gradient": (native.with_gradients, points),
        "loss": (native.losses, points),
        "loop": (autograd.one_by_one, points[:NUM_LOOPED]),
        "vmap": (autograd.together, points),
    }
    times: dict[str, list[float]] = {run: [] for run in runs}
    operations: dict[str, float] = {}
    peaks: list[float] = []
    # Rounds are interleaved, so that a change in the machine's load or clock affects all of them alike.
    for _ in range(rounds):
        peaks.append(compiled_extension().measure_peak(threads, PEAK_SECONDS))
        for run, (function, given) in runs.items():
            before, started = native.operations, time.perf_counter()
            function(given)
            times[run].append((time.perf_counter() - started) / len(given))
            operations[run] = (native.operations - before) / len(given)
    seconds = {run: statistics.median(values) for run, values in times.items()}
    best = min(seconds["loop"], seconds["vmap"])
    return {
        "case": name,
        "title": f"MNIST MLP 784-256-128-10, {num_rows:,} rows, {NUM_CHAINS} chains",
        "machine": machine(),
        "torch": torch.__version__,
        "threads": threads,
        "num_params": space.dim,
        "seconds": seconds,
        "ratio": best / seconds["gradient"],
        "peak_gflops": max(peaks) / 1e9,
        "share_of_peak": {run: operations[run] / seconds[run] / max(peaks) for run in ("gradient", "loss")},
    }


def check(name: str, case: Case, num_rows: int, native: NativePoints, points: Tensor) -> None:
    """Hold losses and gradients against float64: errors are at most twice those of torch's autograd in float32.

    Raises:
        SystemExit: They are larger.
    """
    exact = Autograd(case, num_rows, torch.float64).one_by_one(points)
    rough, found = Autograd(case, num_rows).one_by_one(points), native.with_gradients(points)
    for what, ours, theirs, truth in zip(("losses", "gradients"), found, rough, exact, strict=True):
        # The median chain: where a ReLU's input is zero up to rounding, a gradient jumps, in either of the two.
        error, allowed = (
            float((part - truth).square().reshape(len(points), -1).mean(dim=1).median().sqrt())
            for part in (ours, theirs)
        )
        if not error <= 2.0 * allowed:
            raise SystemExit(f"{name}: {what} are off by {error:.3g}, and torch's in float32 by {allowed:.3g}")


def table() -> str:
    """Return the newest line of every case as a Markdown table."""
    newest = {record["case"]: record for record in map(json.loads, RESULTS.read_text().splitlines())}
    lines = [
        "| case | loss | of peak | loss and gradient | of peak | torch, loop | torch, vmap | vs the better |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in newest.values():
        cells = [record["title"]]
        for run in ("loss", "gradient"):
            cells += [f"{1e3 * record['seconds'][run]:.2f} ms", f"{record['share_of_peak'][run]:.0%}"]
        cells += [f"{1e3 * record['seconds'][run]:.1f} ms" for run in ("loop", "vmap")]
        lines.append(f"| {' | '.join(cells)} | {record['ratio']:.1f}x |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
