"""A run directory: what is in it, that it continues after an interruption, and that it protects what it holds."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from basinvol.experiments.describe.families import describe
from basinvol.experiments.records.blocks import read_block
from basinvol.experiments.records.columns import VOLUME_COLUMNS
from basinvol.experiments.records.run_directory import RunDirectory, write_atomically
from basinvol.experiments.report.report import read_volumes, text_table, write_report
from basinvol.experiments.run.measuring import BLOCK
from basinvol.experiments.run.sweep import Sweep

Contents = Callable[[Path], dict[str, bytes]]
SMOKE = dataclasses.replace(describe("mnist-data-scaling", "smoke"), num_directions=BLOCK + 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    Sweep(SMOKE, out).run()
    return out


def test_a_run_has_a_row_for_every_model_and_landscape(finished: Path) -> None:
    volumes = read_volumes(finished)
    assert tuple(volumes.columns) == VOLUME_COLUMNS
    pairs = set(zip(volumes["model_size"], volumes["landscape_size"], strict=True))
    assert pairs == {(60, 60), (60, 200), (200, 60), (200, 200)}
    inside = volumes[volumes["landscape_loss"] < 0.1]
    assert (inside["num_crossed"] == SMOKE.num_directions).all()
    assert np.isneginf(volumes[volumes["landscape_loss"] > 0.1]["log_mean_power"]).all()


def test_volumes_follow_from_the_radii_on_disk(finished: Path) -> None:
    volumes = read_volumes(finished).set_index(["model_level", "landscape_size"])
    parts = [pd.read_parquet(finished / "radii" / f"m0-level140-block{block:04d}.parquet") for block in range(2)]
    radii = pd.concat(parts).set_index(["landscape_size", "direction"])
    radii.update(
        pd.read_parquet(finished / "radii" / "m0-level140-refined.parquet").set_index(["landscape_size", "direction"])
    )
    row = volumes.loc[(140, 200)]
    log_weights = row["num_params"] * np.log(radii.loc[200, "radius"])
    expected = np.logaddexp.reduce(log_weights) - np.log(SMOKE.num_directions)
    assert row["log_mean_power"] == pytest.approx(expected, abs=1e-6)


def test_a_run_that_lost_some_files_ends_with_the_same_bytes(
    finished: Path, contents: Contents, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    before = contents(out)
    (out / "radii" / "m0-level140-block0001.parquet").unlink()
    (out / "radii" / "m0-level0-block0000.parquet").unlink()
    (out / "radii" / "m0-level0-refined.parquet").unlink()
    (out / "volumes.csv").unlink()
    Sweep(SMOKE, out).run()
    assert contents(out) == before


def test_another_configuration_is_refused_and_nothing_is_changed(finished: Path, contents: Contents) -> None:
    before = contents(finished)
    with pytest.raises(ValueError, match=r"holds a run with other settings \(num_directions differ\)"):
        Sweep(dataclasses.replace(SMOKE, num_directions=7), finished)
    assert contents(finished) == before


def test_blocks_read_back_as_they_were_written(finished: Path) -> None:
    radii, directions = read_block(
        finished / "radii" / "m0-level140-block0001.parquet", SMOKE.landscape_sizes, SMOKE.cutoffs
    )
    assert directions == [BLOCK, BLOCK + 1]
    assert radii.lower.shape == (2, 1, 2)
    table = pd.read_parquet(finished / "radii" / "m0-level140-block0001.parquet")
    np.testing.assert_array_equal(radii.upper.numpy().ravel(), table["upper"])
    assert [status.name for status in radii.status.ravel()] == list(table["status"])


@pytest.mark.slow
class _Sources(HTMLParser):
    """What the elements of a page load; the text of its scripts, which may hold the word too, is no element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == "src"]


def test_the_report_is_one_page_made_from_the_records(finished: Path) -> None:
    page = write_report(finished).read_text()
    pictures = _Sources(page).found
    assert len(pictures) == 5
    assert all(source.startswith("data:image/svg+xml;base64,") for source in pictures)  # nothing is loaded
    assert "lower bound" in page
    assert "landscape of N examples</em> is the mean loss on the first N" in page
    assert "not the whole log volume" in page
    for name in ("fixed-landscape", "varying-landscape"):
        for kind in ("svg", "png"):
            assert (finished / "figures" / f"{name}.{kind}").stat().st_size > 0
    first = (finished / "figures" / "fixed-landscape.svg").read_bytes()
    write_report(finished)
    assert (finished / "figures" / "fixed-landscape.svg").read_bytes() == first


def test_the_table_marks_the_own_minimum_and_the_largest(finished: Path) -> None:
    table = text_table(finished)
    rows = [line for line in table.splitlines() if line.strip().startswith(("60 ", "200 "))]
    assert len(rows) == 2
    assert all(line.count("[") == 1 and line.count("*") == 1 for line in rows)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "volumes.csv"
    write_atomically(target, b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_directory_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`out` cannot be written: Not a directory"):
        RunDirectory(tmp_path / "file" / "run")
