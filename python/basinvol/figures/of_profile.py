"""The figure of a loss profile."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .style import COLORS, UNITS, Drawing, house_style


def plot_quantiles(
    radius: NDArray[np.float64],
    quantiles: NDArray[np.float64],
    center_loss: float,
    scaling: str,
    num_directions: int,
) -> Figure:
    """A figure of the loss against the radius: median, quartiles, 5 % and 95 % over directions.

    Args:
        radius: radii, in scaled coordinates. [R]
        quantiles: quantiles of the loss, from the lowest to the highest. [5, R]
        center_loss: the loss at radius 0.
        scaling: name of the scaling, for the axis.
        num_directions: D, for the title.
    """
    low, quarter, median, three_quarters, high = quantiles
    with house_style():
        figure = Drawing(figsize=(5.0, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(radius, low, high, color=COLORS[0], alpha=0.15, linewidth=0, label="5 % to 95 %")
        axes.fill_between(
            radius, quarter, three_quarters, color=COLORS[0], alpha=0.3, linewidth=0, label="25 % to 75 %"
        )
        axes.plot(radius, median, color=COLORS[0], label="median")
        axes.axhline(center_loss, color=COLORS[6], linestyle=":", label="at the center")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"radius ({UNITS.get(scaling, scaling)})")
        axes.set_ylabel("loss")
        axes.legend()
        axes.set_title(f"Loss along {num_directions} directions", loc="left")
    return figure
