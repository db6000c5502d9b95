"""The figure of a single estimate."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .style import COLORS, Drawing, house_style


def plot_weights(radius: NDArray[np.float64], dim: int, scaling: str, title: str) -> Figure:
    """A figure of the radii as a histogram, and of the share of the sum of r^P that the largest directions hold.

    Args:
        radius: positive radii, in scaled coordinates. [n]
        dim: P.
        scaling: name of the scaling, for the axis.
        title: title over both panels.
    """
    log_weights = np.sort(dim * np.log(radius))[::-1]
    weights = np.exp(log_weights - log_weights[0])  # relative to the largest, as r^P itself overflows
    share = weights.cumsum() / weights.sum()
    with house_style():
        figure = Drawing(figsize=(7.0, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.hist(radius, bins=max(10, int(math.sqrt(len(radius)))), color=COLORS[0])
        left.set_xlabel(f"radius ({scaling} scaling)")
        left.set_ylabel("directions")
        right.plot(range(1, len(share) + 1), share, color=COLORS[1], marker=".")
        right.set_xscale("log")
        right.set_ylim(0, 1.05)
        right.set_xlabel("largest directions")
        right.set_ylabel("share of the sum of $r^P$")
        figure.suptitle(title)
    return figure
