"""A finished run as tables. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..describe.description import NO_VARIATION
from .columns import check_columns
from .run_directory import model_name, read_config


@dataclass(frozen=True)
class Run:
    """What a run directory holds.

    Attributes:
        path: of the directory.
        config: config.json.
        volumes: volumes.csv.
    """

    path: Path
    config: dict[str, Any]
    volumes: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> Run:
        """The run at `path`.

        Raises:
            ValueError: there is none, or it is not finished.
        """
        return cls(path, read_config(path), read_volumes(path))

    @property
    def settings(self) -> dict[str, Any]:
        """The experiment, as `Experiment.settings` gave it."""
        settings: dict[str, Any] = self.config["settings"]
        return settings

    @property
    def main(self) -> pd.DataFrame:
        """The rows at the largest cutoff, which figures show."""
        rows: pd.DataFrame = self.volumes[self.volumes["cutoff"] == self.volumes["cutoff"].max()]
        return rows

    def radii(self, seed: int, level: int, variant: str) -> pd.DataFrame:
        """Radii of one model: landscape_size, cutoff, direction, radius, ...; refined where they were."""
        name, keys = model_name(seed, level, variant), ["landscape_size", "cutoff", "direction"]
        folder = self.path / "radii"
        parts = [pd.read_parquet(path) for path in sorted(folder.glob(f"{name}-block[0-9][0-9][0-9][0-9].parquet"))]
        if not parts:
            raise ValueError(f"{folder} has no radii of {name}; repeat the reproduce command.")
        refined = pd.read_parquet(folder / f"{name}-refined.parquet")
        later = [pd.read_parquet(path) for path in sorted(folder.glob(f"{name}-cutoffs[0-9][0-9].parquet"))]
        both = pd.concat([*parts, refined, *later])
        rows: pd.DataFrame = both.drop_duplicates(keys, keep="last").sort_values(keys).reset_index(drop=True)
        return rows

    def slices(self) -> pd.DataFrame | None:
        """Losses in the plane through three minima, if the run has them."""
        paths = sorted((self.path / "slices").glob("*.parquet"))
        return pd.read_parquet(paths[0]) if paths else None


def read_volumes(path: Path) -> pd.DataFrame:
    """Reads volumes.csv of a run, see `columns`.

    Raises:
        ValueError: there is no run at `path`, it is not finished, or another version wrote it and a column is missing.
    """
    read_config(path)
    file = path / "volumes.csv"
    try:
        volumes = pd.read_csv(file)
    except FileNotFoundError as error:
        raise ValueError(f"{path} has no volumes.csv yet: repeat its reproduce command to finish it.") from error
    check_columns(str(file), volumes.columns)
    return volumes


def basins(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which the model is inside its basin."""
    inside: pd.DataFrame = rows[np.isfinite(rows["log_mean_power"])]
    return inside


def own_basins(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which a model is inside its basin on the data that it was trained on."""
    return basins(rows[rows["model_size"] == rows["landscape_size"]])


def minimum_label(size: int, variant: str, has_sizes: bool) -> str:
    """What a minimum is called in tables and legends."""
    if variant == NO_VARIATION:
        return f"{size:,}"
    return f"{size:,}, {variant}" if has_sizes else variant
