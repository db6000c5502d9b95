"""Estimates of landscapes whose volume is known, as tables that show how far settings are from the truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from .estimate import estimate_volume
from .executors import opened, spread
from .ground_truth import Case, table
from .progress import progress_bar
from .trust.diagnostics import Verdict
from .trust.volume_estimate import VolumeEstimate

# An error beyond both limits is a wrong number; one within both is a right one, which should be trusted.
_WRONG_NATS, _RIGHT_NATS, _ERRORS = 2.0, 0.5, 3.0
_ROUNDING_NATS = 1e-3  # of brackets, for bodies on which all rays are equally long


@dataclass(frozen=True)
class Score:
    """How far one number is from the truth, and whether it was trusted: what tables of many numbers need.

    Attributes:
        case: name of the body, with sigma where the measure is a Gaussian.
        dim: P.
        method, measure: how and what was measured.
        seed: seed of the directions.
        truth: the true log of the measure, infinite where the basin is. nats
        log_volume, standard_error: the number and its error bar. nats
        verdict, reason: the verdict and its reason.
        evaluations: loss evaluations.
    """

    case: str
    dim: int
    method: str
    measure: str
    seed: int
    truth: float
    log_volume: float
    standard_error: float
    verdict: str
    reason: str
    evaluations: int

    @property
    def error(self) -> float:
        """The estimate minus the truth, in nats; minus infinity where the truth is infinite."""
        return self.log_volume - self.truth

    @property
    def is_wrong(self) -> bool:
        """Whether the number is off by more than 2 nats and by more than three of its own errors."""
        return not abs(self.error) <= max(_WRONG_NATS, _ERRORS * self.standard_error)

    @property
    def is_right(self) -> bool:
        """Whether the number is within 0.5 nats and three of its own errors of the truth."""
        allowed = max(_ERRORS * self.standard_error, _ROUNDING_NATS)
        return abs(self.error) <= min(_RIGHT_NATS, allowed)

    @property
    def is_trusted(self) -> bool:
        """Whether the verdict is `trustworthy`."""
        return self.verdict == Verdict.TRUSTWORTHY.value


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
    def score(self) -> Score:
        """How far the number is from the truth."""
        found, sigma = self.estimate, self.estimate.measure.sigma
        return Score(
            case=self.case.name + ("" if sigma is None else f", sigma {sigma:g}"),
            dim=self.case.dim,
            method=found.method,
            measure=found.measure.name,
            seed=found.seed,
            truth=self.truth,
            log_volume=found.log_volume,
            standard_error=found.standard_error,
            verdict=str(found.diagnostics.verdict),
            reason=found.diagnostics.reason,
            evaluations=found.num_evaluations,
        )

    @property
    def error(self) -> float:
        """The estimate minus the truth, in nats; minus infinity where the truth is infinite."""
        return self.score.error


def calibrate(
    cases: Iterable[Case] | None = None,
    progress: bool = False,
    purpose: str = "cases",
    *,
    executor: Executor | str | None = None,
    **settings: Any,
) -> list[Calibration]:
    """Measures every case with the same settings, those of `basinvol.estimate_volume`.

    With measure="gaussian" the cases whose mass is known are measured at the sigma at which it is known, or at `sigma`
    where it is given and known.

    >>> import basinvol as bv
    >>> rows = bv.calibrate([bv.ground_truth.ball(6)], num_directions=50, probe=False)
    >>> abs(rows[0].error) < 1e-3
    True

    Args:
        cases: the cases to measure; default `ground_truth.table()`.
        progress: whether to show a bar over the cases, on a terminal or in a notebook.
        purpose: name of the bar.
        executor: where cases are measured, each as one call, see `basinvol.find_radii`; default this process.
        settings: arguments of `basinvol.estimate_volume`, by name.

    Raises:
        ValueError: a setting is bad, or no case has a known truth in this measure.
    """
    asked = [(case, settings) for case in (table() if cases is None else cases)]
    if not any(_truths(*item) for item in asked):
        raise ValueError("no case has a known truth in this measure; use measure='lebesgue', or leave `sigma` out.")
    found: dict[int, list[Calibration]] = {}
    with progress_bar(progress, len(asked), purpose, "case") as bar:
        for number, rows in measured_cases(asked, executor):
            found[number] = rows
            bar.update()
    return [row for number in range(len(asked)) for row in found[number]]


def measured_cases(
    asked: Sequence[tuple[Case, Mapping[str, Any]]], executor: Executor | str | None = None
) -> Iterator[tuple[int, list[Calibration]]]:
    """Measures cases with settings of their own, and yields each as it is done: its position and its numbers.

    Args:
        asked: cases, each with its arguments of `basinvol.estimate_volume`.
        executor: where cases are measured, each as one call; default this process, in order.
    """
    num_threads = max((settings.get("num_threads") or 1 for _, settings in asked), default=1)
    with opened(executor, num_threads) as workers:
        done: Iterable[tuple[int, _Found]]
        if workers is None:
            done = ((number, _measured({}, item)) for number, item in enumerate(asked))
        else:
            done = spread(_measured, {"num_threads": 1}, asked, workers, lambda item: f"case {item[0].name}")
        for number, found in done:  # which come without their case, as that need not travel back
            yield number, [Calibration(asked[number][0], truth, estimate) for truth, estimate in found]


_Found: TypeAlias = list[tuple[float, VolumeEstimate]]


def _truths(case: Case, settings: Mapping[str, Any]) -> list[tuple[float | None, float]]:
    """What is known of a case in the measure of the settings: sigma, None for the Lebesgue measure, and the truth."""
    if "gaussian" not in (settings.get("measure"), settings.get("method")):
        return [(None, case.log_volume)]
    wanted = settings.get("sigma")
    return [(sigma, mass) for sigma, mass in case.log_masses.items() if wanted in (None, sigma)]


def _measured(shared: Mapping[str, Any], item: tuple[Case, Mapping[str, Any]]) -> _Found:
    """The truths of a case, each with its estimate."""
    case, settings = item
    chosen = {"scaling": "none", "on_censored": "bound", **shared, **settings}
    rows: _Found = []
    for sigma, truth in _truths(case, settings):
        measure = {} if sigma is None else {"measure": "gaussian", "sigma": sigma}
        found = estimate_volume(*case.task(), cutoff=case.cutoff, **{**chosen, **measure})
        rows.append((truth, found))
    return rows


def calibration_summary(rows: Iterable[Calibration | Score]) -> str:
    """Two sentences that say how many wrong numbers were trusted, and how many right ones were not.

    >>> import basinvol as bv
    >>> print(bv.calibration_summary(bv.calibrate([bv.ground_truth.ball(6)], num_directions=50, probe=False)))
    1 cases, 1 called trustworthy, of which 0 are off by more than 2 nats and three errors.
    1 cases are within 0.5 nats and three errors, of which 1 are called trustworthy.
    """
    scores = _scores(rows)
    trusted, right = [score for score in scores if score.is_trusted], [score for score in scores if score.is_right]
    wrong = sum(score.is_wrong for score in trusted)
    return (
        f"{len(scores)} cases, {len(trusted)} called trustworthy, of which {wrong} are off by more than "
        f"{_WRONG_NATS:g} nats and three errors.\n{len(right)} cases are within {_RIGHT_NATS:g} nats and three errors, "
        f"of which {sum(score.is_trusted for score in right)} are called trustworthy."
    )


def calibration_table(rows: Sequence[Calibration]) -> str:
    """A table in text with case, truth, estimate, error, verdict, effective sample size and evaluations.

    >>> import basinvol as bv
    >>> print(bv.calibration_table(bv.calibrate([bv.ground_truth.ball(6)], num_directions=50, probe=False)))
    case         truth  estimate  error  verdict       ess  evaluations
    ball, P = 6   1.64      1.64  +0.00  trustworthy  50.0          ...
    """
    lines = [("case", "truth", "estimate", "error", "verdict", "ess", "evaluations")]
    for row in rows:
        score = row.score
        lines.append(
            (
                score.case,
                f"{score.truth:,.2f}",
                f"{score.log_volume:,.2f}",
                f"{score.error:+,.2f}" if math.isfinite(score.error) else "infinite",
                score.verdict,
                f"{row.estimate.diagnostics.ess:.1f}",
                f"{score.evaluations:,}",
            )
        )
    return _aligned(lines, words=(0, 4))


def calibration_by_method(rows: Iterable[Calibration | Score]) -> str:
    """A table in text that counts trusted, wrong and right numbers by method, measure and seed, and lists the misses.

    A miss is a number that is trusted and wrong, or right and not trusted; each is listed with its error, its error bar
    and the reason of its verdict.

    >>> import basinvol as bv
    >>> rows = bv.calibrate([bv.ground_truth.ball(6)], num_directions=50, probe=False)
    >>> print(bv.calibration_by_method(rows).splitlines()[1])
    star    lebesgue     0        1        1               0      1                 1
    """
    scores = sorted(_scores(rows), key=_setting)
    lines: list[tuple[str, ...]] = [
        ("method", "measure", "seed", "numbers", "trusted", "of these wrong", "right", "of these trusted")
    ]
    for setting, members in groupby(scores, key=_setting):
        group = list(members)
        trusted, right = [score for score in group if score.is_trusted], [score for score in group if score.is_right]
        wrong, kept = sum(score.is_wrong for score in trusted), sum(score.is_trusted for score in right)
        counts = (len(group), len(trusted), wrong, len(right), kept)
        lines.append((setting[0], setting[1], str(setting[2]), *map(str, counts)))
    parts = [_aligned(lines, words=(0, 1)), calibration_summary(scores)]
    misses = {
        "trusted and wrong": [score for score in scores if score.is_trusted and score.is_wrong],
        "right and not trusted": [score for score in scores if score.is_right and not score.is_trusted],
    }
    for what, missed in misses.items():
        heading = ("method", "seed", what, "error", "error bar", "reason")
        cells = [
            (s.method, str(s.seed), s.case, f"{s.error:+.2f}", f"{s.standard_error:.2f}", s.reason) for s in missed
        ]
        if cells:
            parts.append(_aligned([heading, *cells], words=(0, 2, 5)))
    return "\n\n".join(parts)


def _scores(rows: Iterable[Calibration | Score]) -> list[Score]:
    return [row.score if isinstance(row, Calibration) else row for row in rows]


def _setting(score: Score) -> tuple[str, str, int]:
    return score.method, score.measure, score.seed


def _aligned(lines: Sequence[tuple[str, ...]], words: tuple[int, ...]) -> str:
    """Lines of cells as columns, those of words to the left and those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def aligned(line: tuple[str, ...]) -> str:
        cells = zip(line, widths, strict=True)
        return "  ".join(c.ljust(w) if i in words else c.rjust(w) for i, (c, w) in enumerate(cells)).rstrip()

    return "\n".join(aligned(line) for line in lines)
