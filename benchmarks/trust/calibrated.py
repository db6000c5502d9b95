"""The tables of `basinvol calibrate` in docs/trust.md, from the lines that it wrote with `--out`."""

from __future__ import annotations

import json
from pathlib import Path

from basinvol.calibration import Score, calibration_by_method

from ..table import put_into

LINES = Path(__file__).resolve().parents[1] / "results" / "calibration.jsonl"


def put_calibration(page: Path) -> None:
    """Write what the command prints of these lines into the page: the counts, and the misses."""
    printed = calibration_by_method(Score(**json.loads(line)) for line in LINES.read_text().splitlines())
    counts, summary, *misses = printed.split("\n\n")
    for mark, parts in (("calibration", (counts, summary)), ("calibration misses", misses)):
        put_into(page, mark, "```\n" + "\n\n".join(parts) + "\n```")
