"""Estimates of landscapes whose volume is known, as a table that shows how far a setting is from the truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .estimate import estimate_volume
from .ground_truth import Case, table
from .trust.volume_estimate import VolumeEstimate

_LEFT = (0, 4)  # columns of words


@dataclass(frozen=True)
class Calibration:
    """One case measured with one setting.

    Attributes:
        case: the basin whose measure is known.
        truth: the true log of the measure, infinite where the basin is. nats
        estimate: the estimate, with its verdict.
    """

    case: Case
    truth: float
    estimate: VolumeEstimate

    @property
    def error(self) -> float:
        """The estimate minus the truth, in nats; minus infinity where the truth is infinite."""
        return self.estimate.log_volume - self.truth


def calibrate(cases: Iterable[Case] | None = None, **settings: Any) -> list[Calibration]:
    """Measures every case with the same settings, those of `basinvol.estimate_volume`.

    With measure="gaussian" the cases whose mass is known are measured at the sigma at which it is known, or at `sigma`
    where it is given and known.

    Args:
        cases: the cases to measure; default `ground_truth.table()`.
        settings: arguments of `basinvol.estimate_volume`, by name.

    Raises:
        ValueError: a setting is bad, or no case has a known truth in this measure.
    """
    settings = {"scaling": "none", "on_censored": "bound", **settings}
    is_gaussian = "gaussian" in (settings.get("measure"), settings.get("method"))
    rows = []
    for case in table() if cases is None else cases:
        wanted = settings.get("sigma")
        truths: list[tuple[float | None, float]] = [(None, case.log_volume)]
        if is_gaussian:
            truths = [(sigma, mass) for sigma, mass in case.log_masses.items() if wanted in (None, sigma)]
        for sigma, truth in truths:
            chosen = settings if sigma is None else {**settings, "measure": "gaussian", "sigma": sigma}
            rows.append(Calibration(case, truth, estimate_volume(*case.task(), cutoff=case.cutoff, **chosen)))
    if not rows:
        raise ValueError("no case has a known truth in this measure; use measure='lebesgue', or leave `sigma` out.")
    return rows


def calibration_table(rows: Sequence[Calibration]) -> str:
    """A table in text with case, truth, estimate, error, verdict, effective sample size and evaluations."""
    lines = [("case", "truth", "estimate", "error", "verdict", "ess", "evaluations")]
    for row in rows:
        found = row.estimate
        sigma = "" if found.measure.sigma is None else f", sigma {found.measure.sigma:g}"
        lines.append(
            (
                row.case.name + sigma,
                f"{row.truth:,.2f}",
                f"{found.log_volume:,.2f}",
                f"{row.error:+,.2f}" if math.isfinite(row.error) else "infinite",
                str(found.diagnostics.verdict),
                f"{found.diagnostics.ess:.1f}",
                f"{found.num_evaluations:,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def aligned(line: tuple[str, ...]) -> str:
        cells = zip(line, widths, strict=True)
        return "  ".join(c.ljust(w) if i in _LEFT else c.rjust(w) for i, (c, w) in enumerate(cells))

    return "\n".join(aligned(line) for line in lines)
