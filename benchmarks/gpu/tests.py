"""Runs the tests of the kernels on the device, one process for each file, and says why what failed, failed.

`python -m benchmarks.gpu.tests --out FILE --seconds 150`. Files that have not ended then are interrupted, so that they
still say what failed until there; a process of its own for each file also contains an error that stays with a device.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .device import reason_for_none
from .lines import Lines

ROOT = Path(__file__).resolve().parents[2]
# What each file needs, by what its tests run on: those of Triton run on the device where there is one.
FILES = {
    "test_triton_normals.py": [],
    "test_triton_operations.py": [],
    "test_triton_halves.py": [],
    "test_triton_search.py": [],
    "test_triton_engine.py": [],
    "test_triton_fused.py": [],
    "test_triton_strided.py": [],
    "test_triton_programs.py": [],
    "test_cuda_backend.py": ["-m", "gpu"],
    "test_torch_on_device.py": [],
    "test_unit_vector.py": [],
}
_GRACE_S = 15.0  # after an interrupt, to print the summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.tests", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to which JSON lines are added")
    parser.add_argument("--log", type=Path, required=True, help="file to which pytest's output is added")
    parser.add_argument("--seconds", type=float, default=150.0, help="limit for each file")
    options = parser.parse_args()
    lines = Lines(options.out, "tests")
    reason = reason_for_none()
    if reason is not None:
        lines.add("device", False, reason=reason)
        return 2
    with ThreadPoolExecutor(min(len(FILES), os.cpu_count() or 1)) as pool:
        for name, seconds, output in pool.map(lambda name: _run(name, options.seconds), FILES):
            with options.log.open("a") as log:
                log.write(f"== {name}\n{output}\n")
            counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|error|skipped)", output[-3000:])}
            reasons = re.findall(r"^(?:FAILED|ERROR) .*", output, flags=re.MULTILINE)
            # A file whose tests were all skipped has tested nothing.
            passes = counts.get("passed", 0) > 0 and not reasons and "Interrupted" not in output
            lines.add(name, passes, seconds=round(seconds, 1), **counts, reasons=reasons[:20], tail=output[-400:])
    return 1 if lines.num_failures else 0


def _run(name: str, limit: float) -> tuple[str, float, str]:
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-W", "default", "-p", "no:cacheprovider"]
    command += [*FILES[name], str(ROOT / "tests" / "kernels" / name)]
    started = time.monotonic()
    environment = {**os.environ, "COLUMNS": "300"}  # wide enough for the reasons in pytest's summary
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        output += f"\nInterrupted after {limit:.0f} s.\n"
    return name, time.monotonic() - started, output


if __name__ == "__main__":
    sys.exit(main())
