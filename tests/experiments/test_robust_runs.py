"""Runs survive: kills at any moment, other processes, more processes, full disks, cutoffs chosen later."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from basinvol.cli import main
from basinvol.experiments.describe.families import describe
from basinvol.experiments.records.run_directory import RunDirectory
from basinvol.experiments.report.report import read_volumes, write_report
from basinvol.experiments.run.execution import Execution
from basinvol.experiments.run.measuring import BLOCK
from basinvol.experiments.run.sweep import Sweep

SmokeRun = Callable[[str], Path]
Contents = Callable[[Path], dict[str, bytes]]

# Three trainings with two checkpoints each, and the plane through three of the minima.
SMOKE = dataclasses.replace(describe("grokking", "smoke"), levels=(0, 92, 282), num_directions=BLOCK + 2)
# The same from the command line, with three seeds.
THREE_SEEDS = dataclasses.replace(SMOKE, seeds=(0, 1, 2))
COMMAND = ["reproduce", "grokking", "--preset", "smoke", "--levels", "0,92,282", "--seeds", "0,1,2"]
COMMAND += ["--directions", str(BLOCK + 2), "--out", "run"]
INTERRUPTED = "basinvol: interrupted; finished models and blocks of directions are kept; repeat the same command to "
INTERRUPTED += "continue.\n"
PROGRAM = f"""
import pathlib
from basinvol.experiments.describe.description import *
from basinvol.experiments.run.sweep import Sweep
if __name__ == "__main__":
    Sweep({SMOKE!r}, pathlib.Path(out)).run(jobs)
