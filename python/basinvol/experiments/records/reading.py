"""A finished run is read as tables. Nothing here needs torch."""

from __future__ import annotations

import io
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
        path: the directory.
        config: what config.json holds.
        volumes: what volumes.csv holds, see `columns`.
        masses: what masses.csv holds; None for a run of rays alone.
    """

    path: Path
    config: dict[str, Any]
    volumes: pd.DataFrame
    masses: pd.DataFrame | None = None

    @classmethod
    def read(cls, path: Path) -> Run:
        """Reads the run at `path`.

        Raises:
            ValueError: there is none, or it is not finished.
        """
        volumes, file = read_volumes(path), path / "masses.csv"
        return cls(path, read_config(path), volumes, _csv(file) if file.exists() else None)

    @property
    def settings(self) -> dict[str, Any]:
        """The experiment as plain values, as `Experiment.settings` gave it."""
        settings: dict[str, Any] = self.config["settings"]
        return settings

    @property
    def main(self) -> pd.DataFrame:
        """The rows at the largest cutoff, which is the one that figures show."""
        rows: pd.DataFrame = self.volumes[self.volumes["cutoff"] == self.volumes["cutoff"].max()]
        return rows

    def radii(self, seed: int, level: int, variant: str) -> pd.DataFrame:
        """The radii of one model: a row per landscape_size, cutoff and direction. Refined radii replace the first ones.

        Args:
            seed: model seed.
            level: number of pool examples that the model was trained on.
            variant: label of its variant.
        """
        name, keys = model_name(seed, level, variant), ["landscape_size", "cutoff", "direction"]
        folder = self.path / "radii"
        parts = [_parquet(path) for path in sorted(folder.glob(f"{name}-block[0-9][0-9][0-9][0-9].parquet"))]
        if not parts:
            raise ValueError(f"{folder} has no radii of {name}; repeat the reproduce command.")
        refined = _parquet(folder / f"{name}-refined.parquet")
        later = [_parquet(path) for path in sorted(folder.glob(f"{name}-cutoffs[0-9][0-9].parquet"))]
        both = pd.concat([*parts, refined, *later])
        rows: pd.DataFrame = both.drop_duplicates(keys, keep="last").sort_values(keys).reset_index(drop=True)
        return rows

    def slices(self) -> pd.DataFrame | None:
        """The losses in the plane through three minima; None if the run has none."""
        paths = sorted((self.path / "slices").glob("*.parquet"))
        return _parquet(paths[0]) if paths else None


def read_volumes(path: Path) -> pd.DataFrame:
    """Reads volumes.csv of a run, see `columns`.

    Raises:
        ValueError: there is no run at `path`, it is not finished, or another version wrote it and a column is missing.
    """
    read_config(path)
    file = path / "volumes.csv"
    try:
        volumes = _csv(file)
    except FileNotFoundError as error:
        raise ValueError(f"{path} has no volumes.csv yet: repeat its reproduce command to finish it.") from error
    check_columns(str(file), volumes.columns)
    return volumes


def _csv(path: Path) -> pd.DataFrame:
    # By its bytes: the path may be on storage that pandas does not know.
    return pd.read_csv(io.BytesIO(path.read_bytes()))


def _parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(path.read_bytes()))


def basins(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows in which the loss of the model is below the cutoff, so that there is a basin."""
    inside: pd.DataFrame = rows[np.isfinite(rows["log_mean_power"])]
    return inside


def own_basins(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a basin in which a model is measured on the data that it was trained on."""
    return basins(rows[rows["model_size"] == rows["landscape_size"]])


def minimum_label(size: int, variant: str, has_sizes: bool) -> str:
    """The name of a minimum in tables and legends.

    Args:
        size: number of examples that it was trained on.
        variant: label of its variant.
        has_sizes: whether minima of several sizes are shown together.
    """
    if variant == NO_VARIATION:
        return f"{size:,}"
    return f"{size:,}, {variant}" if has_sizes else variant
