"""Masses by chains beside volumes by rays: they are added to a run, go on after a kill, and are held against claims."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import basinvol as bv
from basinvol.cli import main
from basinvol.experiments.describe.description import Mass, Network
from basinvol.experiments.describe.families import describe
from basinvol.experiments.records.columns import MASS_COLUMNS
from basinvol.experiments.records.reading import Run
from basinvol.experiments.report.masses import by_mass, in_place_of_volumes
from basinvol.experiments.report.report import command, text_table, write_report
from basinvol.experiments.run.execution import Execution
from basinvol.experiments.run.sweep import Sweep
from basinvol.experiments.run.worker import Worker, training_runs

TINY = dataclasses.replace(
    describe("mnist-data-scaling", "smoke"), network=Network((784,), (10,), 10), cutoffs=(0.5,), slice_points=0
)
MASS = Mass("splitting", 0.05)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of rays to which masses were added when it was finished; treat it as read-only."""
    out = tmp_path_factory.mktemp("masses") / "run"
    Sweep(TINY, out).run()
    assert Run.read(out).masses is None
    Sweep(TINY, out, mass=MASS).run()
    return out


@pytest.mark.slow
def test_every_basin_has_the_mass_that_a_call_of_its_own_gives(run: Path) -> None:
    found = Run.read(run)
    assert found.masses is not None
    assert tuple(found.masses.columns) == MASS_COLUMNS
    inside = found.volumes[found.volumes["landscape_loss"] < found.volumes["cutoff"]]
    assert len(found.masses) == len(inside) > 1
    worker = Worker(TINY, Sweep(TINY, run).directory, Execution())
    largest = training_runs(TINY)[-1]
    ((name, variant),) = largest.models()
    row = found.masses[found.masses["model_level"] == largest.level].iloc[0]
    split, size = worker.split(0), row["landscape_size"]
    alone = bv.estimate_volume(
        worker.trained(0, name, variant),
        torch.nn.functional.cross_entropy,
        (split.inputs[:size], split.targets[:size]),
        cutoff=0.5,
        num_directions=100,
        measure="gaussian",
        sigma=0.05,
        method="splitting",
        num_threads=1,
    )
    assert (row["log_mass"], row["standard_error"]) == (alone.log_volume, alone.standard_error)
    assert (row["verdict"], row["reason"]) == (alone.diagnostics.verdict.value, alone.diagnostics.reason)
    assert row["log_mass"] < -0.01


@pytest.mark.slow
def test_masses_go_on_after_a_kill_and_other_processes_give_the_same_bytes(
    run: Path, contents: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    there = shutil.copytree(run, tmp_path / "there")
    before = contents(there)
    kept, *lost = sorted((there / "masses").iterdir())
    written = kept.stat().st_mtime_ns
    for path in (*lost, there / "masses.csv"):
        path.unlink()
    Sweep(TINY, there).run(jobs=2)  # which masses there are stands in the directory
    assert contents(there) == before
    assert kept.stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_second_measurement_stands_beside_the_first_and_the_report_has_both(run: Path, tmp_path: Path) -> None:
    there = shutil.copytree(run, tmp_path / "there")
    page = write_report(there).read_text()
    assert "Masses by chains" in page
    assert 'href="masses.csv"' in page
    Sweep(TINY, there, mass=Mass("splitting", 0.02)).run()
    found = by_mass(Run.read(there))
    assert [part.mass.sigma for part in found] == [0.05, 0.02]
    lines = command(Run.read(there)).splitlines()
    assert [line.split("--method ")[1].split()[0] for line in lines] == ["star", "splitting", "splitting"]
    assert lines[2].endswith("--sigma 0.02")
    text = text_table(there)
    assert "log mass under a Gaussian of sigma 0.05, method splitting in nats, cutoff 0.5" in text
    assert text.count("the minimum trained on those N examples has the largest volume") == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--method", "hit-and-run"],
            "`method` must be one of 'star', 'paper', 'annealed', 'splitting', 'direct', got",
        ),
        (["--method", "annealed", "--sigma", "0"], "`sigma` must be above 0, got 0."),
        (["--sigma", "0.1"], "`sigma` is for the methods annealed, splitting, direct, got method=None."),
    ],
)
def test_what_chains_cannot_do_is_refused(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "mnist-data-scaling", "--preset", "smoke", "--out", str(tmp_path / "run")]
    assert main([*arguments, *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def masses_of(volumes: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    """Masses of all minima of written records, which fall with the number of examples in steps of five nats."""
    inside = volumes[np.isfinite(volumes["log_mean_power"])]
    steps = {"log_mass": -5.0 * np.log2(inside["model_size"]), "standard_error": 0.1, "verdict": "trustworthy"}
    rows = inside.assign(method="annealed", sigma=0.1, evaluations=1, **{**steps, **changes})
    return rows[list(MASS_COLUMNS)]


def of_written(written_run: Path, **changes: Any) -> list[Any]:
    found = Run.read(written_run)
    (part,) = by_mass(dataclasses.replace(found, masses=masses_of(found.volumes, **changes)))
    return [claim for claim in part.claims if claim.text.startswith("Minima trained on more data")]


def test_claims_are_judged_by_masses_and_say_which_are_beyond_doubt(written_run: Path) -> None:
    (claim,) = of_written(written_run)
    assert claim.reason.endswith(
        "Beyond doubt: 2 of 2, where every mass is trustworthy and all differ by more than 2 standard errors."
    )
    (blurred,) = of_written(written_run, standard_error=50.0)
    assert "Beyond doubt: 0 of 2" in blurred.reason
    assert all("two masses differ by less than 2 standard errors" in found.sentence for found in blurred.evidence)
    assert blurred.verdict == claim.verdict
    (bound,) = of_written(written_run, verdict="lower bound")
    assert "Beyond doubt: 0 of 2" in bound.reason
    assert all("3 of 3 masses are called lower bound" in found.sentence for found in bound.evidence)


def test_masses_without_a_number_are_left_out_and_networks_outside_stay_outside(written_run: Path) -> None:
    volumes = Run.read(written_run).volumes
    masses = masses_of(volumes)
    masses.loc[masses.index[0], "log_mass"] = math.nan
    rows = in_place_of_volumes(volumes, masses)
    assert len(rows) == len(volumes) - 1
    assert (rows["log_mean_power"] == -math.inf).sum() == (volumes["log_mean_power"] == -math.inf).sum() > 0
    assert rows["log_mean_power"].max() < 0.0 < volumes["log_mean_power"].max()
    assert rows.index.isin(volumes.index).all()
