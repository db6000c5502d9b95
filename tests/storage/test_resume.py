"""An estimate that was killed goes on where it was, and ends with the bytes of one that was not."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.storage.archive import to_bytes
from basinvol.storage.journal import Journal


def bytes_of(estimates: bv.VolumeEstimate | list[bv.VolumeEstimate]) -> bytes:
    """All that estimates hold, but how long they took."""
    several = estimates if isinstance(estimates, list) else [estimates]
    return to_bytes([dataclasses.replace(estimate, seconds=0.0) for estimate in several])


class Interrupting:
    """A loss that is interrupted, as by Ctrl-C, at one of its calls."""

    def __init__(self, at: int | None) -> None:
        self.left = at
        self.num_calls = 0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.num_calls += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)


SETTINGS: dict[str, dict[str, Any]] = {
    "star": {"cutoff": 0.1},
    "several cutoffs": {"cutoff": [0.05, 0.1]},
    "decisive": {"cutoff": 0.1, "resolve": "decisive", "num_directions": 60},
    "preconditioned": {"cutoff": 0.1, "method": "preconditioned", "method_options": {"num_pilot": 16, "rounds": 1}},
    "gaussian": {"cutoff": 0.1, "method": "gaussian", "sigma": 0.1, "probe": True},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_an_interrupted_estimate_goes_on_and_gives_the_same_bytes(name: str, trained, blobs, tmp_path: Path) -> None:
    settings = {"num_directions": 24, "backend": "reference", "probe": False, **SETTINGS[name]}
    whole = Interrupting(None)
    expected = bytes_of(bv.estimate_volume(trained, whole, blobs, **settings))
    path = tmp_path / "resume"
    for share in (0.7, 0.2):
        loss = Interrupting(int(share * whole.num_calls))
        with pytest.raises(KeyboardInterrupt):
            bv.estimate_volume(trained, loss, blobs, **settings, resume=path)
    last = Interrupting(None)
    assert bytes_of(bv.estimate_volume(trained, last, blobs, **settings, resume=path)) == expected
    assert last.num_calls < 0.95 * whole.num_calls  # what was solved is not solved again
    again = Interrupting(None)
    assert bytes_of(bv.estimate_volume(trained, again, blobs, **settings, resume=path)) == expected
    assert again.num_calls < 10  # the landscape is looked at, and nothing is measured


SMALL_GROUPS = {"num_chains": 16, "num_groups": 2}
CHAINS: dict[str, dict[str, Any]] = {
    "hit-and-run": {
        "method": "hit-and-run",
        "method_options": {"num_walkers": 16, "num_groups": 2, "num_steps": 4},
        "measure": "gaussian",
    },
    "annealed": {
        "method": "annealed",
        "method_options": {**SMALL_GROUPS, "target_error": 0.12, "most_runs": 4, "num_final": 10},
        "measure": "gaussian",
    },
    "annealed, in Lebesgue measure": {"method": "annealed", "method_options": {**SMALL_GROUPS, "num_final": 10}},
    "splitting": {
        "method": "splitting",
        "method_options": {"num_chains": 32, "num_groups": 2},
        "measure": "gaussian",
        "cutoff": [0.005, 0.01],  # some more loss levels, between which chains are kept
    },
    "direct": {"method": "direct", "measure": "gaussian", "cutoff": [0.005, 0.01]},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("annealed") else []) for name in CHAINS]
)
def test_chains_go_on_where_they_were(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basinvol.estimators.checkpoint._SECONDS", 0.0)
    monkeypatch.setattr("basinvol.estimators.recorded._LARGEST", 0)  # recorded operations would not call the loss
    monkeypatch.setattr("basinvol.estimators.checkpoint._PATIENCE", 0.0)
    model, loss_fn, data = bv.ground_truth.ball(2).task()
    settings: dict[str, Any] = {"cutoff": [0.5, 1.0], "scaling": "none", "num_directions": 8, "probe": False}
    settings |= CHAINS[name]
    settings |= {"sigma": 1.0} if "measure" in settings else {}

    def counted(at: int) -> tuple[Any, list[int]]:
        calls: list[int] = []

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
            return loss_fn(outputs, targets)

        return loss, calls

    whole, all_calls = counted(-1)
    expected = bytes_of(bv.estimate_volume(model, whole, data, **settings))
    repeated = 0
    for share in (0.4, 0.3, 0.2):
        loss, calls = counted(int(share * len(all_calls)))
        with pytest.raises(KeyboardInterrupt):
            bv.estimate_volume(model, loss, data, **settings, resume=tmp_path / "r")
        repeated += len(calls)
    last, calls = counted(-1)
    assert bytes_of(bv.estimate_volume(model, last, data, **settings, resume=tmp_path / "r")) == expected
    assert len(calls) + repeated < 1.5 * len(all_calls)


def test_the_compiled_engine_goes_on_too(trained, blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"cutoff": 0.1, "num_directions": 64, "backend": "native", "resolve": "decisive"}
    expected = bytes_of(bv.estimate_volume(trained, F.cross_entropy, blobs, **settings))
    solve_step, calls = bv.RaySolver._solve_step, []

    def interrupted(self: bv.RaySolver, start: int, stop: int) -> bv.Radii:
        calls.append(start)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return solve_step(self, start, stop)

    monkeypatch.setattr(bv.RaySolver, "_solve_step", interrupted)
    monkeypatch.setattr("basinvol.backends.native._STEP_PER_THREAD", 4)
    with pytest.raises(KeyboardInterrupt):
        bv.estimate_volume(trained, F.cross_entropy, blobs, **settings, resume=tmp_path / "resume", num_threads=1)
    found = bv.estimate_volume(trained, F.cross_entropy, blobs, **settings, resume=tmp_path / "resume", num_threads=1)
    assert bytes_of(found) == expected
    assert calls[10] == calls[9] > 0  # it went on at the block that was interrupted


KILLED = """
import sys, torch, basinvol as bv
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
x = torch.randn(200, 6)
y = model(x).detach()
def slow(outputs, targets):
    sum(i for i in range(20_000))
    return torch.nn.functional.mse_loss(outputs, targets)
