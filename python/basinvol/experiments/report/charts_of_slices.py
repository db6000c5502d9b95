"""The loss in a plane through three minima, on two landscapes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .chart import Axis, Chart, Floats, Panel, Series, Surface, floats

_DISTANCE = "distance in parameter space"
_COLORS = (1, 4, 3)  # that stand out from the colors of the loss


def slices(table: pd.DataFrame, cutoff: float) -> Chart:
    """Contours of the loss on a logarithmic scale; the basin {loss <= cutoff} is outlined.

    Args:
        table: the columns kind ("grid" or "minimum"), label, x, y, landscape_size and loss.
        cutoff: the loss that bounds the basin.
    """
    grid, sizes = table[table["kind"] == "grid"], sorted(table["landscape_size"].unique())
    low, high = _range(grid["loss"].to_numpy(), cutoff)
    panels = []
    for size in sizes:
        surface = grid[grid["landscape_size"] == size].pivot_table(index="y", columns="x", values="loss")
        minima = table[(table["kind"] == "minimum") & (table["landscape_size"] == size)]
        x, y, loss = (floats(values) for values in (surface.columns, surface.index, surface))
        panels.append(
            Panel(
                Axis(_DISTANCE),
                Axis(_DISTANCE),
                tuple(_minimum(color, row) for color, (_, row) in zip(_COLORS, minima.iterrows(), strict=False)),
                title=f"landscape of {size:,} examples",
                surface=Surface(x, y, loss, cutoff, low, high),
                are_named=True,
            )
        )
    return Chart(
        "slices",
        f"Loss in the plane through three minima (line: cutoff {cutoff:g})",
        "The loss in the plane through three minima; the line is the cutoff.",
        tuple(panels),
        legend="minimum",
        is_stacked=False,
    )


def _minimum(color: int, row: pd.Series[float]) -> Series:
    label = str(row["label"])
    told = (f"minimum {label}", f"loss {row['loss']:.3g} on the landscape of {row['landscape_size']:,}")
    return Series(label, floats([row["x"]]), floats([row["y"]]), color, marks="points", hover=(told,))


def _range(losses: Floats, cutoff: float) -> tuple[float, float]:
    """Range of log10 of the loss: nine tenths of the plane are below its end, and it reaches at most two decades from
    the cutoff to either side."""
    finite, middle = losses[np.isfinite(losses) & (losses > 0)], float(np.log10(cutoff))
    low = max(float(np.log10(finite.min())), middle - 2)
    return low, max(min(float(np.log10(np.quantile(finite, 0.9))), middle + 2), low + 1.0)
