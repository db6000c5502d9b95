"""A figure as data: what it shows and how it reads. It is drawn once as a picture and once for a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# In the order in which series take them, so that lines differ by more than their color.
MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
INK = 6  # the color of what is no series of its own: a mean of all, test loss and accuracy
_MAX_TOLD = 8  # series of a panel that an alternative text goes through


@dataclass(frozen=True)
class Axis:
    """One axis of a panel.

    Attributes:
        title: what is shown, with its unit.
        is_log: whether the axis is logarithmic.
        ticks: positions and labels of the ticks; empty for those that suit.
        limits: where the axis begins and ends; None for where the data do.
        decimals: of the numbers at the ticks; None for as many as suit.
    """

    title: str
    is_log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    limits: tuple[float | None, float | None] = (None, None)
    decimals: int | None = None


@dataclass(frozen=True, eq=False)
class Series:
    """A line, or points, of one color.

    Attributes:
        name: the name in the legend; series of one name are switched on and off together.
        x, y: positions. [n]
        color: number of the color; `INK` for black on white and white on black.
        marks: "line", "points" or "both".
        marker: one of `MARKERS`, "star" or "end".
        is_pale: whether it stands back behind the others.
        dash: "solid", "dot" or "dash".
        low, high: ends of a band around the line; None for no band. [n]
        hover: what is told of each point, line by line; empty for its numbers. [n]
        rows: index of the row of volumes.csv that each point stands for, or begins with; empty for none. [n]
        in_legend: whether the legend names it.
        summary: what an alternative text tells of it; "" for its first and last point.
    """

    name: str
    x: Floats
    y: Floats
    color: int
    marks: Literal["line", "points", "both"] = "both"
    marker: str = "circle"
    is_pale: bool = False
    dash: Literal["solid", "dot", "dash"] = "solid"
    low: Floats | None = None
    high: Floats | None = None
    hover: tuple[tuple[str, ...], ...] = ()
    rows: tuple[int, ...] = ()
    in_legend: bool = True
    summary: str = ""


@dataclass(frozen=True, eq=False)
class Surface:
    """A loss over a plane, on a logarithmic scale.

    Attributes:
        x, y: positions of the columns [n] and rows [m].
        loss: [m, n]
        cutoff: the loss whose line is drawn.
        low, high: ends of the scale, as log10 of the loss.
    """

    x: Floats
    y: Floats
    loss: Floats
    cutoff: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes.

    Attributes:
        x, y: the axes.
        series: what is drawn, from the back to the front.
        title: of the panel, where a figure has several; "" for none.
        note: a remark that is written into the panel; "" for none.
        share: of the height, where panels are stacked.
        surface: a loss behind the series; its panel has equal scales in x and y.
        are_named: whether the name of every series is written beside its points.
    """

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    title: str = ""
    note: str = ""
    share: float = 1.0
    surface: Surface | None = None
    are_named: bool = False


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure as data, however it is drawn.

    Attributes:
        name: of its files, without their ending.
        title: what is to be seen, in a few words.
        caption: what the figure shows, in one sentence.
        panels: one or more.
        legend: title of the legend.
        is_stacked: whether the panels are above each other, with one x axis, and not side by side.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    legend: str = ""
    is_stacked: bool = True

    def legend_entries(self) -> list[Series]:
        """The first series of every name that the legend shows."""
        found: dict[str, Series] = {}
        for panel in self.panels:
            for series in panel.series:
                if series.in_legend:
                    found.setdefault(series.name, series)
        return list(found.values())

    def alternative(self) -> str:
        """What the figure shows in words, for who cannot see it: title, axes, and the ends of every series."""
        return " ".join([f"{self.title}.", *(_told(panel) for panel in self.panels)])


def _told(panel: Panel) -> str:
    what = f"{panel.title}: " if panel.title else ""
    if panel.surface is not None:
        found = panel.surface.loss[np.isfinite(panel.surface.loss)]
        what += f"loss from {found.min():.3g} to {found.max():.3g} over a plane with the minima "
        return what + ", ".join(series.name for series in panel.series) + "."
    what += f"{panel.y.title} against {panel.x.title}"
    shown = [series for series in panel.series if len(series.x)]
    lines = [series for series in shown if series.in_legend] or shown
    ends = [_ends(series, panel) for series in lines[:_MAX_TOLD]]
    more = [f"and {len(lines) - _MAX_TOLD} more"] if len(lines) > _MAX_TOLD else []
    return f"{what}: {'; '.join([*ends, *more])}." if ends else f"{what}."


def _ends(series: Series, panel: Panel) -> str:
    name = f"{series.name}, "
    if series.summary:
        return name + series.summary
    first, last = (f"{number(series.y[i], panel.y)} at {number(series.x[i], panel.x)}" for i in (0, -1))
    return name + (first if len(series.x) == 1 else f"{first} to {last}")


def number(value: float, axis: Axis) -> str:
    """The value as the axis writes it."""
    labels = dict(axis.ticks)
    if value in labels:
        return labels[value]
    return f"{value:,.{axis.decimals}f}" if axis.decimals is not None else f"{value:,.4g}"


def marker_of(index: int) -> str:
    """The marker of series number `index`."""
    return MARKERS[index % len(MARKERS)]


def floats(values: Any) -> Floats:
    """The values as an array. [n] float64"""
    return np.asarray(values, dtype=np.float64)


def hover_lines(series: Series, panel: Panel) -> Iterator[tuple[str, ...]]:
    """What is told of each point: the series' own words, or else its name and numbers."""
    if series.hover:
        yield from series.hover
        return
    for x, y in zip(series.x, series.y, strict=True):
        numbers = f"{panel.x.title}: {number(x, panel.x)}", f"{panel.y.title}: {number(y, panel.y)}"
        yield (series.name, *numbers) if series.name else numbers
