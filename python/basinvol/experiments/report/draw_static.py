"""Charts as matplotlib figures: for the files in figures/, for print, for mail, and for pages without scripts."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis as TickedAxis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from ...figures.style import COLORS
from .chart import Axis, Chart, Panel, Series, Surface

_MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle-up": "^",
    "diamond": "D",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
    "star": "*",
    "end": "x",
}
_DASHES = {"solid": "-", "dot": ":", "dash": "--"}
_WIDTH = 7.0
_NUM_BANDS = 13
_MAX_BESIDE = 25  # letters of a name that leave room for the panel; longer ones go below it


def draw(chart: Chart) -> Figure:
    """The chart as a figure, in the house style if one is applied."""
    panels = chart.panels
    if chart.is_stacked:
        height = 3.2 if len(panels) == 1 else 1.8 + 0.84 * sum(panel.share for panel in panels)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        ratios = [panel.share for panel in panels]
        places = figure.subplots(len(panels), 1, height_ratios=ratios, sharex=True, squeeze=False)[:, 0]
    else:
        is_map = panels[0].surface is not None
        width = 4.4 if len(panels) == 1 else _WIDTH
        figure = Figure(figsize=(width, 3.5 if is_map else 3.2), layout="constrained")
        places = figure.subplots(1, len(panels), sharex=is_map, sharey=is_map, squeeze=False)[0]
    for axes, panel in zip(places, panels, strict=True):
        _draw_panel(axes, panel, has_x_title=not chart.is_stacked or panel is panels[-1])
    _legend(places[0] if chart.is_stacked else places[-1], chart)
    figure.suptitle(chart.title, x=0.01, ha="left", fontsize=10)
    return figure


def _draw_panel(axes: Axes, panel: Panel, has_x_title: bool) -> None:
    if panel.surface is not None:
        _draw_surface(axes, panel.surface)
    for series in panel.series:
        _draw_series(axes, series)
        if panel.are_named:
            _name(axes, series)
    if panel.x.is_log:
        axes.set_xscale("log")
    if panel.y.is_log:
        axes.set_yscale("log")
    for ticked, axis in ((axes.xaxis, panel.x), (axes.yaxis, panel.y)):
        _ticks(ticked, axis)
    axes.set_xlim(*panel.x.limits)
    axes.set_ylim(*panel.y.limits)
    axes.set_xlabel(_math(panel.x.title) if has_x_title else "")
    axes.set_ylabel(_math(panel.y.title))
    if panel.title:
        axes.set_title(panel.title, loc="left")
    if panel.note:
        place = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": 8, "color": COLORS[1]}
        axes.annotate(panel.note, (0.99, 0.98), **place)  # type: ignore[arg-type]


def _draw_series(axes: Axes, series: Series) -> None:
    style = _style(series)
    axes.plot(series.x, series.y, **style)
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=style["color"], alpha=0.15, linewidth=0)


def _style(series: Series) -> dict[str, Any]:
    return {
        "color": COLORS[series.color % len(COLORS)],
        "linestyle": "" if series.marks == "points" else _DASHES[series.dash],
        "marker": "" if series.marks == "line" else _MARKERS[series.marker],
        "markersize": 14 if series.marker == "star" else 5,
        "alpha": 0.35 if series.is_pale else 1.0,
    }


def _name(axes: Axes, series: Series) -> None:
    """Writes the name of a series beside its last point."""
    axes.plot(series.x, series.y, color=COLORS[series.color], marker="o", markeredgecolor="white", markersize=8)
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    place = {"textcoords": "offset points", "xytext": (6, 6), "fontsize": 8, "bbox": box}
    axes.annotate(series.name, (series.x[-1], series.y[-1]), **place)  # type: ignore[arg-type]


def _draw_surface(axes: Axes, surface: Surface) -> None:
    bands = np.linspace(surface.low, surface.high, _NUM_BANDS)
    height = np.log10(surface.loss).clip(surface.low, surface.high)
    filled = axes.contourf(surface.x, surface.y, height, levels=bands, cmap="viridis_r")
    if surface.loss.min() < surface.cutoff < surface.loss.max():
        axes.contour(surface.x, surface.y, surface.loss, levels=[surface.cutoff], colors="black", linewidths=1.2)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    figure = axes.get_figure()
    if figure is not None and axes.get_subplotspec().is_last_col():  # type: ignore[union-attr]
        bar = figure.colorbar(filled, ax=figure.axes, label="loss")
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
        bar.ax.yaxis.set_minor_locator(NullLocator())


def _legend(axes: Axes, chart: Chart) -> None:
    """Adds the legend beside the panels or below them, if there is anything to name."""
    entries = chart.legend_entries()
    if not entries or any(panel.are_named for panel in chart.panels):
        return
    handles = [Line2D([], [], label=entry.name, **_style(entry)) for entry in entries]
    title = chart.legend.replace(" (", "\n(") or None
    if max(len(entry.name) for entry in entries) <= _MAX_BESIDE:
        axes.legend(handles=handles, title=title, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        figure = axes.get_figure()
        assert figure is not None
        figure.legend(handles=handles, title=title, loc="outside lower left", ncols=2)


def _ticks(ticked: TickedAxis, axis: Axis) -> None:
    if axis.is_log:
        ticked.set_minor_locator(NullLocator())
        ticked.set_minor_formatter(NullFormatter())
    if axis.ticks:
        ticked.set_major_locator(FixedLocator([place for place, _ in axis.ticks]))
        ticked.set_major_formatter(FixedFormatter([label for _, label in axis.ticks]))
    elif axis.decimals is not None:
        ticked.set_major_formatter(StrMethodFormatter(f"{{x:,.{axis.decimals}f}}"))


def _math(title: str) -> str:
    return title.replace("ln r^P", "$\\ln r^P$").replace("mean r^P", "mean $r^P$").replace("of r^P", "of $r^P$")
