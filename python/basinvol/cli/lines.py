"""Numbers of `calibrate` in a file, one line each, so that a long run can be stopped and goes on where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import progress_bar

if TYPE_CHECKING:
    from ..calibration import Score
    from ..ground_truth import Case


def measured_lines(
    path: Path,
    cases: Sequence[Case],
    settings: Sequence[tuple[str, int]],
    chosen: dict[str, Any],
    executor: str | None = None,
) -> list[Score]:
    """Measures what the file lacks, adds it line by line, and returns everything that the file holds.

    Args:
        path: the file; it is made if there is none.
        cases: landscapes whose volume is known.
        settings: methods and seeds.
        chosen: further arguments of `estimate_volume`; lines of a file are taken to share them.
        executor: where cases are measured, see `basinvol.calibrate`; default this process.

    Raises:
        ValueError: a line of the file is not one of `calibrate`, or the file's folder does not exist.
    """
    from ..calibration import measured_cases

    if not path.parent.is_dir():
        raise ValueError(f"`--out` is {path}, in a folder that does not exist; make {path.parent} first.")
    scores = _read(path)
    known = {(score.case.split(", sigma ")[0], score.method, score.measure, score.seed) for score in scores}
    missing = [
        (case, {**chosen, "method": method, "seed": seed})
        for method, seed in settings
        for case in cases
        if _has_truth(case, method, chosen["measure"])
        and (case.name, method, "gaussian" if method == "gaussian" else chosen["measure"], seed) not in known
    ]
    with path.open("a") as file, progress_bar(True, len(missing), "calibrate", "number") as bar:
        for _, rows in measured_cases(missing, executor):
            found = [row.score for row in rows]
            # All lines of a case at once: a case is whole in the file, or not there.
            file.write("".join(json.dumps(dataclasses.asdict(score)) + "\n" for score in found))
            file.flush()
            scores += found
            bar.update()
    return scores


def _has_truth(case: Case, method: str, measure: str) -> bool:
    return bool(case.log_masses) if "gaussian" in (method, measure) else True


def _read(path: Path) -> list[Score]:
    from ..calibration import Score

    scores = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
        try:
            scores.append(Score(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {number} of {path} is not one that calibrate wrote: {error}.") from error
    return scores
