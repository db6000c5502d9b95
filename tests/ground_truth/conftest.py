"""`pytest tests/ground_truth` ends with a table: case, truth, estimate, error, verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from basinvol.calibration import Calibration, calibration_table

_TABLE = "calibration table"


@pytest.fixture
def record_calibration(record_property: Callable[[str, object], None]) -> Callable[[list[Calibration]], None]:
    """Adds rows to the tables that are printed at the end, in whichever process the test ran."""
    return lambda rows: record_property(_TABLE, calibration_table(rows))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the tables that tests recorded."""
    reports = terminalreporter.getreports("passed")
    tables = [table for report in reports for name, table in report.user_properties if name == _TABLE]
    if tables:
        terminalreporter.section("ground truth")
        terminalreporter.write_line("\n".join(tables))
