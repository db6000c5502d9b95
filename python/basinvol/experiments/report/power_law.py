"""log mean r^P = a ln N + log k through the means over seeds, with an interval from resampled seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_RESAMPLES = 2000
_LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class PowerLaw:
    """A least-squares line through the mean volumes of each size.

    Attributes:
        slope, intercept: a and log k. nats
        per_parameter: a / P. nats
        explained: r^2 of the line.
        interval: 95 % interval of the slope, percentiles over seeds drawn with replacement; None for one seed. It
            tells of the spread over seeds, and not of what few directions leave out of every volume.
    """

    slope: float
    intercept: float
    per_parameter: float
    explained: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        between = (
            "" if self.interval is None else f" (95 % over seeds: {self.interval[0]:,.0f} to {self.interval[1]:,.0f})"
        )
        return (
            f"log mean r^P = {self.slope:,.1f} ln N + {self.intercept:,.1f}, slope{between or ' of one seed'}, "
            f"{self.per_parameter:.4f} per parameter, r^2 = {self.explained:.3f}"
        )


def fit_power_law(own: pd.DataFrame) -> PowerLaw | None:
    """The line through rows of one cutoff and variant, in which every model is on the data that it was trained on.

    It is None where fewer than three sizes are there for every seed.
    """
    table = own.pivot_table(index="model_size", columns="model_seed", values="log_mean_power").dropna()
    if len(table) < 3:
        return None
    log_size, volumes = np.log(table.index.to_numpy(dtype=float)), table.to_numpy()
    slope, intercept = np.polyfit(log_size, volumes.mean(axis=1), 1)
    num_seeds = volumes.shape[1]
    interval = None
    if num_seeds > 1:
        chosen = np.random.default_rng(0).integers(num_seeds, size=(_RESAMPLES, num_seeds))
        slopes = np.polyfit(log_size, volumes[:, chosen].mean(axis=2), 1)[0]
        low, high = np.quantile(slopes, _LEVELS)
        interval = float(low), float(high)
    return PowerLaw(
        slope=float(slope),
        intercept=float(intercept),
        per_parameter=float(slope) / int(own["num_params"].iloc[0]),
        explained=float(np.corrcoef(log_size, volumes.mean(axis=1))[0, 1] ** 2),
        interval=interval,
    )
