"""Measures every case against the baselines and adds one line for each to benchmarks/results/<machine>.jsonl."""

from __future__ import annotations

import argparse
import copy
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import basinvol as bv
from basinvol import _native
from basinvol.experiments.records.run_directory import machine

from .baselines import Perturbed, batched_bisection, bisection, paper_grid
from .cases import CASES, Case
from .table import format_change, write_table

RESULTS = Path(__file__).parent / "results"
NUM_CHECKED = 8  # rays whose brackets are recomputed in float64 before anything is timed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"cases to measure (default all): {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions (default 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{machine_name()}.jsonl"
    for name in options.cases or CASES:
        line = measure(CASES[name](), options.rounds, options.threads)
        with target.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
    print(write_table(target))
    print()
    print(format_change(target))


def machine_name() -> str:
    """Return a file name for this machine, from its processor and its number of cores."""
    found = machine()
    return f"{found['cpu']}-{found['cores']}-cores".lower().replace(" ", "-").replace("(r)", "")


def measure(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    """Check the answers of one case, then time basinvol and the baselines in turn.

    Args:
        case: What is measured.
        rounds: How often everything is timed; medians are reported.
        threads: The number of threads of basinvol and of torch.

    Returns:
        One line of results: settings, seconds, ratios to the baselines, and the share of the measured peak.
    """
    space = bv.ParameterSpace.of(case.model)
    directions = bv.Directions(space, case.num_directions)
    radii = solver_of(case, directions, threads, "all").solve_all()
    moves, norms = moves_of(case, directions)
    check(case, radii, moves)

    times: dict[str, list[float]] = {}
    operations = 0.0
    peak = max(_native.measure_peak(threads, 0.5) for _ in range(3))
    # Rounds are interleaved, so that a change in the machine's load or clock affects all of them alike.
    for _ in range(rounds):
        for mode in ("all", "decisive"):
            started = time.perf_counter()
            solver = solver_of(case, directions, threads, mode)
            solver.solve_all()
            times.setdefault(mode, []).append(time.perf_counter() - started)
            if mode == "all":
                operations = solver.engine.operations
        for name, seconds in time_baselines(case, moves, norms, radii).items():
            times.setdefault(name, []).append(seconds)

    median = {name: statistics.median(values) for name, values in times.items()}
    baselines = [name for name in median if name not in ("all", "decisive")]
    return {
        "case": case.name,
        "title": case.title,
        "machine": machine(),
        "versions": {"basinvol": bv.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "engine": solver_of(case, directions, threads, "all").description,
        "threads": threads,
        "num_params": case.num_params,
        "levels": case.levels,
        "cutoffs": case.cutoffs,
        "num_directions": case.num_directions,
        "baseline_directions": case.baseline_directions,
        "evaluations": float(radii.num_evaluations.double().mean()),
        "full_evaluations": float(radii.num_full_evaluations.mean()),
        "full_deciles": radii.num_full_evaluations.quantile(torch.linspace(0.1, 0.9, 9, dtype=torch.float64)).tolist(),
        "seconds": {name: {"median": median[name], "min": min(v), "max": max(v)} for name, v in times.items()},
        "ratio_all": {name: median[name] / median["all"] for name in baselines},
        "ratio_decisive": {name: median[name] / median["decisive"] for name in baselines},
        "gflops": operations / median["all"] / 1e9,
        "peak_gflops": peak / 1e9,
        "fraction_of_peak": operations / median["all"] / peak,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def solver_of(case: Case, directions: bv.Directions, threads: int, mode: str) -> bv.RaySolver:
    """Return a solver on the native engine; its preparation is part of what is timed.

    Args:
        case: What is measured.
        directions: The directions to solve.
        threads: The number of threads.
        mode: The value of `resolve`: "all" or "decisive".
    """
    landscape = bv.Landscape(case.model, case.loss_fn, (case.inputs, case.targets), case.levels)
    return bv.RaySolver(landscape, directions, case.cutoffs, resolve=mode, backend="native", num_threads=threads)


def moves_of(case: Case, directions: bv.Directions) -> tuple[list[list[torch.Tensor]], list[float]]:
    """Return scale x direction as tensors shaped like the parameters, and the norms of the Gaussian vectors."""
    indices = range(max(case.baseline_directions, NUM_CHECKED))
    scale = directions.space.scale(case.model)
    vectors = directions.materialize(indices, device=scale.device)
    moves = [list(directions.space.unflatten(u * scale).values()) for u in vectors]
    return moves, directions.norms(indices).tolist()


def check(case: Case, radii: bv.Radii, moves: list[list[torch.Tensor]], num_rays: int = NUM_CHECKED) -> None:
    """Recompute the brackets of some rays in float64: inside at the lower end, outside at the upper, to float32 noise.

    That noise is twice what torch itself loses in float32 at these ends, and the rounding of a loss.

    Args:
        case: What is measured.
        radii: The radii for all levels, cutoffs and directions. [L, cutoffs, D]
        moves: scale x direction for the rays that are checked, as tensors shaped like the parameters.
        num_rays: How many rays are checked.

    Raises:
        SystemExit: A bracket does not hold.
    """
    for row, size in enumerate(case.levels):
        exact, rough = (_perturbed(case, size, kind) for kind in (torch.float64, torch.float32))
        for column, cutoff in enumerate(case.cutoffs):
            ends = radii.lower[row, column, :num_rays].tolist(), radii.upper[row, column, :num_rays].tolist()
            below, above = ([exact(move, radius) for move, radius in zip(moves, end, strict=False)] for end in ends)
            rounded = [[rough(move, radius) for move, radius in zip(moves, end, strict=False)] for end in ends]
            errors = [abs(x - y) for x, y in zip(below + above, rounded[0] + rounded[1], strict=True)]
            noise = 2.0 * max(errors) + 2.0**-22 * cutoff
            for ray in range(num_rays):
                if not (below[ray] <= cutoff + noise and above[ray] > cutoff - noise):
                    raise SystemExit(
                        f"{case.name}: direction {ray} is not bracketed: {below[ray]}, {cutoff}, {above[ray]}"
                    )


def _perturbed(case: Case, size: int, dtype: torch.dtype) -> Callable[[list[torch.Tensor], float], float]:
    """Return the loss of the first `size` examples at center + radius x move, computed in this type."""
    model = copy.deepcopy(case.model).to(dtype)
    targets = case.targets[:size].to(dtype) if case.targets.is_floating_point() else case.targets[:size]
    perturbed = Perturbed(model, case.loss_fn, case.inputs[:size].to(dtype), targets)

    @torch.no_grad()
    def loss(move: list[torch.Tensor], radius: float) -> float:
        found = perturbed.loss([part.to(dtype) for part in move], radius)
        perturbed.restore()
        return found

    return loss


def time_baselines(
    case: Case, moves: list[list[torch.Tensor]], norms: list[float], radii: bv.Radii, compiles: bool = False
) -> dict[str, float]:
    """Return the seconds of each baseline for all directions, levels and cutoffs of the case.

    A baseline solves a few of the directions, on every level and cutoff, and its time is scaled up to all of them.

    Args:
        case: What is measured.
        moves: scale x direction, as tensors shaped like the parameters.
        norms: The norms of the Gaussian vectors, which the paper's grid multiplies.
        radii: basinvol's radii, with which the brackets of the baselines must agree. [L, cutoffs, D]
        compiles: Whether to time torch.compile as well, after a run that compiles.

    Raises:
        SystemExit: The bracket of a baseline does not overlap basinvol's.
    """
    totals: dict[str, float] = {}
    count = case.baseline_directions
    share = case.num_directions / count
    for row, size in enumerate(case.levels):
        inputs, targets = case.inputs[:size], case.targets[:size]
        perturbed = Perturbed(case.model, case.loss_fn, inputs, targets)
        for column, cutoff in enumerate(case.cutoffs):
            # Bisection has no guess of its own: it starts at the right order of magnitude, as if a user had given it.
            start = float(radii.radius[row, column].mean()) / 4
            runs = {
                "grid": lambda c=cutoff, p=perturbed: paper_grid(p, moves[:count], c, norms[:count]),
                "bisection": lambda c=cutoff, p=perturbed, s=start: bisection(p, moves[:count], c, s),
                "vmap": lambda c=cutoff, x=inputs, y=targets, s=start: batched_bisection(
                    case.model, case.loss_fn, x, y, moves[:count], c, s
                ),
            }
            if compiles:
                runs["vmap compiled"] = lambda c=cutoff, x=inputs, y=targets, s=start: batched_bisection(
                    case.model, case.loss_fn, x, y, moves[:count], c, s, compiles=True
                )
                runs["vmap compiled"]()
            for name, run in runs.items():
                started = time.perf_counter()
                brackets = run()
                totals[name] = totals.get(name, 0.0) + (time.perf_counter() - started) * share
                for ray, (lower, upper) in enumerate(brackets):
                    ours = (float(radii.lower[row, column, ray]), float(radii.upper[row, column, ray]))
                    if not (lower <= ours[1] * (1 + 1e-5) and upper >= ours[0] * (1 - 1e-5)):
                        raise SystemExit(f"{case.name}: on direction {ray}, {name} has {lower, upper}, basinvol {ours}")
    return totals


if __name__ == "__main__":
    main()
