"""Run directories on storage that many machines write: files appear whole, and a lock whose holder is gone is taken."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from basinvol.experiments.describe.families import describe
from basinvol.experiments.records import lock as locks
from basinvol.experiments.records.lock import Holder, locked
from basinvol.experiments.records.run_directory import RunDirectory
from basinvol.experiments.records.storage import create, modified, place, write_atomically
from basinvol.experiments.report.report import text_table, write_report
from basinvol.experiments.run.sweep import Sweep

SmokeRun = Callable[[str], Path]
Contents = Callable[[Path], dict[str, bytes]]
SWISS = describe("swiss-roll", "smoke")


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty folder of this machine, and one of fsspec."""
    if request.param == "local":
        yield tmp_path
        return
    made = place(f"memory://{tmp_path.name}")
    made.mkdir(parents=True, exist_ok=True)
    yield made
    made.fs.rm(made.path, recursive=True)  # type: ignore[attr-defined]


def test_files_appear_whole_and_one_of_two_creates(folder: Path) -> None:
    path = folder / "file"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert not create(path, b"third")
    assert path.read_bytes() == b"second"
    assert create(folder / "other", b"other")
    assert modified(folder / "other") >= modified(path)
    assert sorted(found.name for found in folder.glob("*")) == ["file", "other"]
    with pytest.raises(FileNotFoundError):
        modified(folder / "none")


def test_of_many_that_create_at_once_one_does(folder: Path) -> None:
    barrier = threading.Barrier(8)

    def try_it(number: int) -> bool:
        barrier.wait()
        return create(folder / "file", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_it, range(8))) == 1


def test_a_held_lock_names_its_holder(folder: Path) -> None:
    sentence = rf"another process is at work in .* \(process {os.getpid()} on \S+, since .*\); wait for it, or use"
    with locked(folder / ".lock", folder), pytest.raises(ValueError, match=sentence), locked(folder / ".lock", folder):
        pass
    with locked(folder / ".lock", folder):  # it was released
        pass
    assert not (folder / ".lock").exists()


HOLD_AND_DIE = """
import os, pathlib, sys
from basinvol.experiments.records.lock import locked
held = locked(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]))
held.__enter__()
os._exit(1)
"""


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HOLD_AND_DIE, str(tmp_path / ".lock")], check=False)
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", tmp_path):
        pass


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    here = Holder.here()
    if not here.started:
        pytest.skip("this system does not tell when a process was started")
    before = dataclasses.replace(here, started="before", token="other")
    (tmp_path / ".lock").write_text(json.dumps(dataclasses.asdict(before)))
    with locked(tmp_path / ".lock", tmp_path):
        pass


def test_a_holder_on_another_machine_is_gone_without_signs_of_life(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = dataclasses.replace(Holder.here(), host="elsewhere")
    path = folder / ".lock"
    write_atomically(path, json.dumps(dataclasses.asdict(there)).encode())
    with (
        pytest.raises(ValueError, match=r"on elsewhere, since .* no sign of life for 60 seconds"),
        locked(path, folder),
    ):
        pass
    monkeypatch.setattr(locks, "GONE", -1.0)
    with locked(path, folder):
        assert json.loads(path.read_bytes())["host"] == Holder.here().host


def test_a_holder_shows_signs_of_life_until_it_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.01)
    path = folder / ".lock"
    with locked(path, folder):
        first = modified(path)
        while modified(path) == first:
            pass
        other = json.dumps(dataclasses.asdict(dataclasses.replace(Holder.here(), host="elsewhere"))).encode()
        write_atomically(path, other)
    assert path.read_bytes() == other  # a lock that was taken over is not released by who had it


def test_the_file_of_a_lock_that_is_no_longer_in_use_is_no_lock(folder: Path) -> None:
    write_atomically(folder / ".lock", b"")
    with locked(folder / ".lock", folder):
        pass


@pytest.mark.slow
def test_a_run_in_memory_has_the_bytes_of_one_on_disk(smoke_run: SmokeRun, contents: Contents, tmp_path: Path) -> None:
    out = place("memory://run")
    Sweep(SWISS, out).run()
    Sweep(SWISS, out).run()  # nothing is left to do
    page = write_report(out)
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert "swiss" not in text_table(out)  # it is a table of numbers
    for path in out.rglob("*"):
        if path.is_file():
            target = tmp_path / str(path).removeprefix(f"{out}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert contents(tmp_path) == contents(smoke_run("swiss-roll"))


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    assert place(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert place("runs/x") == Path("runs/x")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [("nothing://x", "`out` is nothing://x, which fsspec cannot open: "), ("s3://b/x", "`out` is s3://b/x, which")],
)
def test_an_address_that_cannot_be_opened_is_one_sentence(words: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        place(words)
    assert str(caught.value).startswith(sentence)


def test_a_worker_that_does_not_see_the_directory_refuses_to_write_elsewhere(tmp_path: Path) -> None:
    settings = SWISS.settings()
    with pytest.raises(ValueError, match=r"is not the same directory on \S+, where a worker runs; put it on storage"):
        RunDirectory.of_worker(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
    RunDirectory(tmp_path / "run").claim(settings)
    RunDirectory.of_worker(tmp_path / "run", {**settings, "cutoffs": (0.5,)})
    with pytest.raises(ValueError, match="is not the same directory"):
        RunDirectory.of_worker(tmp_path / "run", {**settings, "seeds": (7,)})


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`out` cannot be written: .*; choose another directory"):
        RunDirectory(tmp_path / "file")


@pytest.mark.parametrize("workers", [1, 8])  # 8 are more than trainings, which are split into blocks
def test_a_sweep_on_an_executor_has_the_bytes_of_one_here(
    workers: int, smoke_run: SmokeRun, contents: Contents, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(workers) as executor:
        Sweep(SWISS, tmp_path / "run").run(executor=executor)
    assert contents(tmp_path / "run") == contents(smoke_run("swiss-roll"))
