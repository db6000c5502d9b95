"""The paper's claims, held against the published number and against true masses of the same minima."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from basinvol.experiments.describe.description import Mass
from basinvol.experiments.describe.families import describe
from basinvol.experiments.records.reading import Run, basins
from basinvol.experiments.report.claims import Claim, judge
from basinvol.experiments.report.masses import by_mass, in_place_of_volumes
from basinvol.experiments.run.sweep import Sweep

from .lines import begin, record

RUNS = Path("runs") / "claims"
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Asked:
    """One experiment of the paper, in the size that two cores measure by chains, at the first of its cutoffs.

    Attributes:
        levels: numbers of examples taken from the pool, one training each.
        sigma: width of the Gaussian, in filter norms.
    """

    levels: tuple[int, ...]
    sigma: float


ASKED = {
    "mnist-data-scaling": Asked((0, 340), 0.05),
    "swiss-roll": Asked((0, 80, 380), 0.1),
    "mnist-poisoning": Asked((0, 100), 0.05),
    "modular-data-scaling": Asked((282, 1693), 0.015),
    "grokking": Asked((2634,), 0.01),
}


def claims() -> None:
    """Train, measure by rays and by chains, and hold every claim against both; a run that was cut off goes on."""
    begin("claims")
    for name, asked in ASKED.items():
        experiment = describe(name, "small").with_levels(asked.levels)
        experiment = replace(experiment, seeds=SEEDS, cutoffs=experiment.cutoffs[:1])
        sweep = Sweep(experiment, RUNS / name, mass=Mass("annealed", asked.sigma))
        sweep.run(jobs=os.cpu_count() or 1)
        for line in _lines(Run.read(RUNS / name)):
            record(part="claims", experiment=name, title=experiment.title, sigma=asked.sigma, **line)


def _lines(run: Run) -> list[dict[str, Any]]:
    """Return what a run says of each claim, by either number."""
    (measured,) = by_mass(run)
    assert run.masses is not None
    rows = in_place_of_volumes(run.volumes, run.masses)
    plain = {claim.text: claim for claim in judge(run.volumes, run.settings["claims"])}
    return [
        {
            "claim": claim.text,
            "plain": _votes(plain[claim.text]),
            "true": _votes(claim),
            "beyond_doubt": sum(found.holds is not None and not found.doubt for found in claim.evidence),
            "plain_nats": _range(plain[claim.text], run.volumes),
            "true_nats": _range(claim, rows),
            "masses": measured.verdicts,
        }
        for claim in measured.claims
    ]


def _votes(claim: Claim) -> dict[str, int]:
    """Return how many comparisons were made for a claim, and how many of them speak for it."""
    votes = [found.holds for found in claim.evidence if found.holds is not None]
    return {"for": sum(votes), "of": len(votes)}


def _range(claim: Claim, rows: Any) -> float | None:
    """Return the median over comparisons of the difference between the largest and the smallest number compared."""
    ranges = []
    for found in claim.evidence:
        values = basins(rows.loc[list(found.rows)])["log_mean_power"] if found.holds is not None else []
        if len(values) > 1:
            ranges.append(float(np.ptp(values)))
    return float(np.median(ranges)) if ranges and all(map(math.isfinite, ranges)) else None
