"""A setting is measured on landscapes whose volume is known, and what came of it is a table."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

import basinvol as bv
from basinvol import ground_truth as gt
from basinvol.calibration import Calibration, Score, calibrate, calibration_by_method, calibration_table

FEW = {"num_directions": 8, "probe": False}
HEADER = ["case", "truth", "estimate", "error", "verdict", "ess", "evaluations"]


@pytest.fixture(scope="module")
def rows() -> list[Calibration]:
    return calibrate([gt.ball(1200, 2.0), gt.ellipsoid(6, 100.0), gt.half_space(3)], **FEW)


def test_every_case_is_measured_as_estimate_volume_does(rows: list[Calibration]) -> None:
    for row in rows:
        case = row.case
        alone = bv.estimate_volume(*case.task(), cutoff=case.cutoff, scaling="none", on_censored="bound", **FEW)
        assert row.estimate.log_volume == alone.log_volume, case.name
        assert row.truth == case.log_volume


def test_error_is_the_estimate_minus_the_truth(rows: list[Calibration]) -> None:
    """A ball is exact but for its brackets, and an ellipsoid is underestimated by eight rays."""
    ball, ellipsoid, half_space = rows
    assert abs(ball.error) <= 1200 * 1e-4
    assert ellipsoid.error == ellipsoid.estimate.log_volume - ellipsoid.case.log_volume < 0
    assert half_space.error == -math.inf


def test_settings_reach_every_estimate() -> None:
    cases = [gt.ball(3), gt.regression(4, 2.0)]
    with pytest.warns(UserWarning, match="scale 0 are never perturbed"):  # a regression at w = 0, with filter scaling
        rows = calibrate(cases, seed=5, search="bisect", rtol=1e-2, scaling="filter", **FEW)
    for row in rows:
        found = row.estimate
        assert (found.seed, found.search, found.rtol, found.scaling) == (5, "bisect", 1e-2, "filter")
        assert found.num_directions == 8
    with pytest.raises(bv.CensoredError, match="directions are censored"):
        calibrate([gt.half_space(3)], on_censored="raise", radius_max=50.0, **FEW)


def test_cases_are_those_of_the_public_table_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = (gt.ball(3), gt.star())
    monkeypatch.setattr("basinvol.calibration.table", lambda: cases)
    assert [row.case for row in calibrate(**FEW)] == list(cases)
    assert [row.case for row in calibrate(iter(cases[:1]), **FEW)] == [cases[0]]


def test_the_cutoff_is_that_of_the_case() -> None:
    with pytest.raises(TypeError, match="multiple values for keyword argument 'cutoff'"):
        calibrate([gt.ball(3)], cutoff=2.0, **FEW)


TWO_SIGMAS = gt.ball(6, sigmas=(0.2, 0.5))


@pytest.mark.parametrize("chosen", [{"measure": "gaussian"}, {"method": "gaussian"}])
def test_masses_are_measured_at_every_sigma_at_which_they_are_known(chosen: dict[str, str]) -> None:
    rows = calibrate([TWO_SIGMAS, gt.star()], **chosen, **FEW)
    assert [(row.case.name, row.estimate.measure.sigma) for row in rows] == [(TWO_SIGMAS.name, s) for s in (0.2, 0.5)]
    for row in rows:
        assert row.truth == TWO_SIGMAS.log_masses[row.estimate.measure.sigma or 0.0]
        assert abs(row.error) < 1e-3, "every ray of a ball has the mass of the ball"


def test_one_sigma_may_be_chosen() -> None:
    (row,) = calibrate([TWO_SIGMAS], measure="gaussian", sigma=0.5, **FEW)
    assert row.estimate.measure.sigma == 0.5


@pytest.mark.parametrize("case", [gt.star(), TWO_SIGMAS], ids=lambda case: case.name)
def test_measure_in_which_nothing_is_known_is_refused(case: gt.Case) -> None:
    with pytest.raises(ValueError, match="no case has a known truth in this measure"):
        calibrate([case], measure="gaussian", sigma=3.0)


def columns_of(line: str) -> list[str]:
    """The cells of a line; they are two or more spaces apart."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_table_has_a_line_for_every_case_in_columns(rows: list[Calibration]) -> None:
    header, *lines = calibration_table(rows).splitlines()
    assert columns_of(header) == HEADER
    assert [columns_of(line)[0] for line in lines] == [row.case.name for row in rows]
    assert len({len(line) for line in [header, *lines]}) == 1, "numbers end below each other"
    for name in ("case", "verdict"):
        place = header.index(name)
        assert all(line[place] != " " and (place == 0 or line[place - 1] == " ") for line in lines), name


