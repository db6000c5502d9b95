"""Finished runs, shared by the tests that only read them, and records of a run that are written down by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from basinvol.experiments.describe.families import describe
from basinvol.experiments.records.columns import in_order
from basinvol.experiments.records.run_directory import RunDirectory, model_name
from basinvol.experiments.run.sweep import Sweep


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """smoke_run("swiss-roll"): the directory of that family's smoke run, without a report; treat its records as
    read-only."""
    finished: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in finished:
            finished[name] = tmp_path_factory.mktemp(name)
            Sweep(describe(name, "smoke"), finished[name]).run()
        return finished[name]

    return run


WRITTEN_SIZES = (60, 400, 2000)
WRITTEN_DIM = 1000
_DIRECTIONS = 40


def write_records(path: Path, seeds: tuple[int, ...] = (0, 1), title: str = "Written & <b>not</b> measured") -> Path:
    """Writes the records of a data-scaling run as a sweep leaves them, in no time.

    On the landscape of 400, the minimum trained on 60 is the largest, against the claim; the minimum trained on 60 is
    none on the landscape of 2000. Volumes of 2000 are trustworthy, one is censored, the rest are lower bounds.
    """
    base, levels = WRITTEN_SIZES[0], tuple(size - WRITTEN_SIZES[0] for size in WRITTEN_SIZES)
    experiment = dataclasses.replace(
        describe("mnist-data-scaling", "small"), title=title, levels=levels, seeds=seeds, num_directions=_DIRECTIONS
    )
    directory = RunDirectory(path)
    directory.claim({**experiment.settings(), "backend": "auto", "resolve": "all", "device": None})
    rows, random = [], np.random.default_rng(0)
    for seed in seeds:
        for size in WRITTEN_SIZES:
            radii = []
            for landscape in WRITTEN_SIZES:
                is_basin = not (size == 60 and landscape == 2000)
                middle = 0.6 - 0.05 * math.log(size) - 0.01 * math.log(landscape)
                radius = np.exp(random.normal(middle, 0.002, _DIRECTIONS))
                radii += [(landscape, 0.1, number, value) for number, value in enumerate(radius) if is_basin]
                rows.append(_written_row(seed, size, landscape, radius if is_basin else None))
            name = model_name(seed, size - base, "-")
            table = pd.DataFrame(radii, columns=["landscape_size", "cutoff", "direction", "radius"])
            table.iloc[:-2].to_parquet(directory.block_path(name, 0))
            table.iloc[-2:].to_parquet(directory.refined_path(name))
            directory.model_path(name).touch()
    frame = pd.DataFrame([in_order(row) for row in rows])
    frame.to_csv(path / "volumes.csv", index=False)
    _write_plane(directory, seeds[0])
    return path


def _written_row(seed: int, size: int, landscape: int, radius: np.ndarray[Any, Any] | None) -> dict[str, Any]:
    volume, trusted = -math.inf, size == 2000
    if radius is not None:
        weights = WRITTEN_DIM * np.log(radius)
        volume = float(np.logaddexp.reduce(weights)) - math.log(len(radius))
    return {
        "experiment": "mnist-data-scaling",
        "model_seed": seed,
        "data_seed": 10 + seed,
        "model_level": size - 60,
        "model_size": size,
        "variant": "-",
        "landscape_level": landscape - 60,
        "landscape_size": landscape,
        "cutoff": 0.1,
        "num_params": WRITTEN_DIM,
        "num_directions": _DIRECTIONS,
        "num_crossed": _DIRECTIONS,
        "num_censored": 2 if size == 400 and landscape == 400 else 0,
        "log_mean_power": volume,
        "log_volume": volume - 500.0,
        "log_unit_ball": -400.0,
        "log_det_scale": -100.0,
        "standard_error": 0.25 if trusted else 1.0,
        "lower_bound": volume - 500.0 + math.log(0.05),
        "ess": 35.0 if trusted else 1.5,
        "max_share": 0.1 if trusted else 0.9,
        "z": 0.5,
        "k_hat": 0.1,
        "split_nats": 0.1,
        "cutoff_slope": 10.0,
        "verdict": "trustworthy" if trusted else "censored" if size == landscape == 400 else "lower bound",
        "reason": "",
        "landscape_loss": 0.2 if radius is None else 0.01,
        "ends_at": 1500 if size == 60 else math.nan,
        "train_loss": 0.01,
        "test_loss": 2.0 / math.log(size),
        "test_accuracy": 1 - 2 / math.log(size) ** 2,
        "backend": "native",
        "search_pass": 0,
        "evaluations": 9.0,
        "seconds": 0.5,
    }


def _write_plane(directory: RunDirectory, seed: int) -> None:
    """The losses of a bowl around three minima."""
    steps = np.linspace(-3, 5, 9)
    rows = [
        ("minimum", f"{size:,}", *place) for size, place in zip(WRITTEN_SIZES, ((0, 0), (2, 0), (1, 2)), strict=True)
    ]
    rows += [("grid", "", x, y) for y in steps for x in steps]
    table = pd.DataFrame(rows, columns=["kind", "label", "x", "y"])
    both = pd.concat([table.assign(landscape_size=size, factor=factor) for size, factor in ((60, 1), (400, 2))])
    both["loss"] = both["factor"] * (0.02 + 0.05 * ((both["x"] - 1) ** 2 + (both["y"] - 1) ** 2))
    both.drop(columns="factor").to_parquet(directory.slices_path(seed))


@pytest.fixture(scope="session")
def written_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run whose records were written by hand, see `write_records`; treat it as read-only."""
    return write_records(tmp_path_factory.mktemp("written"))
