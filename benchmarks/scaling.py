"""Prints how time grows with directions and examples, and how much memory is used: `python -m benchmarks.scaling`."""

from __future__ import annotations

import dataclasses
import math
import resource
import time

import torch

import basinvol as bv

from .__main__ import solver_of
from .cases import Case, mnist_60000


def main() -> None:
    case = mnist_60000()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    by_examples = {n: seconds(prefix(case, n), 64) for n in (600, 6000, 60000)}
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    by_directions = {d: seconds(prefix(case, 6000), d) for d in (20, 200, 2000)}
    for name, times in (("examples", by_examples), ("directions", by_directions)):
        print(f"{name}: " + ", ".join(f"{count:,}: {time_:.3f} s" for count, time_ in times.items()))
        print(f"  exponent over two decades {exponent(times):.3f}")
    data = case.inputs.nbytes / 2**20
    print(
        f"peak memory at 60,000 rows: {after:,.0f} MiB, {after - before:,.0f} MiB above what was there before measuring"
    )
    print(f"  (that included {data:,.0f} MiB of inputs, torch and the training of the network)")


def prefix(case: Case, count: int) -> Case:
    """Return the same case on its first `count` examples only."""
    return dataclasses.replace(case, levels=(count,))


def seconds(case: Case, count: int) -> float:
    """Return the seconds of the best of three searches of `count` directions, without the preparation they share."""
    directions = bv.Directions(bv.ParameterSpace.of(case.model), count)
    times = []
    for _ in range(3):
        solver = solver_of(case, directions, torch.get_num_threads(), "all")
        started = time.perf_counter()
        solver.solve_all()
        times.append(time.perf_counter() - started)
    return min(times)


def exponent(times: dict[int, float]) -> float:
    """Return d ln time / d ln count between the smallest and the largest count."""
    (low, first), (high, last) = min(times.items()), max(times.items())
    return math.log(last / first) / math.log(high / low)


if __name__ == "__main__":
    main()