def test_table_prints_what_was_measured(rows: list[Calibration]) -> None:
    _, *lines = calibration_table(rows).splitlines()
    ball, ellipsoid, half_space = map(columns_of, lines)
    found = rows[0].estimate
    assert ball[1] == f"{rows[0].truth:,.2f}"
    assert ball[2] == f"{found.log_volume:,.2f}"
    assert "," in ball[1], "thousands are set apart"
    assert ball[3] == f"{rows[0].error:+,.2f}"
    assert ball[4:] == [str(found.diagnostics.verdict), "8.0", f"{found.num_evaluations:,}"]
    assert ellipsoid[3] == f"{rows[1].error:+,.2f}"
    assert ellipsoid[3].startswith("-")
    assert half_space[1] == "inf"
    assert half_space[3] == "infinite"
    assert half_space[4] == "censored"


def test_table_of_masses_names_sigma() -> None:
    rows = calibrate([TWO_SIGMAS], measure="gaussian", **FEW)
    _, *lines = calibration_table(rows).splitlines()
    assert [columns_of(line)[0] for line in lines] == ["ball, P = 6, sigma 0.2", "ball, P = 6, sigma 0.5"]


def test_table_widens_with_its_longest_cell(rows: list[Calibration]) -> None:
    renamed = dataclasses.replace(rows[0], case=dataclasses.replace(rows[0].case, name="n" * 90))
    lines = calibration_table([renamed, rows[1]]).splitlines()
    assert all(line[90:92] == "  " for line in lines)
    assert len({len(line) for line in lines}) == 1


def test_summary_counts_wrong_numbers_that_are_trusted_and_right_ones_that_are_not() -> None:
    row = calibrate([gt.ball(3)], **FEW)[0]
    diagnostics = row.estimate.diagnostics

    def case(error: float, standard_error: float, verdict: bv.Verdict) -> Calibration:
        found = dataclasses.replace(
            row.estimate,
            diagnostics=dataclasses.replace(diagnostics, standard_error=standard_error, verdict=verdict),
        )
        return dataclasses.replace(row, truth=found.log_volume - error, estimate=found)

    trusted, bound = bv.Verdict.TRUSTWORTHY, bv.Verdict.LOWER_BOUND
    rows = [
        case(0.3, 0.2, trusted),  # right
        case(0.3, 0.2, bound),  # right, and not trusted
        case(0.3, 0.05, trusted),  # neither right nor wrong
        case(-3.0, 0.2, trusted),  # wrong
        case(-3.0, 1.5, trusted),  # within its own error
        case(-30.0, 0.2, bound),  # wrong, and not trusted
    ]
    summary = bv.calibration_summary(rows)
    assert summary.startswith("6 cases, 4 called trustworthy, of which 1 are off by more than 2 nats")
    assert summary.endswith("2 cases are within 0.5 nats and three errors, of which 1 are called trustworthy.")


def test_methods_are_counted_by_seed_and_their_misses_are_listed() -> None:
    known: dict[str, Any] = {
        "case": "ball",
        "dim": 3,
        "measure": "lebesgue",
        "truth": 1.0,
        "reason": "because.",
        "evaluations": 9,
    }

    def score(method: str, seed: int, error: float, verdict: str) -> Score:
        return Score(
            method=method,
            seed=seed,
            log_volume=1.0 + error,
            standard_error=0.2,
            verdict=verdict,
            **known,
        )

    text = calibration_by_method(
        [
            score("star", 1, -3.0, "trustworthy"),
            score("annealed", 0, 0.1, "trustworthy"),
            score("star", 0, 0.1, "lower bound"),
            score("star", 1, 0.2, "trustworthy"),
        ]
    )
    counts, summary, wrong, timid = text.split("\n\n")
    assert [line.split() for line in counts.splitlines()[1:]] == [
        ["annealed", "lebesgue", "0", "1", "1", "0", "1", "1"],
        ["star", "lebesgue", "0", "1", "0", "0", "1", "0"],
        ["star", "lebesgue", "1", "2", "2", "1", "1", "1"],
    ]
    assert summary.startswith("4 cases, 3 called trustworthy, of which 1 are off")
    assert columns_of(wrong.splitlines()[1]) == ["star", "1", "ball", "-3.00", "0.20", "because."]
    assert columns_of(timid.splitlines()[1]) == ["star", "0", "ball", "+0.10", "0.20", "because."]
