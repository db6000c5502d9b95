"""Published numbers beside those of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from basinvol.experiments.describe.description import Experiment
from basinvol.experiments.describe.families import FAMILIES, describe
from basinvol.experiments.records.reading import Run
from basinvol.experiments.report.published import KNOWN_EXCEPTIONS, beside_published, deviations


def run_of(experiment: Experiment, rows: list[dict[str, Any]]) -> Run:
    settings = json.loads(json.dumps({**experiment.settings(), "device": None}))
    shared = {"variant": "-", "cutoff": 0.1, "num_params": 235146}
    return Run(Path("nowhere"), {"settings": settings}, pd.DataFrame([{**shared, **row} for row in rows]))


def own(seed: int, size: int, value: float) -> dict[str, Any]:
    return {"model_seed": seed, "model_size": size, "landscape_size": size, "log_mean_power": value}


def test_single_numbers_are_compared_at_the_published_seed_alone() -> None:
    rows = [own(0, 60, 1.0), own(1, 60, 922_000.0), own(1, 400, 3.0)]
    (found,) = beside_published(run_of(describe("mnist-data-scaling", "small"), rows))
    assert found.what == "seed 1, cutoff 0.1, landscape of 60, trained on 60"
    assert found.published == 922978.0
    assert found.difference == pytest.approx(-978.0)


def test_a_power_law_is_compared_where_there_are_sizes_enough() -> None:
    sizes = (60, 600, 6000)
    rows = [own(seed, size, -40000 * np.log(size) + 1e6) for seed in (2, 3) for size in sizes]
    slope, intercept, share = beside_published(run_of(describe("mnist-data-scaling", "small"), rows))
    assert slope.published == -43164.1
    assert slope.ours == pytest.approx(-40000)
    assert intercept.ours == pytest.approx(1e6)
    assert share.texts() == ("-0.1836", "-0.1701", "+0.0135")
    assert beside_published(run_of(describe("mnist-data-scaling", "small"), rows[:2])) == []
    assert beside_published(run_of(describe("mnist-noise", "small"), rows)) == []


def test_every_variant_has_its_own_power_law() -> None:
    rows = [{**own(2, size, -float(size)), "variant": v} for size in (60, 600, 6000) for v in ("AdamW", "SAM")]
    found = beside_published(run_of(describe("mnist-sam", "small"), rows))
    assert [row.published for row in found] == [-43164.1, 1121842.7, -0.1836, -34912.5, 1082751.3, -0.1485]


def test_a_smaller_network_is_compared_per_parameter_alone() -> None:
    rows = [own(1, size, -float(size)) for size in (60, 600, 6000)]
    (found,) = beside_published(run_of(describe("mnist-cnn-data-scaling", "smoke"), rows))
    assert found.what == "slope per parameter a / P"
    assert found.published == -0.0853
    assert (
        beside_published(run_of(describe("mnist-data-scaling", "smoke"), rows))[0].what == "slope per parameter a / P"
    )


def test_a_run_says_in_what_it_is_not_the_published_protocol() -> None:
    paper = describe("swiss-roll", "paper")
    assert deviations(run_of(dataclasses.replace(paper, seeds=(1,), method="paper"), [])) == []
    assert deviations(run_of(paper, [])) == ["method (star, not the published grid and generators)"]
    small = deviations(run_of(describe("mnist-poisoning", "small"), []))
    assert small[:3] == ["data", "size of the base", "number of directions"]


def test_known_exceptions_are_of_known_families() -> None:
    assert set(KNOWN_EXCEPTIONS) <= set(FAMILIES)
