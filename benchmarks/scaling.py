"""Measures how time and memory grow: `python -m benchmarks.scaling`; draws docs/figures/scaling.svg.

Each of four sweeps changes one thing: the examples, the directions, the width of two hidden layers, and the parameters,
by hidden layers of one width. A line with all of them is added to benchmarks/results/scaling.jsonl. The speed of a
shared machine changes from minute to minute, so the peak is measured before and after every search, and times are
compared as if it had always been the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch.nn import functional as F

import basinvol as bv
from basinvol import _native
from basinvol.experiments.records.run_directory import machine
from basinvol.figures.style import COLORS, house_style

from .__main__ import solver_of
from .cases import Case, fit, mnist_60000, perceptron

RESULTS = Path(__file__).parent / "results" / "scaling.jsonl"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "scaling.svg"
ROWS, DIRECTIONS, ROUNDS = 6000, 64, 3
_PEAK_SECONDS = 0.3
# What the exponent of the figure is fitted to: with fewer, what is done once for each direction shows.
FITTED_FROM = {"examples": 2000, "directions": 20, "width": 64, "parameters": 0}


@dataclasses.dataclass(frozen=True)
class Point:
    """One measurement of a sweep.

    Attributes:
        sweep: Its name, which is what it changes.
        size: How much of that there is.
        case: What is measured.
        num_directions: How many directions are solved.
    """

    sweep: str
    size: int
    case: Case
    num_directions: int


def points() -> Iterator[Point]:
    """Yield what is measured, sweep after sweep; networks are trained when their turn comes."""
    case = mnist_60000()
    for count in (600, 2000, 6000, 20000, 60000):
        yield Point("examples", count, prefix(case, count), DIRECTIONS)
    case = prefix(case, ROWS)
    for count in (20, 60, 200, 600, 2000):
        yield Point("directions", count, case, count)
    for width in (64, 128, 256, 512):
        yield Point("width", width, with_layers(case, [784, width, width, 10]), DIRECTIONS // 2)
    for depth in (1, 2, 4, 8):
        deep = with_layers(case, [784, *[256] * depth, 10])
        yield Point("parameters", deep.num_params, deep, DIRECTIONS // 2)


def prefix(case: Case, count: int) -> Case:
    """Return the same case on its first `count` examples only."""
    inputs, targets = case.inputs[:count].contiguous(), case.targets[:count].contiguous()
    return dataclasses.replace(case, inputs=inputs, targets=targets, levels=(count,))


def with_layers(case: Case, widths: list[int]) -> Case:
    """Return the same case with a network of other layers, trained on it."""
    model = perceptron(widths)
    fit(model, F.cross_entropy, case.inputs, case.targets, below=0.02)
    return dataclasses.replace(case, model=model)


def measure(point: Point, threads: int) -> tuple[float, float, float]:
    """Return seconds without preparation and the peak of the fastest of three searches, and the MiB of the first one.

    The fastest is that which would be at one speed of the machine. The peak is in operations per second.

    Each point has a process of its own: what an allocator keeps of earlier ones would hide what a search takes.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_measure, point, threads).result()


def _measure(point: Point, threads: int) -> tuple[float, float, float]:
    torch.set_num_threads(threads)
    point.case.inputs.sum()  # so that all of them are in memory
    space = bv.ParameterSpace.of(point.case.model)
    solver_of(prefix(point.case, 100), bv.Directions(space, 8), threads, "all").solve_all()  # loads what is loaded once
    directions = bv.Directions(space, point.num_directions)
    fastest, added, before = (math.inf, 1.0), 0.0, _forget_peak()
    for _ in range(ROUNDS):
        solver = solver_of(point.case, directions, threads, "all")
        peak = _native.measure_peak(threads, _PEAK_SECONDS)
        started = time.perf_counter()
        solver.solve_all()
        seconds = time.perf_counter() - started
        peak = 0.5 * (peak + _native.measure_peak(threads, _PEAK_SECONDS))
        fastest = min(fastest, (seconds, peak), key=math.prod)
        added = added or _status("VmHWM") - before
    return *fastest, added


def _forget_peak() -> float:
    """Let the system forget the largest memory so far; return what is in use, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def exponent(sizes: list[int], values: list[float], least: int = 0) -> float:
    """Return the slope of ln value in ln size, by least squares over the sizes from `least` on."""
    chosen = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True) if size >= least]
    x, y = np.array(chosen).T
    return float(np.polyfit(x, y, 1)[0])


def at_one_speed(line: dict[str, Any], name: str) -> list[float]:
    """Return the seconds of a sweep as they would be if the machine always had its median peak."""
    median = statistics.median(peak for sweep in line["sweeps"].values() for peak in sweep["peak"])
    sweep = line["sweeps"][name]
    return [seconds * peak / median for seconds, peak in zip(sweep["seconds"], sweep["peak"], strict=True)]


def slope(line: dict[str, Any], name: str) -> float:
    """Return the exponent of a sweep."""
    return exponent(line["sweeps"][name]["sizes"], at_one_speed(line, name), FITTED_FROM[name])


def draw(line: dict[str, Any]) -> None:
    """Draw the sweeps of one line of results: seconds above, memory below."""
    names = list(FITTED_FROM)
    with house_style():
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        axes = figure.subplots(2, len(names), sharex="col")
        for column, name in enumerate(names):
            sweep = line["sweeps"][name]
            seconds, memory = axes[:, column]
            seconds.loglog(sweep["sizes"], at_one_speed(line, name), marker="o", color=COLORS[0])
            memory.semilogx(sweep["sizes"], sweep["mib"], marker="o", color=COLORS[1])
            memory.set_ylim(bottom=0.0)
            memory.set_xticks(sweep["sizes"], [f"{size:,}" for size in sweep["sizes"]], rotation=45, ha="right")
            memory.minorticks_off()
            seconds.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            seconds.yaxis.set_minor_formatter(NullFormatter())
            since = f" from {FITTED_FROM[name]:,}" if FITTED_FROM[name] > sweep["sizes"][0] else ""
            seconds.set_title(f"exponent {slope(line, name):.2f}{since}")
            memory.set_xlabel(name)
        axes[0][0].set_ylabel("seconds")
        axes[1][0].set_ylabel("MiB added")
        figure.savefig(FIGURE, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--draw", action="store_true", help="draw the newest line, and measure nothing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if not options.draw:
        torch.set_num_threads(options.threads)
        sweeps: dict[str, dict[str, list[Any]]] = {}
        for point in points():
            seconds, peak, mib = measure(point, options.threads)
            sweep = sweeps.setdefault(point.sweep, {"sizes": [], "seconds": [], "peak": [], "mib": []})
            for name, value in (("sizes", point.size), ("seconds", seconds), ("peak", peak), ("mib", mib)):
                sweep[name].append(value)
            print(
                f"{point.sweep} {point.size:,}: {seconds:.3f} s at a peak of {peak / 1e9:.0f} GFLOP/s, {mib:,.0f} MiB",
                flush=True,
            )
        line = {"machine": machine(), "torch": torch.__version__, "threads": options.threads, "sweeps": sweeps}
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
    line = json.loads(RESULTS.read_text().splitlines()[-1])
    for name in line["sweeps"]:
        print(f"{name}: exponent {slope(line, name):.3f}")
    draw(line)


if __name__ == "__main__":
    main()
