"""The options of `reproduce`, as a user gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from basinvol.cli import main
from basinvol.experiments.records.reading import Run
from basinvol.experiments.report.report import command, read_volumes

SWISS = ["reproduce", "swiss-roll", "--preset", "smoke", "--jobs", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every option that changes numbers."""
    out = tmp_path_factory.mktemp("options") / "run"
    options = ["--seeds", "1,2", "--levels", "0,40", "--cutoffs", "0.3,0.2", "--directions", "5", "--method", "paper"]
    assert main([*SWISS, *options, "--backend", "reference", "--out", str(out)]) == 0
    return out


def test_every_option_reaches_the_run(run: Path) -> None:
    volumes = read_volumes(run)
    assert set(volumes["model_seed"]) == {1, 2}
    assert set(volumes["model_size"]) == set(volumes["landscape_size"]) == {20, 60}
    assert set(volumes["cutoff"]) == {0.2, 0.3}
    assert set(volumes["num_directions"]) == {5}
    assert set(volumes["backend"]) == {"reference"}
    assert json.loads((run / "config.json").read_text())["settings"]["method"] == "paper"


@pytest.mark.slow
def test_the_command_in_the_report_finds_nothing_left_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "timings.csv").read_text()
    words = command(Run.read(run)).split()
    assert words[0] == "basinvol"
    assert main(words[1:]) == 0
    assert (run / "timings.csv").read_text() == before
    assert f"report: {run / 'report.html'}" in capsys.readouterr().out


@pytest.mark.slow
def test_levels_of_a_family_with_one_landscape_leave_it_alone(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["reproduce", "swiss-poisoning", "--preset", "smoke", "--jobs", "1", "--levels", "0,5,10"]
    assert main([*arguments, "--out", str(out)]) == 0
    volumes = read_volumes(out)
    assert set(volumes["model_level"]) == {0, 5, 10}
    assert set(volumes["landscape_size"]) == {60}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--jobs", "0"], "`jobs` must be at least 1, got 0."),
        (
            ["--executor", "local:2"],
            "`jobs` is for processes of this machine; leave it out, or say --executor local:N.",
        ),
        (["--levels", "80,0"], "`levels` must be increasing numbers of examples from 0 on, got [80, 0]."),
        (["--seeds", "1,1"], "`seeds` must be different numbers from 0 on, got [1, 1]."),
        (
            ["--method", "best"],
            "`method` must be one of 'star', 'paper', 'annealed', 'splitting', 'direct', got 'best'.",
        ),
        (["--data-dir", "nowhere", "--preset", "paper"], "`data_dir` 'nowhere' has no train-images-idx3-ubyte or"),
    ],
)
def test_bad_options_are_one_sentence(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "mnist-data-scaling", "--jobs", "1", "--preset", "smoke", "--out", str(tmp_path / "run")]
    assert main([*arguments, *options]) == 2
    message = capsys.readouterr().err
    assert sentence in message
    assert message.count("\n") == 1


def test_a_number_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*SWISS, "--cutoffs", "0.1,many"])
    assert "invalid list of numbers value: '0.1,many'" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([*SWISS, "--device", "cuda", "--out", str(tmp_path / "run")]) == 2
    assert "`device` is 'cuda', but no CUDA device is available" in capsys.readouterr().err
    assert main([*SWISS, "--device", "abacus", "--out", str(tmp_path / "run")]) == 2
    assert "`device` must be one that torch knows, such as cpu or cuda, got 'abacus'" in capsys.readouterr().err
