"""The figure of a learning coefficient."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .style import COLORS, Drawing, house_style


def plot_line(
    excess: NDArray[np.float64],
    log_mass: NDArray[np.float64],
    fitted: tuple[float, float],
    slope: float,
    title: str,
) -> Figure:
    """A figure of the log mass against the excess loss, with the line that was fitted and where.

    Args:
        excess: losses over that of the center, in increasing order. [n]
        log_mass: the log of the mass there. [n] nats
        fitted: the excess losses between which the line was fitted.
        slope: of the line.
        title: title of the figure.
    """
    inside = (excess >= fitted[0] * (1 - 1e-9)) & (excess <= fitted[1] * (1 + 1e-9))
    x = np.log(excess[inside])
    line = log_mass[inside].mean() + slope * (x - x.mean())
    with house_style():
        figure = Drawing(figsize=(5.0, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.axvspan(*fitted, color=COLORS[0], alpha=0.12, linewidth=0, label="fitted range")
        axes.plot(excess, log_mass, color=COLORS[0], marker=".", linestyle="none", label="chains")
        axes.plot(excess[inside], line, color=COLORS[1], label=f"line of slope {slope:,.3g}")
        axes.set_xscale("log")
        axes.set_xlabel("excess loss (loss less that of the center)")
        axes.set_ylabel("log mass within that loss (nats)")
        axes.legend()
        axes.set_title(title, loc="left")
    return figure
