"""How the report words one basin: its number, its interval, its verdict."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from ..describe.description import NO_VARIATION

NOT_A_MINIMUM = "not a minimum"

# Half the width of a 95 % interval in standard errors.
_QUANTILE = NormalDist().inv_cdf(0.975)
_MAX_SEEDS = 5  # that are told one by one


def nats(value: float, sign: str = "") -> str:
    """The number with the digits that are worth reading.

    Args:
        value: the number.
        sign: "+" to write the sign of a positive one, too.
    """
    decimals = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:{sign},.{decimals}f}"


def interval(row: pd.Series[Any]) -> tuple[float, float]:
    """The 95 % interval of log mean r^P that the verdict allows; its upper end is infinite for a lower bound.

    Both ends are infinite where nothing supports a bound.
    """
    value = float(row["log_mean_power"])
    if row["verdict"] == "trustworthy":
        error = float(row["standard_error"])
        reach = _QUANTILE * error if np.isfinite(error) else 0.0
        return value - reach, value + reach
    # The bound on record is of the whole log volume, from which log mean r^P differs by a constant.
    return float(row["lower_bound"]) - float(row["log_volume"]) + value, np.inf


def interval_text(row: pd.Series[Any]) -> str:
    """The 95 % interval in words; "-" where there is none."""
    low, high = interval(row)
    if not np.isfinite(low):
        return "-"
    if not np.isfinite(high):
        return f"at least {nats(low)}"
    decimals = 0 if high - low >= 20 else 2
    return f"{low:,.{decimals}f} to {high:,.{decimals}f}"


def verdict_text(row: pd.Series[Any]) -> str:
    """The verdict, or that the network is not a minimum there."""
    return str(row["verdict"]) if np.isfinite(row["log_mean_power"]) else NOT_A_MINIMUM


def basin_lines(rows: pd.DataFrame) -> tuple[str, ...]:
    """What a figure tells of basins that differ by their seed alone.

    These are the minimum, the landscape, the cutoff, the number with its interval, and the verdict.
    """
    first = rows.iloc[0]
    variant = "" if first["variant"] == NO_VARIATION else f", {first['variant']}"
    lines = [
        f"minimum trained on {first['model_size']:,}{variant}",
        f"landscape of {first['landscape_size']:,}, cutoff {first['cutoff']:g}",
    ]
    if len(rows) == 1:
        return (
            *lines,
            f"log mean r^P {nats(first['log_mean_power'])} nats, seed {first['model_seed']}",
            f"95 % interval: {interval_text(first)}",
            f"verdict: {verdict_text(first)}",
        )
    lines.append(f"log mean r^P {nats(rows['log_mean_power'].mean())} nats, mean of {len(rows)} seeds")
    told = rows.iloc[:_MAX_SEEDS]
    lines += [
        f"seed {row['model_seed']}: {nats(row['log_mean_power'])} (95 %: {interval_text(row)}), {verdict_text(row)}"
        for _, row in told.iterrows()
    ]
    return tuple(lines) if len(told) == len(rows) else (*lines, f"and {len(rows) - len(told)} more seeds")
