"""The common style of all figures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito 2008: distinguishable with any kind of color vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# What radii are measured in, by the name of the scaling.
UNITS = {"filter": "filter-normalized units", "none": "units of the parameters"}

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "svg.hashsalt": "basinvol",  # or two equal figures would differ in their bytes
    "svg.fonttype": "none",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Applies the matplotlib settings of all figures within the block."""
    with matplotlib.rc_context(_STYLE):
        yield


class Drawing(Figure):
    """A figure that a notebook shows at the end of a cell: those of matplotlib are shown once pyplot is loaded."""

    def _repr_svg_(self) -> str:
        file = io.StringIO()
        with house_style():
            self.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()
