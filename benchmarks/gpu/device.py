"""The device that is measured, and how time passes on it; Triton's interpreter stands in for a rehearsal."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import basinvol as bv
from basinvol.backends import backends

# A rehearsal runs the same steps at small sizes on the CPU: what it measures is no speed of anything.
IS_REHEARSAL = os.environ.get("BASINVOL_GPU_REHEARSAL") == "1"
DEVICE = torch.device("cpu" if IS_REHEARSAL else "cuda")
SETTLING_CALLS = 2  # calls before the first that is timed: compilation, and the clock


def reason_for_none() -> str | None:
    """The reason why there is nothing to measure on, or None."""
    if IS_REHEARSAL or torch.cuda.is_available():
        return None
    return f"torch {torch.__version__} finds no CUDA device (it was built for CUDA {torch.version.cuda})"


def describe() -> dict[str, Any]:
    """The device and the versions of everything that computes."""
    import triton

    name = "Triton's interpreter, a rehearsal" if IS_REHEARSAL else torch.cuda.get_device_name()
    memory = 0 if IS_REHEARSAL else torch.cuda.get_device_properties(0).total_memory
    versions = {
        "basinvol": bv.__version__,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }
    engines = {name: backends()[name].unusable(DEVICE) or "usable" for name in ("triton", "cuda")}
    return {"device": name, "memory_bytes": memory, "versions": versions, "engines": engines}


def usable() -> list[str]:
    """The names of the device engines that run here."""
    return [name for name in ("triton", "cuda") if backends()[name].unusable(DEVICE) is None]


def seconds_of(run: Callable[[], object], rounds: int) -> dict[str, float]:
    """The median, least and largest time of some calls by CUDA events, after calls that are not timed."""
    for _ in range(SETTLING_CALLS if not IS_REHEARSAL else 0):
        run()
    times = [_once(run) for _ in range(rounds)]
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def _once(run: Callable[[], object]) -> float:
    if IS_REHEARSAL:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop)) / 1e3


def make_room() -> None:
    """Gives back what torch holds without using it, so that every engine plans with the same free memory."""
    if not IS_REHEARSAL:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
