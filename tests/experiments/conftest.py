"""Finished runs, shared by the tests that only read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from basinvol.experiments.describe.families import describe
from basinvol.experiments.run.sweep import Sweep


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """smoke_run("swiss-roll"): the directory of that family's smoke run, without a report; treat its records as
    read-only."""
    finished: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in finished:
            finished[name] = tmp_path_factory.mktemp(name)
            Sweep(describe(name, "smoke"), finished[name]).run()
        return finished[name]

    return run


def contents_of(run: Path) -> dict[str, bytes]:
    """Every file of a run but the timings and the report; the seconds column of volumes.csv is left out."""
    files = {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}
    del files["timings.csv"]
    volumes = pd.read_csv(run / "volumes.csv").drop(columns="seconds")
    files["volumes.csv"] = volumes.to_csv().encode()
    return {name: content for name, content in files.items() if not name.startswith(("figures", "report.html"))}


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """contents(run): what two runs of the same settings must have in common, byte for byte."""
    return contents_of
