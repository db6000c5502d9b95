"""Bodies of known volume, by the plain method and by better ones."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

import basinvol as bv
from basinvol import ground_truth as gt

from .lines import begin, record, row

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"method": "star", "num_directions": 1000}

BODIES: list[tuple[gt.Case, dict[str, Any]]] = [
    (gt.ellipsoid(1000, 1000.0), {"method": "preconditioned", "num_directions": 1000}),
    (gt.ellipsoid(100, 100.0, rotated=True), {"method": "preconditioned", "method_options": {"fit": "secant"}}),
    (gt.ellipsoid(1000, 1000.0), {"method": "annealed"}),
    (gt.ellipsoid(100, 100.0, rotated=True), {"method": "annealed"}),
    (gt.mixed([4.0] * 200, np.logspace(0, 1, 200).tolist()), {"method": "annealed"}),
    (gt.mixed([1.0, 2.0, 3.0, 6.0] * 50, np.logspace(-0.5, 0.5, 200).tolist()), {"method": "annealed"}),
    (gt.lp_ball(200, 1.0), {"method": "annealed"}),
    (gt.needle(10, 1e4, 0.5), {"method": "annealed"}),
    (gt.ellipsoid(20, 100.0, rotated=True), {"method": "hit-and-run", "num_directions": 100}),
]


def bodies() -> None:
    """Measure bodies of known volume with better methods, and with the plain one, at seeds 0 to 2."""
    begin("bodies")
    for case, options in [*BODIES, *((case, PLAIN) for case in {case.name: case for case, _ in BODIES}.values())]:
        for seed in range(3):
            est = bv.estimate_volume(
                *case.task(),
                cutoff=case.cutoff,
                scaling="none",
                on_censored="bound",
                seed=seed,
                **{"num_directions": 500, **options},
            )
            record(part="bodies", case=case.name, seed=seed, method=est.method, truth=case.log_volume, **row(est))


def from_tests(module: str) -> Any:
    """Import a module of tests/ground_truth, whose bodies and tasks are measured here too."""
    sys.path.insert(0, str(ROOT / "tests" / "ground_truth"))
    return importlib.import_module(module)


def verdicts() -> None:
    """Measure bodies of all kinds with the plain method, for the figure that sets verdicts against errors."""
    begin("verdicts")
    kinds = from_tests("test_verdicts").bodies
    for seed in range(8):
        for line in bv.calibrate(kinds(seed), num_directions=200, seed=seed):
            truth = line.truth if math.isfinite(line.truth) else None
            record(part="verdicts", case=line.case.name, seed=seed, truth=truth, **row(line.estimate))
