"""Runs one step of a check on a machine with a CUDA device: `python -m benchmarks.gpu STEP --out FILE`."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from .device import describe, reason_for_none
from .lines import Lines

# The module of each step; its function of the same name does the work.
STEPS = ("smoke", "goals", "small", "bias", "profile", "modules", "tune", "table")
NO_DEVICE = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--out", type=Path, required=True, help="file to which JSON lines are added")
    parser.add_argument("--engine", choices=("triton", "cuda"), help="for small: only this engine")
    parser.add_argument("--seconds", type=float, default=240.0, help="for tune and table: when to begin nothing new")
    options = parser.parse_args()
    lines = Lines(options.out, options.step)
    reason = reason_for_none()
    if reason is not None:
        lines.add("device", False, reason=reason)
        return NO_DEVICE
    lines.add("device", **describe())
    work = getattr(import_module(f".{options.step}", __package__), options.step)
    if options.step == "small":
        work(lines, options.engine)
    elif options.step in ("tune", "table"):
        work(lines, time.monotonic() + options.seconds)
    else:
        work(lines)
    return 1 if lines.num_failures else 0


if __name__ == "__main__":
    sys.exit(main())
