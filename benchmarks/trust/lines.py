"""The lines of benchmarks/results/trust.jsonl; a part that is measured again replaces all of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import basinvol as bv

RESULTS = Path(__file__).resolve().parents[1] / "results" / "trust.jsonl"


def begin(part: str) -> None:
    """Drop the lines of a part, so that none of an older measurement is left among the new ones."""
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in _every() if line["part"] != part))


def record(**line: Any) -> None:
    """Add one line, and print it."""
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def lines_of(part: str) -> list[dict[str, Any]]:
    """Return the lines of a part, in the order in which they were measured."""
    return [line for line in _every() if line["part"] == part]


def row(est: bv.VolumeEstimate) -> dict[str, Any]:
    """Return what a line keeps of an estimate."""
    found = est.diagnostics
    return {
        "estimate": est.log_volume,
        "error_bar": est.standard_error if math.isfinite(est.standard_error) else None,
        "verdict": str(found.verdict),
        "reason": found.reason,
        "ess": found.ess,
        "evaluations": est.num_evaluations,
        "seconds": round(est.seconds, 1),
        "details": {k: v for k, v in est.details.items() if isinstance(v, (int, float, str, bool))},
    }


def _every() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
