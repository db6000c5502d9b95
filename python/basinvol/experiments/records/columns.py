"""The columns of volumes.csv: the one place that names them. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# A model by its training data, its seed and what was varied.
MODEL_KEYS = ("model_seed", "model_level", "variant")

# What one basin is measured at, for readers that know sizes and not levels.
BASIN_KEYS = ("model_seed", "cutoff", "landscape_size", "model_size", "variant")

# Attributes of `Volume` and of its `Diagnostics` that are columns under their own names. nats, shares or counts
OF_VOLUME = ("log_mean_power", "log_volume", "log_unit_ball", "log_det_scale", "standard_error", "lower_bound")
OF_DIAGNOSTICS = ("ess", "max_share", "z", "k_hat", "split_nats", "cutoff_slope")

# Known only when a run is finished, from timings.csv: each row carries an equal part of its model's time.
SECONDS = "seconds"

# In the order of the file.
VOLUME_COLUMNS = (
    "experiment",
    "model_seed",
    "data_seed",
    "model_level",  # examples taken from the pool
    "model_size",  # base and pool together
    "variant",
    "landscape_level",
    "landscape_size",
    "cutoff",
    "num_params",
    "num_directions",
    "num_crossed",
    "num_censored",
    *OF_VOLUME,
    *OF_DIAGNOSTICS,
    "verdict",
    "reason",
    "landscape_loss",  # of the model on this landscape
    "ends_at",  # examples at which the model's loss passes the cutoff; empty if it never does
    "train_loss",
    "test_loss",
    "test_accuracy",
    "backend",
    "search_pass",  # 0, or the number of the command that added the cutoff
    "evaluations",  # mean per direction, in this pass
    SECONDS,
)

# What one mass is measured at, and the columns of masses.csv in the order of the file.
MASS_KEYS = (*MODEL_KEYS, "landscape_size", "cutoff")
MASS_COLUMNS = (
    "experiment",
    *MODEL_KEYS,
    "model_size",
    "landscape_size",
    "cutoff",
    "method",
    "sigma",
    "log_mass",  # nats
    "standard_error",  # nats
    "verdict",
    "reason",
    "evaluations",
)


def in_order(row: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """A row of volumes.csv with its columns in the order of the file.

    Args:
        row: value of every column by name.
        without: columns that the row does not have yet.

    Raises:
        ValueError: a column is missing or unknown; the message names it.
    """
    wanted = [name for name in VOLUME_COLUMNS if name not in without]
    check_columns("a row of volumes.csv", row, wanted)
    unknown = [name for name in row if name not in wanted]
    if unknown:
        raise ValueError(f"a row of volumes.csv has unknown columns: {', '.join(unknown)}.")
    return {name: row[name] for name in wanted}


def check_columns(what: str, found: Collection[str], wanted: Collection[str] = VOLUME_COLUMNS) -> None:
    """Refuses a row or a table that lacks a column.

    Args:
        what: the row or table, as the message calls it.
        found: names of the columns that it has.
        wanted: names of the columns that it must have.

    Raises:
        ValueError: a column is missing; the message names it.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"{what} lacks columns: {', '.join(missing)}.")