"""
COMMAND_PROGRAM = """
import signal
# Whoever runs the tests without a terminal may have them ignore Ctrl-C, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
import os, sys
os.setsid()
os.chdir(out)
os.dup2(os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
os.dup2(1, 2)
from basinvol.cli import main
sys.exit(main(arguments))
"""
NUM_KILLS = 20


@dataclasses.dataclass(frozen=True)
class Unbroken:
    """A run that nothing disturbed.

    Attributes:
        path: of its directory.
        contents: its files.
        seconds: how long it took in a process.
    """

    path: Path
    contents: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, contents: Contents) -> Unbroken:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    _start(out, "").join()  # the server is up
    started = time.monotonic()
    process = _start(out)
    process.join()
    assert process.exitcode == 0
    return Unbroken(out, contents(out), time.monotonic() - started)


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory: pytest.TempPathFactory, contents: Contents) -> dict[str, bytes]:
    """The files of an unbroken run of `THREE_SEEDS`."""
    out = tmp_path_factory.mktemp("three-seeds")
    Sweep(THREE_SEEDS, out).run()
    return contents(out)


def _start(out: Path, program: str = PROGRAM) -> multiprocessing.process.BaseProcess:
    # A server that has imported everything, and run nothing, forks the processes: each begins at once.
    context = multiprocessing.get_context("forkserver")
    # The last two are what torch's optimizers and pyarrow import when they are first used.
    context.set_forkserver_preload(["basinvol.experiments.run.sweep", "pytest", "torch._dynamo", "pandas"])
    settings = {"__name__": "__main__", "out": str(out), "jobs": 1}
    process = context.Process(target=exec, args=(program, settings))
    process.start()
    return process


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_an_unbroken_one(
    unbroken: Unbroken, contents: Contents, tmp_path: Path
) -> None:
    moments = random.Random(0)
    kills, finished = 0, 0
    while kills < NUM_KILLS or finished == 0:
        out = tmp_path / f"run{finished}"
        process = _start(out)
        process.join(moments.uniform(0.0, 0.6 * unbroken.seconds) if kills < NUM_KILLS else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            assert contents(out) == unbroken.contents
            finished += 1


@pytest.mark.slow
def test_an_interrupted_run_says_so_in_one_sentence_and_the_same_command_continues_it(
    three_seeds: dict[str, bytes], contents: Contents, tmp_path: Path
) -> None:
    process = _start_command(tmp_path, 1)
    _wait_for_models(process, tmp_path, 1)
    _interrupt(process, tmp_path)
    _start_command(tmp_path, 1).join()
    assert contents(tmp_path / "run") == three_seeds


@pytest.mark.slow
def test_workers_end_with_an_interrupted_or_killed_parent_and_any_number_of_them_gives_the_same_bytes(
    three_seeds: dict[str, bytes], contents: Contents, tmp_path: Path
) -> None:
    process = _start_command(tmp_path, 2)
    _wait_for_models(process, tmp_path, 1)
    _interrupt(process, tmp_path)
    begun = len(list(tmp_path.glob("run/models/*")))
    process = _start_command(tmp_path, 2)
    _wait_for_models(process, tmp_path, begun + 1)
    process.kill()
    process.join()
    _wait_until(lambda: not _group_is_alive(process.pid or 0), "a worker outlived its parent")
    Sweep(THREE_SEEDS, tmp_path / "run").run(jobs=2)
    assert contents(tmp_path / "run") == three_seeds


def _start_command(folder: Path, jobs: int) -> multiprocessing.process.BaseProcess:
    """`COMMAND` in a process group of its own, as a terminal starts it."""
    return _start(folder, f"arguments = {[*COMMAND, '--jobs', str(jobs)]!r}\n{COMMAND_PROGRAM}")


def _interrupt(process: multiprocessing.process.BaseProcess, folder: Path) -> None:
    """Presses Ctrl-C, and checks that all processes end and say no more than one sentence."""
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    process.join(60)
    assert process.exitcode == 130
    assert (folder / "output").read_text() == INTERRUPTED
    assert not _group_is_alive(process.pid)


def _wait_for_models(process: multiprocessing.process.BaseProcess, folder: Path, count: int) -> None:
    def is_there() -> bool:
        assert process.exitcode is None, (folder / "output").read_text()
        return len(list(folder.glob("run/models/*.safetensors"))) >= count

    _wait_until(is_there, f"no {count} models")


def _wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


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


@pytest.mark.slow
def test_two_processes_at_once_leave_a_whole_run(unbroken: Unbroken, contents: Contents, tmp_path: Path) -> None:
    processes = [_start(tmp_path / "run") for _ in range(2)]
    for process in processes:
        process.join()
    assert 0 in [process.exitcode for process in processes]
    assert contents(tmp_path / "run") == unbroken.contents


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "sentence"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the storage cannot be written")],
)
def test_a_full_or_read_only_disk_is_one_sentence_and_loses_nothing(
    code: int,
    sentence: str,
    smoke_run: SmokeRun,
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    writes, real_fsync = 0, os.fsync

    def full_after_five(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes > 5:
            raise OSError(code, os.strerror(code))
        real_fsync(descriptor)

    arguments = ["reproduce", "swiss-roll", "--preset", "smoke", "--jobs", "1", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_after_five)
        assert main(arguments) == 3
    message = capsys.readouterr().err
    assert sentence in message
    assert message.count("\n") == 1
    kept = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "config.json" in kept
    assert not any(name.endswith(".tmp") for name in kept)
    assert main(arguments) == 0
    assert contents(tmp_path / "run") == contents(smoke_run("swiss-roll"))


@pytest.mark.slow
def test_other_data_under_the_same_name_are_refused(unbroken: Unbroken, tmp_path: Path) -> None:
    out = shutil.copytree(unbroken.path, tmp_path / "run")
    next(out.glob("rows/m0-level0*.json")).unlink()
    next(out.glob("rows/data-seed10.sha256")).write_text("0" * 64 + "\n")
    with pytest.raises(ValueError, match=r"the examples of data seed 10 are not those that .* was begun with"):
        Sweep(SMOKE, out).run()


@pytest.mark.slow
def test_cutoffs_added_to_a_finished_run_start_from_known_brackets(
    smoke_run: SmokeRun, contents: Contents, tmp_path: Path
) -> None:
    experiment = describe("mnist-data-scaling", "smoke")
    shutil.copytree(smoke_run("mnist-data-scaling"), tmp_path / "later")
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


@pytest.mark.slow
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


@pytest.mark.slow
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
