"""Finished runs, shared by the tests that only read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
