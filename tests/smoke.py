"""What an installed package must be able to do anywhere, after a wheel or a source distribution is built."""

from __future__ import annotations

import math
import subprocess
import sys

import torch  # before the extension: with its OpenMP runtime in the process, a second one would be refused

import basinvol as bv


def main() -> None:
    """Measures a ball on the compiled engine and in torch, and asks the command line what it can do here."""
    case = bv.ground_truth.ball(10, radius=2.0)
    found = bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=50, scaling="none")
    if not math.isclose(found.log_volume, case.log_volume, abs_tol=1e-3):
        raise SystemExit(f"a ball of log volume {case.log_volume} was measured as {found.log_volume}.")

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    data = torch.randn(30, 4), torch.arange(30) % 3
    found = bv.estimate_volume(
        model, torch.nn.functional.cross_entropy, data, cutoff=9.0, num_directions=50, backend="native", num_threads=2
    )
    if found.backend != "native" or not math.isfinite(found.log_volume):
        raise SystemExit(f"a perceptron was measured on {found.backend} as {found.log_volume}.")
    subprocess.run([sys.executable, "-m", "basinvol", "info"], check=True)


if __name__ == "__main__":
    main()
