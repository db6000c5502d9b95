"""A row of volumes.csv has every column and no other: anything else is refused when it is written or read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from basinvol.experiments.records.columns import SECONDS, VOLUME_COLUMNS, in_order
from basinvol.experiments.records.reading import read_volumes
from basinvol.experiments.records.run_directory import RunDirectory

ROW: dict[str, Any] = dict.fromkeys(reversed(VOLUME_COLUMNS), 1)


def without(name: str) -> dict[str, Any]:
    return {column: value for column, value in ROW.items() if column != name}


def test_a_whole_row_is_written_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert tuple(in_order(ROW)) == VOLUME_COLUMNS
    directory = RunDirectory(tmp_path)
    directory.write_rows("m0", [without(SECONDS)])
    directory.write_volumes({**row, SECONDS: 1} for row in directory.read_rows("m0"))
    assert (tmp_path / "volumes.csv").read_text().splitlines()[0] == ",".join(VOLUME_COLUMNS)


@pytest.mark.parametrize(
    "write",
    [
        lambda directory, row: directory.write_volumes([row]),
        lambda directory, row: directory.write_rows("m0", [{k: v for k, v in row.items() if k != SECONDS}]),
    ],
    ids=["volumes", "rows"],
)
def test_a_row_with_a_missing_or_an_unknown_column_is_refused_and_nothing_is_written(
    write: Callable[[RunDirectory, dict[str, Any]], None], tmp_path: Path
) -> None:
    directory = RunDirectory(tmp_path)
    with pytest.raises(ValueError, match=r"a row of volumes\.csv lacks columns: log_volume\."):
        write(directory, without("log_volume"))
    with pytest.raises(ValueError, match=r"a row of volumes\.csv has unknown columns: log_volum\."):
        write(directory, {**ROW, "log_volum": 1})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_records_that_lack_a_column_are_refused_when_they_are_read(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    (tmp_path / "rows" / "m0.json").write_text(json.dumps([without("ess")]))
    with pytest.raises(ValueError, match=r"m0\.json lacks columns: ess\."):
        directory.read_rows("m0")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "volumes.csv").write_text(",".join(without("ess")) + "\n")
    with pytest.raises(ValueError, match=r"volumes\.csv lacks columns: ess\."):
        read_volumes(tmp_path)
