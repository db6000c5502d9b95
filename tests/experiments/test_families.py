"""Every experiment of the paper runs from its description, and its report follows from the records."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from basinvol.experiments.describe.families import FAMILIES, describe
from basinvol.experiments.report.charts_of_rays import pair_agreement
from basinvol.experiments.report.charts_of_volumes import fixed_landscape
from basinvol.experiments.report.claims import CLAIMS, judge
from basinvol.experiments.report.draw_static import draw
from basinvol.experiments.report.power_law import fit_power_law
from basinvol.experiments.report.report import read_volumes, text_table, write_report
from basinvol.experiments.run.sweep import Sweep
from basinvol.experiments.run.training import build_network
from basinvol.experiments.run.worker import training_runs

SmokeRun = Callable[[str], Path]

NUM_PARAMS = {
    "mnist-data-scaling": 235_146,
    "mnist-cnn-data-scaling": 421_642,
    "fashion-data-scaling": 235_146,
    "cifar10-data-scaling": 1_707_274,
    "cifar10-cnn-data-scaling": 1_276_234,
    "svhn-data-scaling": 1_707_274,
    "nanogpt-data-scaling": 10_745_088,
    "modular-data-scaling": 73_097,
    "swiss-roll": 4_353,
    "mnist-poisoning": 235_146,
    "cifar10-poisoning": 1_707_274,
    "swiss-poisoning": 4_353,
    "mnist-noise": 235_146,
    "mnist-imbalance": 235_146,
    "mnist-batch-size": 235_146,
    "mnist-sam": 235_146,
    "grokking": 73_097,
    "mnist-no-filter": 235_146,
    "mnist-wide": 300_938,  # of the wide one
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_smoke_preset_measures_a_basin_and_judges_its_claims(name: str, smoke_run: SmokeRun) -> None:
    experiment, run = describe(name, "smoke"), smoke_run(name)
    volumes = read_volumes(run)
    num_models = len(experiment.levels) * len(experiment.variants()) * len(experiment.seeds)
    assert len(volumes) == num_models * len(experiment.landscape_levels) * len(experiment.cutoffs)
    inside = volumes[volumes["landscape_loss"] < volumes["cutoff"]]
    assert len(inside) > 0
    assert (inside["num_crossed"] == experiment.num_directions).all()
    assert np.isfinite(inside["log_mean_power"]).all()
    table = text_table(run)
    for claim in judge(volumes, experiment.claims):
        assert f"{claim.verdict}: {claim.text}" in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("modular-data-scaling", {"fixed-landscape", "varying-landscape"}),
        ("swiss-poisoning", {"bad-data"}),
        ("grokking", {"variation"}),
    ],
)
def test_a_report_shows_every_figure_that_there_are_data_for(name: str, figures: set[str], smoke_run: SmokeRun) -> None:
    page = write_report(smoke_run(name)).read_text()
    drawn = {path.stem for path in (smoke_run(name) / "figures").glob("*.svg")}
    assert drawn == figures | {"radius-histograms", "weight-concentration", "ranking-stability"}
    assert page.count("<figure ") == len(drawn)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_paper_preset_has_the_published_number_of_parameters(name: str) -> None:
    network = build_network(describe(name, "paper").variants()[-1].network, model_seed=0)
    assert sum(p.numel() for p in network.parameters()) == NUM_PARAMS[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_descriptions_name_known_claims_and_fit_their_levels(name: str) -> None:
    for preset, experiment in FAMILIES[name].items():
        assert experiment.name == name
        assert experiment.preset == preset
        assert set(experiment.claims) <= set(CLAIMS)
        assert experiment.landscape_levels[-1] <= experiment.levels[-1]


def test_paper_presets_have_the_published_sizes() -> None:
    mnist, cifar = describe("mnist-data-scaling", "paper"), describe("cifar10-data-scaling", "paper")
    modular = describe("modular-data-scaling", "paper")
    assert mnist.landscape_sizes == (60, 600, 2000, 6000, 20000, 60000)
    assert cifar.landscape_sizes == (50, 500, 2000, 5000, 20000, 50000)
    assert modular.landscape_sizes == (470, 940, 1881, 2822, 3292, 3763, 4704, 5645, 6586)
    assert describe("mnist-cnn-data-scaling", "paper").landscape_sizes == (60, 600, 2000, 6000, 20000)


def test_checkpoints_come_from_one_training() -> None:
    runs = training_runs(describe("grokking", "paper"))
    assert len(runs) == len(describe("grokking", "paper").seeds)
    assert [variant.training.epochs for variant in runs[0].variants][-1] == 5000
    assert len(training_runs(describe("mnist-sam", "smoke"))) == 2 * 2  # sizes x optimizers


def test_a_checkpoint_has_the_weights_of_a_training_that_ends_there(smoke_run: SmokeRun, tmp_path: Path) -> None:
    experiment = describe("grokking", "smoke")
    variation = dataclasses.replace(experiment.variation, values=(30,), labels=("epoch 30",))
    Sweep(dataclasses.replace(experiment, variation=variation), tmp_path).run()
    weights = "models/m0-level282-epoch30.safetensors"
    assert (smoke_run("grokking") / weights).read_bytes() == (tmp_path / weights).read_bytes()


@pytest.mark.slow
def test_the_report_needs_no_torch_and_no_folder_of_figures(smoke_run: SmokeRun, tmp_path: Path) -> None:
    out = shutil.copytree(smoke_run("mnist-sam"), tmp_path / "run")
    (out / "figures").rmdir()
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from basinvol.cli import main\n"
        f"sys.exit(main(['report', {str(out)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drawn = {path.name for path in (out / "figures").iterdir()}
    for name in ("fixed-landscape-sam", "variation", "slices", "radius-histograms", "weight-concentration"):
        assert {f"{name}.svg", f"{name}.png"} <= drawn


@pytest.mark.slow
def test_slices_pass_through_the_minima(smoke_run: SmokeRun) -> None:
    run = smoke_run("mnist-sam")
    table, volumes = pd.read_parquet(run / "slices" / "m0.parquet"), read_volumes(run)
    minima = table[table["kind"] == "minimum"]
    assert len(minima) == 3 * 2
    assert set(minima["label"]) == {"60, AdamW", "60, SAM", "200, SAM"}
    first = volumes[(volumes["model_size"] == 60) & (volumes["variant"] == "AdamW")].set_index("landscape_size")
    origin = minima[(minima["x"] == 0) & (minima["y"] == 0)].set_index("landscape_size")["loss"]
    np.testing.assert_allclose(origin, first.loc[origin.index, "landscape_loss"], rtol=1e-3)


def test_the_power_law_finds_the_line_and_an_interval_over_seeds() -> None:
    sizes, seeds = np.array([10, 100, 1000, 10000]), np.arange(8)
    errors = np.random.default_rng(0).normal(0, 5, (4, 8))
    values = -40 * np.log(sizes)[:, None] + 900 + errors
    own = pd.DataFrame(
        {
            "model_size": np.repeat(sizes, 8),
            "model_seed": np.tile(seeds, 4),
            "log_mean_power": values.ravel(),
            "num_params": 100,
        }
    )
    law = fit_power_law(own)
    assert law is not None
    assert law.interval is not None
    deviation = 5 / math.sqrt(8) / math.sqrt(((np.log(sizes) - np.log(sizes).mean()) ** 2).sum())
    assert law.slope == pytest.approx(-40, abs=4 * deviation)
    low, high = law.interval
    assert low < law.slope < high
    assert high - low < 2 * 4 * deviation
    assert fit_power_law(own[own["model_size"] < 1000]) is None


def test_ranking_is_certain_where_every_direction_agrees() -> None:
    weights = np.random.default_rng(0).normal(size=(2, 40))
    _, apart = pair_agreement(np.stack([weights[0], weights[0] - 1.0]))
    assert (apart == 1.0).all()
    counts, alike = pair_agreement(weights)
    assert counts[-1] == 40
    assert alike[-1] == 1.0
    assert alike[0] < 1.0


@pytest.mark.slow
def test_a_run_without_any_minimum_has_a_report(tmp_path: Path) -> None:
    experiment = dataclasses.replace(describe("mnist-wide", "smoke"), cutoffs=(1e-9,), num_directions=3)
    Sweep(experiment, tmp_path).run()
    assert not np.isfinite(read_volumes(tmp_path)["log_mean_power"]).any()
    page = write_report(tmp_path).read_text()
    assert "not measurable" in page
    assert "verdicts: none" in text_table(tmp_path)


def test_rays_that_never_crossed_are_counted_on_the_figure(smoke_run: SmokeRun) -> None:
    volumes = read_volumes(smoke_run("mnist-data-scaling"))

    def notes(rows: pd.DataFrame) -> list[str]:
        return [text.get_text() for text in draw(fixed_landscape(rows, "fixed-landscape")).axes[0].texts]

    assert notes(volumes) == []
    assert notes(volumes.assign(num_censored=2)) == ["6 of 36 rays never crossed"]  # in three basins of 12 rays