est = bv.estimate_volume(model, slow, (x, y), cutoff=0.1, num_directions=300, backend="reference", probe=False,
                         resume=sys.argv[1] or None)
est.save(sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    script, resume = tmp_path / "script.py", tmp_path / "resume"
    script.write_text(KILLED)

    def command(name: str, kept: str) -> list[str]:
        return [sys.executable, str(script), kept, str(tmp_path / name)]

    subprocess.run(command("whole", ""), check=True)
    killed = 0
    while not (tmp_path / "parts").exists():
        with subprocess.Popen(command("parts", str(resume))) as process:
            size, began = resume.stat().st_size if resume.exists() else 0, time.monotonic()
            while process.poll() is None and time.monotonic() - began < 60:
                time.sleep(0.05)
                if resume.exists() and resume.stat().st_size > size + 2000 and killed < 2:
                    os.kill(process.pid, signal.SIGKILL)
                    killed += 1
                    break
    assert killed == 2
    whole, parts = bv.load(tmp_path / "whole"), bv.load(tmp_path / "parts")
    assert bytes_of(whole) == bytes_of(parts)


@pytest.fixture(scope="module")
def call(trained, blobs) -> dict[str, Any]:
    return {"model": trained, "loss_fn": F.cross_entropy, "data": blobs, "cutoff": 0.1, "num_directions": 8}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 1}, r"belongs to another call: `seed` was 0 and is 1; repeat that call, or choose another file\."),
        ({"cutoff": 0.2}, r"`cutoff` was \(0\.1,\) and is \(0\.2,\)"),
        ({"num_directions": 9, "rtol": 1e-3}, r"`num_directions` was 8 and is 9, `rtol` was 0\.0001 and is 0\.001"),
        ({"exclude": "*.bias"}, r"`perturbed parameters` was \('0\.weight', '0\.bias'.* and is \('0\.weight', "),
        ({"measure": "gaussian", "sigma": 0.1}, r"`measure` was .*lebesgue.* and is .*sigma=0\.1"),
        ({"method": "preconditioned"}, r"`method` was .*star.* and is .*preconditioned"),
        ({"backend": "reference"}, r"`backend` was 'auto' and is 'reference'"),
        ({"loss_fn": nn.CrossEntropyLoss()}, r"`loss_fn` was torch\.nn\.functional\.cross_entropy .* and is .*Cross"),
    ],
)
def test_the_file_of_another_call_is_refused_with_what_differs(
    call: dict[str, Any], change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    bv.estimate_volume(**call, resume=tmp_path / "resume")
    before = (tmp_path / "resume").read_bytes()
    with pytest.raises(ValueError, match=sentence):
        bv.estimate_volume(**{**call, **change}, resume=tmp_path / "resume")
    assert (tmp_path / "resume").read_bytes() == before


def test_other_weights_and_other_data_are_other_calls(call: dict[str, Any], make_mlp, tmp_path: Path) -> None:
    bv.estimate_volume(**call, resume=tmp_path / "resume")
    inputs, labels = call["data"]
    moved = make_mlp([12, 16, 9, 3])
    moved.load_state_dict(call["model"].state_dict())
    with torch.no_grad():
        next(moved.parameters())[0, 0] += 1e-6
    for change, name in (({"data": (inputs + 1e-6, labels)}, "data"), ({"model": moved}, "model")):
        with pytest.raises(ValueError, match=f"`{name}` has other values"):
            bv.estimate_volume(**{**call, **change}, resume=tmp_path / "resume")


def test_a_file_that_is_something_else_is_left_alone(call: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    with pytest.raises(ValueError, match=r"which is not a resume file of basinvol; choose another name"):
        bv.estimate_volume(**call, resume=path)
    assert path.read_text() == "my notes"
    with pytest.raises(ValueError, match=r"which cannot be written: No such file or directory"):
        bv.estimate_volume(**call, resume=tmp_path / "nowhere" / "resume")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "journal"
    with Journal.opened(path, {"seed": "0"}) as opened:
        opened.add("first", b"1" * 100)
        opened.add("second", b"2" * 100)
    return path


@pytest.mark.parametrize("lost", [1, 99, 120, 133])
def test_what_a_kill_cut_off_is_dropped(journal: Path, lost: int) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-lost])
    with Journal.opened(journal, {"seed": "0"}) as opened:
        assert opened.get("first") == b"1" * 100
        assert opened.get("second") is None
        opened.add("second", b"2" * 100)
    assert journal.read_bytes() == whole


