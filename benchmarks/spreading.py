"""How well blocks of directions spread over many workers, simulated and checked here: `python -m benchmarks.spreading`.

The simulation knows what one worker takes to load a network, how long single directions take, how long the driver is
busy with a call, and how many bytes go where. These are measured with one process of this machine; then the times of
two and of four processes are predicted, and measured for comparison. The same is done with directions that only wait,
so that four processes do not share two cores. A line is added to benchmarks/results/spreading.jsonl, and printed with
the efficiencies that the simulation expects of clusters.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import pickle
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import basinvol as bv
from basinvol.executors import Placed, spread
from basinvol.executors.local import LocalExecutor
from basinvol.executors.payload import Reply, packed
from basinvol.experiments.records.run_directory import machine
from basinvol.rays.blocks import Block, Ready

from .cases import Case, mnist_5000

RESULTS = Path(__file__).parent / "results" / "spreading.jsonl"
WORKERS = (8, 64, 1024)
CHECKED = (2, 4)
REPEATS = 3
WAIT_SECONDS, WAIT_COUNT, WAIT_LOAD = 0.05, 400, 0.5  # of a direction that waits, their number, and of an engine
NUM_TIMED = 32  # directions whose time is that of the pilot, in proportion
NUM_TRIVIAL = 500  # calls without work, which show what the driver spends on each

# Of clusters; what is measured here is a pipe between processes.
BANDWIDTH = 1.25e9  # bytes a second between two machines: 10 Gbit/s
CALL_SECONDS = 1e-3  # of the driver, for each call through Ray: a thousand calls a second
WORKERS_PER_MACHINE = 8


@dataclass(frozen=True)
class Workload:
    """What is spread.

    Attributes:
        name: of the workload.
        count: number of directions.
        ray_seconds: what one direction takes, measured; later ones take these in turn.
        pilot_seconds: the first directions and the last refinement, which the driver does alone.
        load_seconds: what a worker takes to make its engine, once.
        shared_bytes: model and data, which every machine needs once.
        ray_bytes: what comes back of each direction.
    """

    name: str
    count: int
    ray_seconds: tuple[float, ...]
    pilot_seconds: float
    load_seconds: float
    shared_bytes: int
    ray_bytes: int

    @property
    def work(self) -> float:
        """Seconds of all directions on one worker."""
        whole, rest = divmod(self.count, len(self.ray_seconds))
        return whole * sum(self.ray_seconds) + sum(self.ray_seconds[:rest])


@dataclass(frozen=True)
class Machines:
    """Where it is spread.

    Attributes:
        workers: number of workers.
        per_machine: workers that share a copy of model and data.
        cores: of all machines together; more workers than cores slow one another.
        call_seconds: of the driver, for each call.
        bandwidth: bytes a second between two machines.
        start_seconds: until a worker that is started takes its first call.
    """

    workers: int
    per_machine: int
    cores: int
    call_seconds: float
    bandwidth: float
    start_seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What the simulation expects.

    Attributes:
        seconds: from the first direction of the pilot to the last refinement.
        efficiency: the work of one worker over the time of all.
        bytes_moved: over the network.
        blocks: number of calls.
    """

    seconds: float
    efficiency: float
    bytes_moved: int
    blocks: int


