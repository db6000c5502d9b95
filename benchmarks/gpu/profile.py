"""Where the time of a search goes: its heaviest kernels, by torch's profiler."""

from __future__ import annotations

from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from .device import IS_REHEARSAL, usable
from .goals import CASES
from .lines import Lines
from .search import solver_of

_HEAVIEST = 4


def profile(lines: Lines) -> None:
    """A line for each of the heaviest kernels of every engine on the largest goal case."""
    made = []
    with lines.measuring("data and training"):
        made.append(CASES["mnist-60000"]())
    activity = ProfilerActivity.CPU if IS_REHEARSAL else ProfilerActivity.CUDA
    for case in made:
        for backend in usable():
            with lines.measuring(f"{backend}, mnist-60000") as found:
                solver_of(case, backend, None, "all").solve_all()  # compiled before it is profiled
                with torch_profile(activities=[activity]) as run:
                    solver_of(case, backend, None, "all").solve_all()
                attribute = "self_cpu_time_total" if IS_REHEARSAL else "self_device_time_total"
                events = sorted(run.key_averages(), key=lambda event: -getattr(event, attribute))[:_HEAVIEST]
                found["kernels"] = [
                    {"name": event.key, "calls": event.count, "seconds": getattr(event, attribute) / 1e6}
                    for event in events
                ]
