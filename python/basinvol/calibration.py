"""Estimates of landscapes whose volume is known, as a table that shows how far a setting is from the truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .estimate import estimate_volume
from .ground_truth import Case, table
from .trust.diagnostics import Verdict
from .trust.volume_estimate import VolumeEstimate

# An error beyond both limits is a wrong number; one within both is a right one, which should be trusted.
_WRONG_NATS, _RIGHT_NATS, _ERRORS = 2.0, 0.5, 3.0
_ROUNDING_NATS = 1e-3  # of brackets, for bodies on which all rays are equally long
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

    @property
    def is_wrong(self) -> bool:
        """Whether the number is off by more than 2 nats and by more than three of its own errors."""
        return not abs(self.error) <= max(_WRONG_NATS, _ERRORS * self.estimate.standard_error)

    @property
    def is_right(self) -> bool:
        """Whether the number is within 0.5 nats and three of its own errors of the truth."""
        allowed = max(_ERRORS * self.estimate.standard_error, _ROUNDING_NATS)
        return abs(self.error) <= min(_RIGHT_NATS, allowed)

    @property
    def is_trusted(self) -> bool:
        """Whether the verdict is `trustworthy`."""
        return self.estimate.diagnostics.verdict is Verdict.TRUSTWORTHY


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


def calibration_summary(rows: Sequence[Calibration]) -> str:
    """Two sentences that say how many wrong numbers were trusted, and how many right ones were not."""
    trusted, right = [row for row in rows if row.is_trusted], [row for row in rows if row.is_right]
    wrong = sum(row.is_wrong for row in trusted)
    return (
        f"{len(rows)} cases, {len(trusted)} called trustworthy, of which {wrong} are off by more than {_WRONG_NATS:g} "
        f"nats and three errors.\n{len(right)} cases are within {_RIGHT_NATS:g} nats and three errors, of which "
        f"{sum(row.is_trusted for row in right)} are called trustworthy."
    )


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
