"""Runs survive: kills at any moment, other processes, more processes, full disks, cutoffs chosen later."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from basinvol.cli import main
from basinvol.experiments.describe.description import Training, Variation
from basinvol.experiments.describe.families import describe
from basinvol.experiments.records.run_directory import RunDirectory
from basinvol.experiments.report.report import read_volumes, write_report
from basinvol.experiments.run.execution import Execution
from basinvol.experiments.run.measuring import BLOCK
from basinvol.experiments.run.sweep import Sweep

# Three trainings with two checkpoints each, and the plane through three of the minima.
SMOKE = dataclasses.replace(
    describe("swiss-roll", "smoke"),
    levels=(0, 30, 80),
    num_directions=BLOCK + 2,
    training=Training(epochs=60, learning_rate=1e-2),
    variation=Variation("epochs", (40, 60), ("epoch 40", "epoch 60"), "epoch"),
)
PROGRAM = f"""
import pathlib
from basinvol.experiments.describe.description import *
from basinvol.experiments.run.sweep import Sweep
if __name__ == "__main__":
    Sweep({SMOKE!r}, pathlib.Path(out)).run(jobs)
"""
NUM_KILLS = 20


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run but the timings; the seconds column is left out."""
    files = {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}
    del files["timings.csv"]
    volumes = pd.read_csv(run / "volumes.csv").drop(columns="seconds")
    files["volumes.csv"] = volumes.to_csv().encode()
    return files


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """An unbroken run, and how long it took in a process."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    _start(out, "").join()  # the server is up
    started = time.monotonic()
    process = _start(out)
    process.join()
    assert process.exitcode == 0
    return contents(out), time.monotonic() - started


def _start(out: Path, program: str = PROGRAM) -> multiprocessing.process.BaseProcess:
    # A server that has imported everything, and run nothing, forks the processes: each begins at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["basinvol.experiments.run.sweep", "pytest"])
    settings = {"__name__": "__main__", "out": str(out), "jobs": 1}
    process = context.Process(target=exec, args=(program, settings))
    process.start()
    return process


def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_an_unbroken_one(
    unbroken: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    expected, duration = unbroken
    moments = random.Random(0)
    kills, finished = 0, 0
    while kills < NUM_KILLS or finished == 0:
        out = tmp_path / f"run{finished}"
        process = _start(out)
        process.join(moments.uniform(0.0, 0.6 * duration) if kills < NUM_KILLS else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            assert contents(out) == expected
            finished += 1


def test_workers_end_with_a_killed_parent_and_any_number_of_them_gives_the_same_bytes(
    unbroken: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text("out, jobs = 'run', 2\n" + PROGRAM)
    process = subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, start_new_session=True)
    while not list(tmp_path.glob("run/models/*.safetensors")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while _group_is_alive(process.pid):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    Sweep(SMOKE, tmp_path / "run").run(jobs=2)
    assert contents(tmp_path / "run") == unbroken[0]


def _group_is_alive(group: int) -> bool:
    """Whether a process of this group is left that is not a zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(found) == group and state not in "ZX":
            return True
    return False


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    sweep = Sweep(SMOKE, tmp_path)
    with RunDirectory(tmp_path).locked():
        with pytest.raises(ValueError, match="another process is at work in"):
            sweep.run()
        with pytest.raises(ValueError, match="another process is at work in"):
            Sweep(SMOKE, tmp_path)


