"""The command line as a user runs it: what a command prints, and its exit code."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from basinvol.cli import main

TASK = """
import torch

def make_task():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    x = torch.randn(20, 4)
    with torch.no_grad():
        y = model(x).clone()
    return model, torch.nn.functional.mse_loss, (x, y)

class Speaker(torch.nn.Module):
    "As models of Hugging Face: a batch by name, the loss in the output, positions that do not count."

    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(7, 8), torch.nn.Linear(8, 7)

    def forward(self, input_ids, labels):
        logits = self.head(torch.tanh(self.embed(input_ids)))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return {"loss": loss, "logits": logits}

def a_dictionary():
    torch.manual_seed(0)
    ids = torch.randint(7, (24, 5))
    labels = torch.where(torch.arange(5) < 1 + torch.arange(24)[:, None] % 5, ids, -100)
    return Speaker(), None, {"input_ids": ids, "labels": labels}

def not_a_task():
    return 3

def a_pair():
    return 1, 2
"""


@dataclasses.dataclass(frozen=True)
class Done:
    """What a finished command left."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path


@pytest.fixture
def run(task_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run("info", "--json"): a command in this process, in the folder of the task."""
    monkeypatch.chdir(task_folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "task", raising=False)

    def finish(*arguments: str) -> Done:
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse refuses so
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return finish


def run_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "basinvol", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.slow
def test_estimate_prints_the_verdict_first_and_no_bar_without_a_terminal(task_folder: Path) -> None:
    done = run_process(task_folder, "estimate", "task:make_task", "--directions", "20", "--scaling", "none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("verdict")
    for word in ("log volume", "log unit ball", "log mean r^P", "log det scale", "standard error", "backend"):
        assert word in done.stdout
    assert done.stderr == ""


def test_estimate_prints_the_same_numbers_as_json(run: Run) -> None:
    done = run("estimate", "task:make_task", "--directions", "20", "--scaling", "none", "--json")
    found = json.loads(done.stdout)
    assert found["dim"] == 15
    assert found["num_directions"] == 20
    terms = found["log_unit_ball"] + found["log_mean_power"] + found["log_det_scale"]
    assert found["log_volume"] == pytest.approx(terms, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["estimate", "task"], "the task must be module:make_task, got 'task'."),
        (["estimate", "nowhere:make_task"], "cannot be imported: No module named 'nowhere'"),
        (["estimate", "task:absent"], "has no function 'absent'"),
        (["estimate", "task:not_a_task"], "must return (model, loss_fn, data), got a value of type int."),
        (["estimate", "task:a_pair"], "must return (model, loss_fn, data), got a tuple of 2."),
        (["estimate", "task:make_task", "--cutoff", "-1"], "`cutoff` must be above the loss at the center"),
        (["estimate", "task:make_task", "--directions", "0"], "`num_directions` must be between 1 and 2^32, got 0."),
        (["estimate", "task:make_task", "--backend", "native", "--compile"], "backend 'native' does not compile"),
        (["estimate", "task:make_task", "--backend", "gpu"], "`backend` must be 'auto' or one of"),
        (["estimate", "task:make_task", "--directions", "many"], "invalid int value: 'many'"),
        (["reproduce", "no-such-thing"], "no experiment is called 'no-such-thing'"),
        (["reproduce", "mnist-data-scaling", "--preset", "huge"], "`preset` must be one of"),
        (["report", "."], "holds no run: there is no config.json"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run: Run, arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    first, *advice = done.stderr.splitlines()
    assert sentence in first
    # What a task has to do with a refusal, `doctor` finds: it is named once there is a task to look at.
    is_loaded = arguments[:2] == ["estimate", "task:make_task"] and "many" not in arguments
    found = ["basinvol: what stands in the way is found by: basinvol doctor task:make_task --cutoff 0.1"]
    assert [line.replace("--cutoff -1", "--cutoff 0.1") for line in advice] == (found if is_loaded else [])
    assert done.stdout == ""


def test_bad_input_ends_the_process_with_exit_code_2(task_folder: Path) -> None:
    done = run_process(task_folder, "report", ".")
    assert done.returncode == 2
    assert (
        done.stderr == "basinvol: . holds no run: there is no config.json; give the `--out` of a `reproduce` command.\n"
    )


def test_an_output_that_can_not_be_written_is_refused_before_any_work(run: Run, task_folder: Path) -> None:
    (task_folder / "file").write_text("in the way")
    done = run("reproduce", "mnist-data-scaling", "--preset", "smoke", "--out", "file/run")
    assert done.returncode == 2
    assert "`out` cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


def test_doctor_prints_its_findings(run: Run) -> None:
    done = run("doctor", "task:make_task", "--scaling", "none")
    assert done.returncode == 0, done.stderr
    topics = [line.split()[0] for line in done.stdout.splitlines()]
    for topic in ("dropout", "tied", "determinism", "center", "noise", "monotone", "cost", "verdict"):
        assert topic in topics


def test_a_model_whose_batch_is_a_dictionary_is_measured_from_the_shell(run: Run) -> None:
    records = {}
    for backend in ("auto", "reference"):
        done = run(
            "estimate", "task:a_dictionary", "--cutoff", "3", "--directions", "20", "--backend", backend, "--json"
        )
        assert done.returncode == 0, done.stderr
        records[backend] = json.loads(done.stdout)
    assert records["auto"]["backend"] == "native"
    assert records["auto"]["log_volume"] == pytest.approx(records["reference"]["log_volume"], rel=1e-4)


@pytest.mark.slow
def test_calibrate_prints_case_truth_estimate_error_and_verdict(run: Run) -> None:
    done = run("calibrate", "--directions", "50", "--only", "star")
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split() == ["case", "truth", "estimate", "error", "verdict", "ess", "evaluations"]
    assert row.startswith("star, P = 2")
    hard = run("calibrate", "--directions", "50", "--hard", "--only", "golf", "--most-parameters", "30")
    assert hard.returncode == 0, hard.stderr
    assert hard.stdout.count("golf hole") == 3
    assert "3 cases, 3 called trustworthy, of which 0 are off by more than 2 nats" in hard.stdout
    (record,) = json.loads(run("calibrate", "--directions", "20", "--only", "slab", "--json").stdout)
    assert record["truth"] is None
    assert record["verdict"] != "trustworthy"
    drawn = run("calibrate", "--directions", "20", "--drawn", "3", "--bodies-seed", "4", "--most-parameters", "16")
    assert drawn.returncode == 0, drawn.stderr
    assert [f"body {number} of seed 4" in drawn.stdout for number in range(4)] == [True, True, True, False]
    none = run("calibrate", "--drawn", "0")
    assert none.returncode == 2
    assert "`--drawn` must be at least 1, got 0." in none.stderr
    bad = run("calibrate", "--only", "nothing")
    assert bad.returncode == 2
    assert "no case is called 'nothing'" in bad.stderr


@pytest.mark.slow
def test_calibrate_counts_several_methods_and_goes_on_from_its_file(run: Run, tmp_path: Path) -> None:
    chosen = ("calibrate", "--directions", "20", "--only", "half-space", "--measure", "gaussian", "--out", "out.jsonl")
    first = run(*chosen, "--method", "gaussian")
    assert first.returncode == 0, first.stderr
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    both = run(*chosen, "--method", "gaussian", "preconditioned", "--seeds", "2")
    assert both.returncode == 0, both.stderr
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert lines[0] == line
    assert [(json.loads(part)["method"], json.loads(part)["seed"]) for part in lines] == [
        ("gaussian", 0),
        ("gaussian", 1),
        ("preconditioned", 0),
        ("preconditioned", 1),
    ]
    assert [part.split()[:3] for part in both.stdout.splitlines()[1:3]] == [
        ["gaussian", "gaussian", "0"],
        ["gaussian", "gaussian", "1"],
    ]
    (tmp_path / "out.jsonl").write_text(f"{line}\nnonsense\n")
    bad = run(*chosen)
    assert bad.returncode == 2
    assert "line 2 of out.jsonl is not one that calibrate wrote" in bad.stderr
    nowhere = run("calibrate", "--only", "half-space", "--out", "no/out.jsonl")
    assert nowhere.returncode == 2
    assert "`--out` is no/out.jsonl, in a folder that does not exist; make no first." in nowhere.stderr


def test_estimate_takes_measure_and_method(run: Run) -> None:
    options = ("--measure", "gaussian", "--sigma", "0.5", "--method", "preconditioned", "--scaling", "none")
    done = run("estimate", "task:make_task", "--directions", "50", *options)
    assert done.returncode == 0, done.stderr
    assert "gaussian around the center, sigma 0.5" in done.stdout
    assert "method preconditioned" in done.stdout


def test_info_lists_every_backend(run: Run) -> None:
    found = json.loads(run("info", "--json").stdout)
    assert set(found["backends"]) == {"native", "triton", "cuda", "torch", "reference"}
    assert "CUDA" in found["extension"]
