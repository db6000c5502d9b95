"""The loss in a plane through three minima, on two landscapes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ...figures.style import COLORS

_NUM_BANDS = 13


def slices(table: pd.DataFrame, cutoff: float) -> Figure:
    """Filled contours of the loss on a logarithmic scale; the basin {loss <= cutoff} is outlined.

    Args:
        table: the columns kind ("grid" or "minimum"), label, x, y, landscape_size and loss.
        cutoff: the loss that bounds the basin.
    """
    sizes = sorted(table["landscape_size"].unique())
    figure = Figure(figsize=(7.0 if len(sizes) > 1 else 4.4, 3.5), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharex=True, sharey=True, squeeze=False)[0]
    grid = table[table["kind"] == "grid"]
    low, high = _range(grid["loss"], cutoff)
    bands = np.linspace(low, high, _NUM_BANDS)
    for axes, size in zip(panels, sizes, strict=True):
        surface = grid[grid["landscape_size"] == size].pivot_table(index="y", columns="x", values="loss")
        height = np.log10(surface.to_numpy()).clip(low, high)
        filled = axes.contourf(surface.columns, surface.index, height, levels=bands, cmap="viridis")
        if surface.to_numpy().min() < cutoff < surface.to_numpy().max():
            axes.contour(surface.columns, surface.index, surface, levels=[cutoff], colors="black", linewidths=1.2)
        minima = table[(table["kind"] == "minimum") & (table["landscape_size"] == size)]
        for color, (_, row) in zip((COLORS[1], COLORS[4], COLORS[3]), minima.iterrows(), strict=False):
            axes.plot(row["x"], row["y"], marker="o", color=color, markeredgecolor="white", markersize=8)
            axes.annotate(
                str(row["label"]),
                (row["x"], row["y"]),
                textcoords="offset points",
                xytext=(6, 6),
                fontsize=8,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )
        axes.set_title(f"landscape of {size:,} examples", loc="left")
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.set_xlabel("distance in parameter space")
    bar = figure.colorbar(filled, ax=list(panels), label=f"loss (black line: cutoff {cutoff:g})")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    return figure


def _range(losses: pd.Series[float], cutoff: float) -> tuple[float, float]:
    """Range of log10 of the loss: nine tenths of the plane are below its end, and it reaches at most two decades from
    the cutoff to either side."""
    finite, middle = losses[np.isfinite(losses) & (losses > 0)], float(np.log10(cutoff))
    low = max(float(np.log10(finite.min())), middle - 2)
    return low, max(min(float(np.log10(finite.quantile(0.9))), middle + 2), low + 1.0)