def test_bytes_that_a_disk_has_changed_are_dropped(journal: Path) -> None:
    content = bytearray(journal.read_bytes())
    content[-5] ^= 1
    journal.write_bytes(content)
    with Journal.opened(journal, {"seed": "0"}) as opened:
        assert opened.get("second") is None


def test_records_that_were_replaced_do_not_fill_the_disk(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basinvol.storage.journal._LEAST_SUPERSEDED", 1000)
    largest = 0
    with Journal.opened(journal, {"seed": "0"}) as opened:
        for number in range(100):
            opened.add("state", bytes([number]) * 500)
            largest = max(largest, journal.stat().st_size)
            assert opened.get("state") == bytes([number]) * 500
            assert opened.get("first") == b"1" * 100
    assert largest < 3000
    with Journal.opened(journal, {"seed": "0"}) as opened:  # the file that took the place of the first is locked, too
        assert opened.get("state") == bytes([99]) * 500
        opened.add("state", b"new")
        with pytest.raises(ValueError, match="which another process"), Journal.opened(journal, {"seed": "0"}):
            pass
    assert [path.name for path in journal.parent.iterdir()] == ["journal"]


def test_a_disk_without_room_for_a_second_file_keeps_the_first(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("basinvol.storage.journal._LEAST_SUPERSEDED", 0)
    monkeypatch.setattr(Path, "replace", full)
    with Journal.opened(journal, {"seed": "0"}) as opened:
        for number in range(10):
            opened.add("state", bytes([number]) * 500)
    with Journal.opened(journal, {"seed": "0"}) as opened:
        assert opened.get("state") == bytes([9]) * 500
    assert [path.name for path in journal.parent.iterdir()] == ["journal"]


def test_two_processes_cannot_use_one_file(journal: Path) -> None:
    with (
        Journal.opened(journal, {"seed": "0"}),
        pytest.raises(ValueError, match="which another process is using; wait for it"),
        Journal.opened(journal, {"seed": "0"}),
    ):
        pass


def test_a_budget_ends_an_estimate_and_a_resumed_one_goes_on(call: dict[str, Any], tmp_path: Path) -> None:
    def slow(outputs: Tensor, targets: Tensor) -> Tensor:
        time.sleep(1e-3)
        return F.cross_entropy(outputs, targets)

    settings = {**call, "loss_fn": slow, "backend": "reference", "num_directions": 40, "probe": False}
    expected, times = bytes_of(bv.estimate_volume(**settings)), 0
    while True:
        try:
            found = bv.estimate_volume(**settings, resume=tmp_path / "resume", budget_seconds=0.3)
            break
        except bv.BudgetSpent:
            times += 1
    assert times > 0
    assert bytes_of(found) == expected
    with pytest.raises(
        bv.BudgetSpent, match=r"`budget_seconds` of 0\.001 are spent, after [0-9]+ evaluations; raise it"
    ):
        bv.estimate_volume(**settings, budget_seconds=1e-3)
    with pytest.raises(ValueError, match="`budget_seconds` must be a positive number of seconds, got 0"):
        bv.estimate_volume(**call, budget_seconds=0)
