"""The swiss roll as published, and through the command's own path."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from basinvol.experiments.data import load
from basinvol.experiments.families import describe
from basinvol.experiments.report import read_volumes, write_report
from basinvol.experiments.sweep import Sweep


def test_the_published_method_gives_the_published_digits(tmp_path: Path) -> None:
    """Fan, Sandlund and Ko 2025: model seed 1, data seed 11, model level 780, landscape of 100 points, cutoff 0.1."""
    paper = describe("swiss-roll", "paper")
    experiment = dataclasses.replace(paper, seeds=(1,), levels=(80, 780), method="paper")
    Sweep(experiment, tmp_path).run()
    volumes = read_volumes(tmp_path).set_index(["model_level", "landscape_size"])
    assert volumes.loc[(780, 100), "log_mean_power"] == pytest.approx(4301.621733589883, abs=1e-3)


def test_classes_are_the_same_spiral_turned_half_way() -> None:
    split = load(describe("swiss-roll", "smoke"), data_seed=11)
    half = len(split.test_inputs) // 2
    np.testing.assert_array_equal(split.test_inputs[:half], -split.test_inputs[half:])
    assert split.test_targets[:half].sum() == 0
    assert split.test_targets[half:].sum() == half


@pytest.mark.parametrize("method", ["star", "paper"])
def test_the_smoke_preset_runs_with_either_method(tmp_path: Path, method: str) -> None:
    Sweep(dataclasses.replace(describe("swiss-roll", "smoke"), method=method), tmp_path).run()
    volumes = read_volumes(tmp_path)
    assert len(volumes) == 4
    assert write_report(tmp_path).exists()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="`method` must be one of 'star', 'paper', got 'best'"):
        dataclasses.replace(describe("swiss-roll", "smoke"), method="best")
