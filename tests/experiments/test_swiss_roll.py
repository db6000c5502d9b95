"""The swiss roll as published, and through the command's own path."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from basinvol.experiments.data.examples import load
from basinvol.experiments.describe.families import describe
from basinvol.experiments.report.report import read_volumes, write_report
from basinvol.experiments.run.sweep import Sweep

# Fan, Sandlund and Ko 2025: model seed 1, data seed 11, landscape of 100 points, cutoff 0.1; log mean r^P by level.
PUBLISHED = {780: 4301.621733589883, 180: 5932.342, 380: 4730.676, 80: 4802.680}


def grid_step(log_mean_power: float, dim: int = 4353, count: int = 1000) -> float:
    """What one step of the published grid is worth there, in nats: 2 P ln((k + 1) / k)."""
    radius = math.exp((log_mean_power + math.log(count)) / dim)
    k = 99 * math.sqrt(radius / math.sqrt(dim))
    return 2 * dim * math.log((k + 1) / k)


@pytest.mark.slow
def test_the_published_method_gives_the_published_digits(tmp_path: Path) -> None:
    """Training is chaotic in its last bits: one network comes out bit for bit, the others within two grid steps."""
    paper = describe("swiss-roll", "paper")
    levels = tuple(sorted(PUBLISHED))
    experiment = dataclasses.replace(paper, seeds=(1,), levels=levels, landscapes=(80,), method="paper", slice_points=0)
    Sweep(experiment, tmp_path).run()
    found = read_volumes(tmp_path).set_index("model_level")["log_mean_power"]
    assert found[780] == pytest.approx(PUBLISHED[780], abs=1e-3)
    for level in (80, 180, 380):
        assert found[level] == pytest.approx(PUBLISHED[level], abs=2 * grid_step(PUBLISHED[level]))


def test_classes_are_the_same_spiral_turned_half_way() -> None:
    split = load(describe("swiss-roll", "smoke"), data_seed=11)
    half = len(split.test_inputs) // 2
    np.testing.assert_array_equal(split.test_inputs[:half], -split.test_inputs[half:])
    assert split.test_targets[:half].sum() == 0
    assert split.test_targets[half:].sum() == half


@pytest.mark.slow
def test_the_smoke_preset_runs_with_the_published_method_too(tmp_path: Path) -> None:
    Sweep(dataclasses.replace(describe("swiss-roll", "smoke"), method="paper"), tmp_path).run()
    volumes = read_volumes(tmp_path)
    assert len(volumes) == 4
    assert write_report(tmp_path).exists()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="`method` must be one of 'star', 'paper', got 'best'"):
        dataclasses.replace(describe("swiss-roll", "smoke"), method="best")