def test_two_processes_at_once_leave_a_whole_run(unbroken: tuple[dict[str, bytes], float], tmp_path: Path) -> None:
    processes = [_start(tmp_path / "run") for _ in range(2)]
    for process in processes:
        process.join()
    assert 0 in [process.exitcode for process in processes]
    assert contents(tmp_path / "run") == unbroken[0]


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writes, real_fsync = 0, os.fsync

    def full_after_five(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(descriptor)

    arguments = ["reproduce", "swiss-roll", "--preset", "smoke", "--jobs", "1", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_after_five)
        assert main(arguments) == 3
    message = capsys.readouterr().err
    assert "the disk is full" in message
    assert message.count("\n") == 1
    kept = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "config.json" in kept
    assert not any(name.endswith(".tmp") for name in kept)
    assert main(arguments) == 0
    Sweep(describe("swiss-roll", "smoke"), tmp_path / "unbroken").run()
    found, unbroken = contents(tmp_path / "run"), contents(tmp_path / "unbroken")
    assert {name: found[name] for name in unbroken} == unbroken


def test_other_data_under_the_same_name_are_refused(tmp_path: Path) -> None:
    Sweep(SMOKE, tmp_path).run()
    next(tmp_path.glob("rows/m0-level0*.json")).unlink()
    next(tmp_path.glob("rows/data-seed10.sha256")).write_text("0" * 64 + "\n")
    with pytest.raises(ValueError, match=r"the examples of data seed 10 are not those that .* was begun with"):
        Sweep(SMOKE, tmp_path).run()


def test_cutoffs_added_to_a_finished_run_start_from_known_brackets(tmp_path: Path) -> None:
    experiment = dataclasses.replace(describe("mnist-data-scaling", "smoke"), num_directions=BLOCK + 2)
    Sweep(experiment, tmp_path / "later").run()
    before = contents(tmp_path / "later")
    more = dataclasses.replace(experiment, cutoffs=(0.1, 0.5, 0.05))
    Sweep(more, tmp_path / "later").run()
    Sweep(more, tmp_path / "once").run()
    after = contents(tmp_path / "later")
    for name, content in before.items():
        if name not in ("volumes.csv", "config.json"):
            assert after[name] == content, name
    keys = ["model_size", "landscape_size", "cutoff"]
    later = read_volumes(tmp_path / "later").set_index(keys).sort_index()
    once = read_volumes(tmp_path / "once").set_index(keys).sort_index()
    assert list(later.index) == list(once.index)
    inside = np.isfinite(once["log_mean_power"])
    # Both brackets of a deciding ray are refined to 0.1 nats.
    np.testing.assert_allclose(later["log_mean_power"][inside], once["log_mean_power"][inside], atol=0.2)
    added = later[later["search_pass"] == 1]
    assert set(added.index.get_level_values("cutoff")) == {0.05, 0.5}
    first = later[later["search_pass"] == 0]
    assert (added["evaluations"].mean() / 2) < first["evaluations"].mean()
    assert "were saved" in write_report(tmp_path / "later").read_text()
    Sweep(more, tmp_path / "later").run()  # nothing is left to do
    Sweep(experiment, tmp_path / "later").run()
    assert contents(tmp_path / "later").keys() >= after.keys()
    assert len(read_volumes(tmp_path / "later")) == len(later)


def test_a_cutoff_below_another_costs_nothing_on_the_published_grid(tmp_path: Path) -> None:
    experiment = dataclasses.replace(describe("swiss-roll", "smoke"), method="paper")
    Sweep(experiment, tmp_path / "later").run()
    more = dataclasses.replace(experiment, cutoffs=(0.1, 0.05, 0.2))
    Sweep(dataclasses.replace(experiment, cutoffs=(0.05,)), tmp_path / "later").run()
    Sweep(more, tmp_path / "later").run()
    Sweep(more, tmp_path / "once").run()
    keys = ["model_size", "landscape_size", "cutoff"]
    later = read_volumes(tmp_path / "later").set_index(keys).sort_index()
    once = read_volumes(tmp_path / "once").set_index(keys).sort_index()
    np.testing.assert_array_equal(later["log_mean_power"], once["log_mean_power"])
    assert later["evaluations"].xs(0.05, level="cutoff").max() == 0


def test_execution_that_changes_numbers_is_part_of_the_configuration(tmp_path: Path) -> None:
    Sweep(SMOKE, tmp_path)
    with pytest.raises(ValueError, match=r"holds a run with other settings \(resolve differ\)"):
        Sweep(SMOKE, tmp_path, Execution(resolve="decisive"))
    Sweep(SMOKE, tmp_path, Execution(num_threads=2))


def test_a_backend_that_keeps_no_evaluations_can_be_given_more_cutoffs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = dataclasses.replace(describe("swiss-roll", "smoke"), num_directions=6)
    monkeypatch.setattr("basinvol.search.trace.Trace.only", lambda *_: None)
    Sweep(experiment, tmp_path / "later").run()
    assert not list((tmp_path / "later" / "radii").glob("*-evaluations.parquet"))
    Sweep(dataclasses.replace(experiment, cutoffs=(0.1, 0.2)), tmp_path / "later").run()
    monkeypatch.undo()
    Sweep(dataclasses.replace(experiment, cutoffs=(0.2,)), tmp_path / "alone").run()
    later = read_volumes(tmp_path / "later")
    alone = read_volumes(tmp_path / "alone")
    np.testing.assert_array_equal(later[later["cutoff"] == 0.2]["log_mean_power"], alone["log_mean_power"])
