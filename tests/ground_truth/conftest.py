"""`pytest tests/ground_truth` ends with a table: case, truth, estimate, error, verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from basinvol.calibration import Calibration, calibration_table

_ROWS = pytest.StashKey[list[Calibration]]()


@pytest.fixture
def record_calibration(request: pytest.FixtureRequest) -> Callable[[list[Calibration]], None]:
    """Adds rows to the table that is printed at the end."""
    return request.config.stash.setdefault(_ROWS, []).extend


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the rows that tests recorded."""
    rows = config.stash.get(_ROWS, [])
    if rows:
        terminalreporter.section("ground truth")
        terminalreporter.write_line(calibration_table(rows))