def simulate(workload: Workload, machines: Machines) -> Outcome:
    """Goes from event to event: the driver is busy with a call, or a worker ends a block.

    Workers that compute share the cores equally. `clock` is how far a worker with a core of its own would have come.
    """
    blocks = _blocks(workload, machines.workers)
    arrivals = _arrivals(workload.shared_bytes, machines)
    waiting: deque[float] = deque()  # seconds of blocks that were submitted
    idle = list(range(machines.workers))
    loaded = [False] * machines.workers
    running: list[tuple[float, int]] = []  # clock at the end, worker
    now = driver_free = workload.pilot_seconds
    clock, next_block, in_flight, done = 0.0, 0, 0, 0
    most = 4 * machines.workers
    begins: list[tuple[float, int, float]] = []  # when workers have what they need: time, worker, work
    while done < len(blocks):
        # The driver submits as long as there is room; each call keeps it busy.
        submits_at = driver_free if next_block < len(blocks) and in_flight < most else float("inf")
        rate = min(1.0, machines.cores / len(running)) if running else 1.0
        ends_at = now + (running[0][0] - clock) / rate if running else float("inf")
        begins_at = begins[0][0] if begins else float("inf")
        event = max(now, min(submits_at, ends_at, begins_at))
        clock += (event - now) * rate if running else 0.0
        now = event
        if event >= begins_at and begins_at <= min(ends_at, submits_at):
            _, worker, seconds = heapq.heappop(begins)
            heapq.heappush(running, (clock + seconds, worker))
        elif ends_at <= submits_at:
            _, worker = heapq.heappop(running)
            done, in_flight = done + 1, in_flight - 1
            driver_free = max(driver_free, now) + machines.call_seconds
            idle.append(worker)
        else:
            waiting.append(blocks[next_block])
            next_block, in_flight = next_block + 1, in_flight + 1
            driver_free = max(driver_free, now) + machines.call_seconds
        while idle and waiting:
            worker, seconds = idle.pop(), waiting.popleft()
            start = now
            if not loaded[worker]:
                loaded[worker] = True
                start = max(now, workload.pilot_seconds + arrivals[worker // machines.per_machine])
                start += machines.start_seconds
                seconds += workload.load_seconds
            heapq.heappush(begins, (start, worker, seconds))
    elapsed = max(now, driver_free)
    copies = min(len(arrivals), -(-len(blocks) // machines.per_machine))
    moved = workload.shared_bytes * copies + workload.ray_bytes * workload.count
    return Outcome(elapsed, workload.work / (machines.workers * elapsed), moved, len(blocks))


def _blocks(workload: Workload, workers: int) -> list[float]:
    """Seconds of every block, cut as `basinvol.rays.blocks` cuts them."""
    size = -(-workload.count // (8 * workers))
    rays = workload.ray_seconds
    seconds = [rays[i % len(rays)] for i in range(workload.count)]
    return [sum(seconds[first : first + size]) for first in range(0, workload.count, size)]


def _arrivals(shared_bytes: int, machines: Machines) -> list[float]:
    """When each machine has model and data: whoever has them passes them on, so that copies double."""
    count = -(-machines.workers // machines.per_machine)
    return [shared_bytes / machines.bandwidth * (k + 1).bit_length() for k in range(count)]


class Watched(LocalExecutor):
    """Local processes that note how long each call took on its worker."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.seconds: list[float] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._note)
        return future

    def _note(self, future: Future[Reply]) -> None:
        self.seconds.append(future.result().seconds)


def nothing(shared: None, item: int) -> None:
    """A call without work."""


def load_only(ready: Ready, item: int) -> str:
    """What a worker does once."""
    return ready.engine.description


class Waiter:
    """A network whose engine takes a time to make, and whose directions take a time, and no core."""

    def __init__(self) -> None:
        self._is_loaded = False

    def load(self) -> None:
        """Waits, once on each worker."""
        if not self._is_loaded:
            time.sleep(WAIT_LOAD)
        self._is_loaded = True


def wait(waiter: Waiter, seconds: float) -> bytes:
    """A block of directions that only wait."""
    waiter.load()
    time.sleep(seconds)
    return bytes(1000)


def one_by_one(ready: Ready, block: Block) -> list[float]:
    """Seconds of each direction of a block."""
    found, engine = [], ready.engine
    assert block.guess is not None
    for index in block.indices:
        started = time.perf_counter()
        engine.solve([index], block.guess, None)
        found.append(time.perf_counter() - started)
    return found


def measured(case: Case, count: int, workers: int) -> tuple[float, bv.Radii]:
    """Seconds of `find_radii` on processes that are up, without what starting them takes, and the radii."""
    landscape, directions = _problem(case, count)
    with LocalExecutor(workers) as executor:
        # All processes are up, with torch, when each has waited for the others.
        list(spread(wait, Waiter(), [1.0] * workers, executor))
        started = time.perf_counter()
        radii = bv.find_radii(landscape, directions, case.cutoffs, executor=executor)
        return time.perf_counter() - started, radii


def _problem(case: Case, count: int) -> tuple[bv.Landscape, bv.Directions]:
    landscape = bv.Landscape(case.model, case.loss_fn, (case.inputs, case.targets))
    return landscape, bv.Directions(bv.ParameterSpace.of(case.model), count)


def measure_workload(case: Case, count: int) -> tuple[Workload, float]:
    """The workload as one process of this machine shows it, and what the driver spends on a call."""
    landscape, directions = _problem(case, count)
    started = time.perf_counter()
    solver = bv.RaySolver(landscape, directions, case.cutoffs, num_threads=1)
    here = time.perf_counter() - started
    started = time.perf_counter()
    radii = solver.solve(0, NUM_TIMED)
    pilot = (time.perf_counter() - started) * 4 / NUM_TIMED
    ready = Ready(solver.problem, solver.choice.backend, bv.rays.SearchOptions(num_threads=1).resources())
    guess = solver.pilot.guess
    with Watched(1) as executor:
        list(spread(nothing, None, range(8), executor))
        started = time.perf_counter()
        list(spread(nothing, None, range(NUM_TRIVIAL), executor))
        call = (time.perf_counter() - started) / NUM_TRIVIAL
        executor.seconds.clear()
        placed = Placed(ready, executor, "the problem")
        list(spread(load_only, placed, range(1), executor))
        load = executor.seconds[0]
        parts = list(spread(one_by_one, placed, [Block(range(4, count), guess)], executor))
    rays = tuple(parts[0][1])
    return (
        Workload(
            name="MNIST perceptron, 5,000 digits",
            count=count - 4,
            ray_seconds=rays,
            pilot_seconds=here + pilot,
            load_seconds=load,
            shared_bytes=len(packed(ready, "the problem")),
            ray_bytes=len(pickle.dumps(radii)) // len(radii),
        ),
        call,
    )


def check_waiting(call: float) -> list[dict[str, Any]]:
    """Predicts and measures one, two and four processes whose directions only wait."""
    rays = tuple(0.5 * WAIT_SECONDS * (1 + i % 3) for i in range(WAIT_COUNT))
    workload = Workload("waiting", WAIT_COUNT, rays, 0.0, WAIT_LOAD, 1000, 1000)
    rows = []
    for workers in (1, *CHECKED):
        with LocalExecutor(workers) as executor:
            # All processes are up when each has waited for the others.
            list(spread(wait, Waiter(), [1.0] * workers, executor))
            started = time.perf_counter()
            list(spread(wait, Waiter(), _blocks(workload, workers), executor))
            seconds = time.perf_counter() - started
        here = Machines(workers, per_machine=1, cores=workers, call_seconds=call, bandwidth=float("inf"))
        rows.append({"workers": workers, "predicted": simulate(workload, here).seconds, "measured": seconds})
    return rows


def check(count: int) -> dict[str, Any]:
    """Predicts two and four processes from one, and measures them."""
    case = mnist_5000()
    workload, call = measure_workload(case, count)
    cores = os.cpu_count() or 1
    rows, reference = [], None
    for workers in (1, *CHECKED):
        times = []
        for _ in range(REPEATS):
            seconds, radii = measured(case, count, workers)
            times.append(seconds)
            if reference is None:
                reference = radii
            if not torch.equal(radii.lower, reference.lower):
                raise SystemExit(f"{workers} workers give other radii than one")
        # A pipe to each process, which loads its own copy; the file that they share is in memory.
        here = Machines(workers, per_machine=1, cores=cores, call_seconds=call, bandwidth=float("inf"))
        predicted = simulate(workload, here)
        rows.append(
            {
                "workers": workers,
                "predicted": predicted.seconds,
                "measured": statistics.median(times),
                "measured_all": times,
            }
        )
    return {
        "workload": asdict(workload),
        "call_seconds": call,
        "cores": cores,
        "load": os.getloadavg()[0],
        "check": rows,
        "waiting": check_waiting(call),
    }


def scenarios(measured_here: Workload) -> list[Workload]:
    """What clusters are asked about: the workload that was measured, more of it, and larger networks."""
    rays = measured_here.ray_seconds
    scale = 10.25 / statistics.mean(rays)  # seconds a direction of a ResNet-18 on 256 images, benchmarks/results
    resnet = replace(
        measured_here,
        name="ResNet-18, 256 images, 500 directions on CPUs",
        count=500,
        ray_seconds=tuple(scale * seconds for seconds in rays),
        pilot_seconds=10.25 * 4,
        load_seconds=10.0,
        shared_bytes=45_000_000 + 256 * 3 * 32 * 32 * 4,
    )
    return [
        replace(measured_here, name=f"{measured_here.name}, 500 directions", count=500),
        replace(measured_here, name=f"{measured_here.name}, 100,000 directions", count=100_000),
        resnet,
        replace(resnet, name="ResNet-18, 256 images, 10,000 directions on CPUs", count=10_000),
        Workload(
            name="a study: 180 trainings of 10 minutes, each with 500 directions",
            count=180,
            ray_seconds=tuple(600.0 * (0.5 + k / 179) for k in range(180))[::-1],  # by their sizes, longest first
            pilot_seconds=5.0,
            load_seconds=5.0,
            shared_bytes=10_000,
            ray_bytes=100,
        ),
    ]


def table(result: dict[str, Any]) -> str:
    """The check and the expected efficiencies as text in Markdown."""
    lines = ["| workers here | directions that wait: predicted | measured | that compute: predicted | measured |"]
    lines.append("|---|---|---|---|---|")
    for waits, computes in zip(result["waiting"], result["check"], strict=True):
        cells = [f"{row[name]:.2f} s" for row in (waits, computes) for name in ("predicted", "measured")]
        lines.append(f"| {waits['workers']} | {' | '.join(cells)} |")
    heads = " | ".join(f"{count:,} workers" for count in WORKERS)
    lines += ["", f"| workload | {heads} | bytes moved |", "|---" * (len(WORKERS) + 2) + "|"]
    for row in result["expected"]:
        cells = " | ".join(f"{cell['efficiency']:.0%}, {cell['seconds']:,.1f} s" for cell in row["cells"])
        moved = f"{row['cells'][0]['bytes_moved'] / 1e6:,.0f} to {row['cells'][-1]['bytes_moved'] / 1e6:,.0f} MB"
        lines.append(f"| {row['name']} | {cells} | {moved} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, checks, simulates and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directions", type=int, default=500, help="directions of the check (500)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = check(options.directions)
    workload = Workload(**{**result["workload"], "ray_seconds": tuple(result["workload"]["ray_seconds"])})
    clusters = [Machines(count, WORKERS_PER_MACHINE, count, CALL_SECONDS, BANDWIDTH) for count in WORKERS]
    result["expected"] = [
        {"name": scenario.name, "cells": [asdict(simulate(scenario, cluster)) for cluster in clusters]}
        for scenario in scenarios(workload)
    ]
    line = {"machine": machine(), "torch": torch.__version__, **result}
    line["workload"] = {**result["workload"], "ray_seconds": [round(s, 6) for s in workload.ray_seconds]}
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
