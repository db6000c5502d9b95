"""The figure of a single estimate."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from .style import COLORS, UNITS, Drawing, house_style


def plot_weights(
    radius: NDArray[np.float64],
    log_weights: NDArray[np.float64],
    scaling: str,
    weight: str,
    title: str,
) -> Figure:
    """A figure of the radii as a histogram, and of the share of the sum of weights that the largest directions hold.

    Args:
        radius: positive radii, in scaled coordinates. [n]
        log_weights: the log of what each direction counts in the average. [n] nats
        scaling: name of the scaling, for the axis.
        weight: what a direction counts, for the axis, such as "$r^P$".
        title: title over both panels.
    """
    ordered = np.sort(log_weights)[::-1]
    share = np.exp(ordered - ordered[0]).cumsum()  # relative to the largest, as r^P itself overflows
    share /= share[-1]
    rank = np.arange(1, len(share) + 1)
    heaviest = radius[log_weights.argmax()]
    with house_style():
        figure = Drawing(figsize=(7.0, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.hist(radius, bins=max(10, int(math.sqrt(len(radius)))), color=COLORS[0])
        left.axvline(heaviest, color=COLORS[1], linestyle="--", label="direction of the largest weight")
        left.set_xlabel(f"radius ({UNITS.get(scaling, scaling)})")
        left.set_ylabel("number of directions")
        right.plot(rank, share, color=COLORS[1], marker=".", label="these directions")
        right.plot(rank, rank / len(rank), color=COLORS[6], linestyle=":", label="if all counted the same")
        right.set_xscale("log")
        right.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        right.set_ylim(0, 1.05)
        right.set_xlabel("number of largest directions")
        right.set_ylabel(f"share of the sum of {weight}")
        for axes in (left, right):
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), borderaxespad=0.2)
        figure.suptitle(title)
    return figure
