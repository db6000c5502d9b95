"""What the Python calls can do, the command line can: every option reaches the library, and programs can read it."""

from __future__ import annotations

import argparse
import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import basinvol as bv
from basinvol.cli import main
from basinvol.cli.commands import _parser
from basinvol.cli.style import highlighted

TASK = """
import torch

def make_task(seed=0):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    x = torch.randn(30, 4)
    return model, torch.nn.functional.mse_loss, (x, model(x).detach())

def other():
    return make_task(1)

def ball():
    import basinvol
    return basinvol.ground_truth.ball(3).task()

def broken():
    model, loss_fn, data = make_task()
    calls = []
    def failing(outputs, targets):
        calls.append(1)
        if len(calls) > 60:
            raise RuntimeError("the device is gone")
        return loss_fn(outputs, targets)
    return model, failing, data
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run("info", "--json"): exit code, standard output and standard error of a command."""
    (tmp_path / "tasks.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "tasks", raising=False)

    def finish(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse refuses so
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return finish


def task(name: str = "make_task") -> tuple[Any, Any, Any]:
    import tasks  # of the test's folder

    made: tuple[Any, Any, Any] = getattr(tasks, name)()
    return made


def subcommand(name: str) -> argparse.ArgumentParser:
    (commands,) = [part for part in _parser()._actions if isinstance(part, argparse._SubParsersAction)]
    found: argparse.ArgumentParser = commands.choices[name]
    return found


def test_estimate_has_an_option_for_every_argument() -> None:
    names = {"num_directions": "directions", "num_threads": "threads", "method_options": "method_option"}
    offered = {action.dest for action in subcommand("estimate")._actions}
    given = {"model", "loss_fn", "data", "progress"}  # by make_task, and always
    wanted = [names.get(name, name) for name in inspect.signature(bv.estimate_volume).parameters if name not in given]
    assert [name for name in wanted if name not in offered] == []


def test_options_reach_the_estimate(run: Run) -> None:
    options = ("--directions", "12", "--seed", "4", "--exclude", "*.bias", "--exclude", "0.*", "--batch-size", "7")
    more = ("--cutoff", "0.05,0.2", "--max-steps", "50", "--scaling", "none", "--backend", "reference", "--json")
    code, out, _ = run("estimate", "tasks:make_task", *options, *more)
    assert code == 0
    expected = bv.estimate_volume(
        *task(),
        cutoff=[0.05, 0.2],
        num_directions=12,
        seed=4,
        exclude=["*.bias", "0.*"],
        batch_size=7,
        max_steps=50,
        scaling="none",
        backend="reference",
    )
    assert [record["log_volume"] for record in json.loads(out)] == [estimate.log_volume for estimate in expected]
    assert json.loads(out)[0]["dim"] == 18


def test_settings_of_the_method_reach_it(run: Run) -> None:
    chosen = ("estimate", "tasks:make_task", "--method", "preconditioned", "--directions", "20", "--json")
    code, out, _ = run(*chosen, "--method-option", "num_pilot=60", "--method-option", "fit=grouped")
    assert code == 0
    assert json.loads(out)["fit"] == "grouped"
    assert json.loads(out)["pilot_rays"] == 120
    code, _, error = run(*chosen, "--method-option", "pilot=60")
    assert code == 2
    assert "`method_options` of method 'preconditioned' are" in error
    code, _, error = run(*chosen, "--method-option", "60")
    assert code == 2
    assert "`--method-option` must be NAME=VALUE, got '60'." in error


def test_saved_results_are_shown_and_compared(run: Run, tmp_path: Path) -> None:
    for name in ("make_task", "other"):
        assert run("estimate", f"tasks:{name}", "--directions", "40", "--save", f"{name}.npz")[0] == 0
    saved = [bv.load(tmp_path / f"{name}.npz") for name in ("make_task", "other")]
    assert run("show", "other.npz")[1] == f"{saved[1]}\n"
    assert json.loads(run("show", "other.npz", "--json")[1])["log_volume"] == saved[1].log_volume
    code, out, _ = run("compare", "make_task.npz", "tasks:other", "--directions", "40", "--names", "a,b")
    assert code == 0
    assert out == f"{bv.compare(saved, ['a', 'b'])}\n"
    found = json.loads(run("compare", "make_task.npz", "other.npz", "--json", "--save", "comparison")[1])
    assert found["is_paired"] is True
    assert sorted(found["names"]) == ["make_task.npz", "other.npz"]
    code, _, error = run("compare", "make_task.npz", "comparison")
    assert code == 2
    assert "comparison holds a Comparison, and compare needs estimates." in error
    code, _, error = run("compare", "make_task.npz", "other.npz", "--names", "a")
    assert code == 2
    assert "`--names` must be 2 different names, got a." in error


@pytest.mark.slow
def test_a_learning_coefficient_from_the_shell(run: Run) -> None:
    options = ("--cutoff", "0.05", "--method", "splitting", "--method-option", "num_chains=64")
    code, out, _ = run("learning-coefficient", "tasks:ball", *options, "--method-option", "rounds=1", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["value"] == pytest.approx(1.5, abs=0.75)
    assert found["estimate"]["method"] == "splitting"


def test_an_estimate_goes_on_from_its_file(run: Run) -> None:
    chosen = ("estimate", "tasks:make_task", "--directions", "20", "--resume", "kept", "--json")
    first, again = run(*chosen), run(*chosen)
    assert first == again  # the seconds too: nothing was measured again
    code, _, error = run(*chosen, "--seed", "1")
    assert code == 2
    assert "`resume` is kept, which belongs to another call: `seed` was 0 and is 1" in error


def test_findings_as_json_and_a_code_for_problems(run: Run) -> None:
    code, out, _ = run("doctor", "tasks:make_task", "--cutoff", "-1", "--json")
    assert code == 4
    center = next(finding for finding in json.loads(out) if finding["topic"] == "center")
    assert center["state"] == "problem"
    assert run("doctor", "tasks:ball", "--cutoff", "1", "--scaling", "none")[0] == 0


def test_what_ended_early_has_a_code_of_its_own(run: Run) -> None:
    code, out, error = run("estimate", "tasks:make_task", "--budget-seconds", "1e-9")
    assert (code, out) == (5, "")
    assert error.startswith("basinvol: `budget_seconds` of 1e-09 are spent, after ")
    code, out, error = run("estimate", "tasks:broken", "--backend", "reference", "--directions", "400")
    assert (code, out) == (5, "")
    assert "the search failed at directions" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["--save", "--figure"])
def test_outputs_that_cannot_be_are_refused_before_any_work(run: Run, option: str) -> None:
    code, _, error = run("estimate", "tasks:absent", option, "no/file.tiff")
    assert code == 2
    assert ("in a folder that does not exist" if option == "--save" else "`figure` must end in .svg") in error


@pytest.mark.slow
def test_calibrate_prints_the_lines_of_its_file_as_json(run: Run) -> None:
    chosen = ("calibrate", "--directions", "20", "--only", "slab", "--out", "lines.jsonl", "--json")
    code, out, _ = run(*chosen)
    assert code == 0
    assert run(*chosen)[1] == out
    (record,) = json.loads(out)
    assert record["truth"] is None
    assert record["method"] == "star"


@pytest.mark.slow
def test_calibrate_has_the_same_lines_from_an_executor(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle")
    chosen = ("calibrate", "--directions", "20", "--only", "half-space", "--measure", "gaussian", "--seeds", "2")
    found = {}
    for name, where in (("here", ()), ("there", ("--executor", "local:2"))):
        code, _, error = run(*chosen, "--out", str(tmp_path / name), *where)
        assert code == 0, error
        found[name] = sorted((tmp_path / name).read_text().splitlines())
    assert len(found["here"]) == 2
    assert found["there"] == found["here"]


def test_verdicts_have_colors_for_people_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert highlighted("verdict  lower bound: x", "lower bound") == "verdict  lower bound: x"  # a pipe
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert highlighted("verdict  lower bound: x", "lower bound") == "verdict  \033[33mlower bound\033[0m: x"
    monkeypatch.setenv("TERM", "dumb")
    assert "\033" not in highlighted("verdict  invalid: x", "invalid")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in highlighted("verdict  invalid: x", "invalid")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_shell_completes_commands_options_and_values(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("shtab", reason="shtab is optional")
    code, script, _ = run("completion", "bash")
    assert code == 0
    (tmp_path / "completion.bash").write_text(script)

    def offered(*words: str) -> set[str]:
        program = (
            "source completion.bash; COMP_WORDS=(" + " ".join(f"'{word}'" for word in words) + "); "
            f"COMP_CWORD={len(words) - 1}; "
            "$(complete -p basinvol | sed 's/.*-F \\([^ ]*\\).*/\\1/') basinvol; echo ${COMPREPLY[@]}"
        )
        done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert {"estimate", "compare", "doctor", "completion"} <= offered("basinvol", "")
    assert {"--resume", "--resolve"} <= offered("basinvol", "estimate", "--res")
    assert offered("basinvol", "estimate", "--measure", "") == {"lebesgue", "gaussian", "ball"}
    code, _, error = run("completion", "fish")
    assert code == 2
    assert "`shell` must be one of bash, zsh, tcsh, got 'fish'." in error


def test_values_that_a_shell_offers_are_those_of_the_library() -> None:
    from basinvol.backends import PRECISIONS, backends
    from basinvol.cli.completion import _VALUES
    from basinvol.estimators import METHODS
    from basinvol.model.scale import SCALINGS
    from basinvol.rays.options import RESOLVES
    from basinvol.trust.measures import MEASURES
    from basinvol.trust.result import ON_CENSORED

    assert _VALUES["--method"] == METHODS
    assert _VALUES["--backend"] == ("auto", *backends())
    assert _VALUES["--precision"] == PRECISIONS
    assert _VALUES["--measure"] == MEASURES
    assert _VALUES["--on-censored"] == ON_CENSORED
    assert _VALUES["--resolve"] == RESOLVES
    assert _VALUES["--scaling"] == SCALINGS
