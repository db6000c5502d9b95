"""Errors over the error bars that were printed with them: over many seeds their mean should be 0 and their spread 1."""

from __future__ import annotations

import os
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from basinvol import ground_truth as gt
from basinvol.calibration import measured_cases

from .lines import begin, record

_SEEDS = range(100, 140)
_DIRECTIONS = 500
_VOLUMES = (
    gt.ellipsoid(10, 5.0, rotated=True, seed=3),
    gt.lp_ball(10, 1.5),
    gt.power_law(10, 10.0, 1.0),
    gt.lp_ball(6, 4.0),
    gt.ball(20),
    gt.power_law(20, 3.0, 0.3, rotated=True, seed=3),
)
_BALL_SLABS_HALF_SPACE = (
    gt.ball(12, sigmas=[0.5]),  # of which rays give the exact number
    gt.slabs(5, 0.2, count=2),
    gt.half_space(8, sigmas=[0.7]),
)


def _spectra(sigma: float) -> tuple[gt.Case, ...]:
    return (
        gt.power_law(10, 10.0, 1.0, sigmas=[sigma]),
        gt.power_law(30, 3.0, 0.3, sigmas=[sigma]),
        gt.power_law(20, 5.0, 0.5, rotated=True, sigmas=[sigma], seed=3),
    )


_MASSES = (*_BALL_SLABS_HALF_SPACE, *_spectra(1.0))
_MASSES_ABOVE_E9 = (*_BALL_SLABS_HALF_SPACE, *_spectra(0.25))
_VOLUMES_AND_MASSES = (*_VOLUMES[:3], *_MASSES[1:3], _MASSES[-1])
_BODIES = {
    "star": _VOLUMES_AND_MASSES,
    "preconditioned": _VOLUMES_AND_MASSES,
    "annealed": _VOLUMES_AND_MASSES,
    "hit-and-run": _VOLUMES,
    "splitting": _MASSES,
    "direct": _MASSES_ABOVE_E9,
}


def error_bars() -> None:
    """Measure six bodies by every method with 40 seeds, as many at once as there are cores."""
    begin("error-bars")
    for method, cases in _BODIES.items():
        asked = [(case, _settings(case, method, seed)) for case in cases for seed in _SEEDS]
        measured = measured_cases(asked, f"local:{os.cpu_count() or 1}")
        rows = [row for _, found in sorted(measured, key=lambda item: item[0]) for row in found]
        for name, of in groupby(rows, key=lambda row: row.score.case):
            found = [row.score for row in of]
            scores = [score.error / score.standard_error for score in found]
            record(
                part="error-bars",
                case=name,
                dim=found[0].dim,
                method=method,
                measure=found[0].measure,
                truth=found[0].truth,
                error_bar=fmean(score.standard_error for score in found),
                trusted=sum(score.is_trusted for score in found),
                mean=fmean(scores),
                deviation=stdev(scores),
                scores=[round(score, 3) for score in scores],
            )


def _settings(case: gt.Case, method: str, seed: int) -> dict[str, Any]:
    measure = {"measure": "gaussian"} if case.log_masses else {}
    return {"method": method, "num_directions": _DIRECTIONS, "seed": seed, **measure}
