"""Measures the GPU backends against PyTorch on the same device, and prints a short table at the end.

    python -m benchmarks.gpu [CASE ...] [--backends triton,cuda] [--out FILE]

Results are JSON lines in a file. Answers are checked in float64 before anything is timed. A time is measured with CUDA
events around the whole call, preparation included, and is the median of the rounds. The rates of the vendor's matrix
products and of a copy are measured first, in the same run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends import backends
from basinvol.experiments.records.run_directory import machine

from .__main__ import NUM_CHECKED, check, moves_of, time_baselines
from .cases import Case, modular_addition, perceptron, swiss_roll

DEVICE = torch.device("cuda")
# The goal of each case in seconds, for all radii and for decisive ones; None where there is no goal.
GOALS: dict[str, tuple[float | None, float | None]] = {
    "mnist-60000": (1.0, 0.15),
    "mnist-60": (0.05, None),
    "cifar-50000": (8.0, None),
}


def images(name: str, widths: list[int], count: int, ink: float, num_directions: int, baseline: int) -> Case:
    """Return a case with the shape of a data set of images: class means plus noise, which a perceptron can fit.

    Args:
        name: The name of the case.
        widths: The widths of the perceptron, from the inputs to the classes.
        count: The number of rows.
        ink: The share of the inputs that are not background.
        num_directions: The number of directions that basinvol solves.
        baseline: How many of them each baseline solves.
    """
    generator = torch.Generator(DEVICE).manual_seed(0)
    targets = torch.arange(count, device=DEVICE) % widths[-1]
    means = torch.randn(widths[-1], widths[0], generator=generator, device=DEVICE)
    inputs = means[targets] + torch.randn(count, widths[0], generator=generator, device=DEVICE)
    blank = torch.rand(inputs.shape, generator=generator, device=DEVICE) > ink
    inputs = torch.where(blank, -0.4242, inputs)  # black after the usual normalization of MNIST, -0.1307 / 0.3081
    model = perceptron(widths).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    title = f"{'-'.join(map(str, widths))}, {count:,} rows"
    return Case(name, title, model, F.cross_entropy, inputs, targets, (count,), (0.1,), num_directions, baseline)


def on_device(case: Case) -> Case:
    """Return the same case with its model and data on the device."""
    moved = {"model": case.model.to(DEVICE), "inputs": case.inputs.to(DEVICE), "targets": case.targets.to(DEVICE)}
    return dataclasses.replace(case, **moved)


CASES: dict[str, Callable[[], Case]] = {
    "mnist-60": lambda: images("mnist-60", [784, 256, 128, 10], 60, 0.2, 500, 8),
    "mnist-60000": lambda: images("mnist-60000", [784, 256, 128, 10], 60_000, 0.2, 500, 4),
    "cifar-50000": lambda: images("cifar-50000", [3072, 512, 256, 10], 50_000, 1.0, 500, 2),
    "swiss-roll": lambda: on_device(swiss_roll()),
    "modular": lambda: on_device(modular_addition()),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"cases to measure (default all): {', '.join(CASES)}")
    parser.add_argument("--backends", default="triton,cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file to which JSON lines are added (default: named after the device)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a CUDA device, and torch finds none on this machine.")
    name = torch.cuda.get_device_name().lower().replace(" ", "-")
    target = options.out or Path(__file__).parent / "results" / f"{name}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    usable = [n for n in options.backends.split(",") if n in backends() and backends()[n].unusable(DEVICE) is None]
    rates = measure_rates()
    lines = []
    for case_name in options.cases or CASES:
        for line in measure(CASES[case_name](), usable, options.rounds, rates):
            lines.append(line)
            with target.open("a") as file:
                file.write(json.dumps(line) + "\n")
    print(table(lines, rates))


def measure_rates() -> dict[str, float]:
    """Return operations per second of square matrix products by precision, and bytes per second of a copy."""
    size = 8192
    a, b = (torch.randn(size, size, device=DEVICE) for _ in range(2))
    rates = {}
    for name, allows_tf32 in (("fp32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allows_tf32
        rates[name] = 2 * size**3 / seconds_of(lambda: torch.mm(a, b), 5)
    torch.backends.cuda.matmul.allow_tf32 = False
    rates["tf32x3"] = rates["tf32"] / 3  # three tf32 products for each product
    source = torch.empty(2**30, dtype=torch.uint8, device=DEVICE)
    into = torch.empty_like(source)
    rates["copy"] = 2 * source.numel() / seconds_of(lambda: into.copy_(source), 5)
    return rates


def seconds_of(run: Callable[[], object], rounds: int) -> float:
    """Return the median time of some calls by CUDA events, in seconds, after one call that is not timed."""
    run()
    times = []
    for _ in range(rounds):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop) / 1e3)
    return statistics.median(times)


def measure(case: Case, usable: list[str], rounds: int, rates: dict[str, float]) -> list[dict[str, Any]]:
    """Return one line of results for each backend and precision; the baselines are timed once and shared.

    Args:
        case: What is measured.
        usable: The names of the backends.
        rounds: How often each search is timed.
        rates: From `measure_rates`.
    """
    directions = bv.Directions(bv.ParameterSpace.of(case.model), case.num_directions)
    moves, norms = moves_of(case, directions)
    baselines: dict[str, float] = {}
    lines = []
    for backend in usable:
        for precision in backends()[backend].precisions:
            radii = solver_of(case, directions, backend, precision, "all").solve_all()
            check(case, radii, moves)
            found = {
                mode: seconds_of(
                    lambda m=mode, b=backend, p=precision: solver_of(case, directions, b, p, m).solve_all(), rounds
                )
                for mode in ("all", "decisive")
            }
            if not baselines:
                baselines = time_baselines(case, moves, norms, radii, compiles=True)
            operations, traffic = cost(case, radii)
            reached = operations / found["all"]
            lines.append(
                {
                    "case": case.name,
                    "title": case.title,
                    "backend": backend,
                    "precision": precision,
                    "device": torch.cuda.get_device_name(),
                    "machine": machine(),
                    "versions": {
                        "basinvol": bv.__version__,
                        "torch": torch.__version__,
                        "triton": triton.__version__,
                        "cuda": torch.version.cuda,
                        "python": platform.python_version(),
                    },
                    "num_params": case.num_params,
                    "levels": case.levels,
                    "num_directions": case.num_directions,
                    "evaluations": float(radii.num_evaluations.double().mean()),
                    "seconds": {**found, **baselines},
                    "ratio_all": {name: seconds / found["all"] for name, seconds in baselines.items()},
                    "goals": GOALS.get(case.name, (None, None)),
                    "tflops": reached / 1e12,
                    "fraction_of_matmul": reached / rates[precision],
                    "fraction_of_copy": traffic / found["all"] / rates["copy"],
                    "rates": rates,
                }
            )
    return lines


def solver_of(case: Case, directions: bv.Directions, backend: str, precision: str, mode: str) -> bv.RaySolver:
    """Return a solver on one backend; its preparation is part of what is timed.

    Args:
        case: What is measured.
        directions: The directions to solve.
        backend: The name of the backend.
        precision: One of its precisions.
        mode: The value of `resolve`: "all" or "decisive".
    """
    landscape = bv.Landscape(case.model, case.loss_fn, (case.inputs, case.targets), case.levels)
    return bv.RaySolver(landscape, directions, case.cutoffs, resolve=mode, backend=backend, precision=precision)


def cost(case: Case, radii: bv.Radii) -> tuple[float, float]:
    """Return the floating-point operations of the products, and the bytes of first-layer products written and read."""
    weights = [layer.weight for layer in case.model if hasattr(layer, "weight")]
    rows, width = case.levels[-1], weights[0].shape[0]
    first = 2.0 * rows * weights[0].numel() * case.num_directions
    each = 2.0 * rows * sum(weight.numel() for weight in weights[1:])
    # On smaller levels an evaluation takes fewer rows. To count every level as the largest would make the rate look
    # better than it is.
    share = sum(case.levels) / (len(case.levels) * rows)
    evaluations = float(radii.num_evaluations.sum()) * share
    return first + evaluations * each, 4.0 * rows * width * (case.num_directions + evaluations)


def table(lines: list[dict[str, Any]], rates: dict[str, float]) -> str:
    """Return the table that is printed at the end."""
    head = ", ".join(f"{name} {rate / 1e12:.1f} T/s" for name, rate in rates.items())
    rows = [f"{torch.cuda.get_device_name()}: {head}"]
    for line in lines:
        seconds, goal = line["seconds"], line["goals"]
        ratios = ", ".join(f"{name} {ratio:.0f}x" for name, ratio in line["ratio_all"].items())
        rows.append(
            f"{line['case']:<12} {line['backend']:<6} {line['precision']:<6} all {seconds['all']:.4f} s "
            f"(goal {goal[0]}), decisive {seconds['decisive']:.4f} s (goal {goal[1]}), "
            f"{line['fraction_of_matmul']:.0%} of the matrix rate, {line['fraction_of_copy']:.0%} of the copy rate; "
            f"{ratios}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s, {NUM_CHECKED} rays of each case checked in float64")
