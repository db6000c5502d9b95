"""Charts as the plots of plotly's JavaScript, as plain data: one plot for every panel. The page makes the legend."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...figures.style import COLORS
from .chart import INK, Axis, Chart, Panel, Series, Surface, hover_lines
from .tables import row_anchor

_SYMBOLS = {"end": "x-thin-open"}
_CLEAR = "rgba(0,0,0,0)"
_MARGIN_LEFT, _MARGIN_BOTTOM, _MARGIN_TOP = 66, 46, 10  # pixels
_ROOM = 0.06  # of a range, on both sides, for the markers at its ends


def plots(chart: Chart) -> list[dict[str, Any]]:
    """One plot for every panel: `data` and `layout` as plotly.js takes them, without what depends on the theme."""
    last, reach = chart.panels[-1], _reach(chart)
    return [_plot(panel, reach, has_x_title=not chart.is_stacked or panel is last) for panel in chart.panels]


def _plot(panel: Panel, reach: list[float] | None, has_x_title: bool) -> dict[str, Any]:
    traces = [] if panel.surface is None else _surface(panel.surface)
    traces += [trace for series in panel.series for trace in _traces(series, panel)]
    bottom = _MARGIN_BOTTOM if has_x_title else _MARGIN_TOP
    layout: dict[str, Any] = {
        "height": round(90 + 85 * panel.share) + bottom if panel.share > 1 or not has_x_title else 300,
        "margin": {"l": _MARGIN_LEFT, "r": 14, "t": _MARGIN_TOP, "b": bottom},
        "hovermode": "closest",
        "showlegend": False,
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "xaxis": _axis(panel.x) | {"showticklabels": has_x_title},
        "yaxis": _axis(panel.y),
        "hoverlabel": {"align": "left"},
    }
    if reach is not None:
        layout["xaxis"]["range"] = reach
    if has_x_title:
        layout["xaxis"]["title"] = {"text": _markup(panel.x.title), "standoff": 8}
    if panel.surface is not None:
        layout["yaxis"] |= {"scaleanchor": "x", "constrain": "domain"}
        layout["xaxis"]["constrain"] = "domain"
        layout["height"] = 360
    return {"data": traces, "layout": layout}


def _traces(series: Series, panel: Panel) -> list[dict[str, Any]]:
    """The series, and the band behind it as a closed outline."""
    color = COLORS[series.color % len(COLORS)]
    meta = {"series": series.name, "ink": series.color == INK}
    shared: dict[str, Any] = {"type": "scatter", "name": series.name, "meta": meta}
    mode = {"line": "lines", "points": "markers", "both": "lines+markers"}[series.marks]
    size = 14 if series.marker == "star" else 8
    symbol = _SYMBOLS.get(series.marker, series.marker)
    # The outline of a thin cross takes the color of its line alone.
    edge = {"width": 2, "color": color} if series.marker == "end" else {"width": 0}
    line: dict[str, Any] = {
        **shared,
        "x": _numbers(series.x),
        "y": _numbers(series.y),
        "mode": f"{mode}+text" if panel.are_named else mode,
        "line": {"color": color, "dash": series.dash, "width": 2},
        "marker": {"color": color, "symbol": symbol, "size": size, "line": edge},
        "opacity": 0.4 if series.is_pale else 1.0,
        "hovertext": ["<br>".join(map(_markup, lines)) for lines in hover_lines(series, panel)],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    if series.rows:
        line["customdata"] = [row_anchor(row) for row in series.rows]
    if panel.are_named:
        line |= {"text": [_markup(series.name)] * len(series.x), "textposition": "top right"}
        line["textfont"] = {"color": "#000000", "size": 13}
        line["marker"] |= {"size": 11, "line": {"width": 1.5, "color": "#ffffff"}}
    if series.low is None or series.high is None:
        return [line]
    band = {
        **shared,
        "x": _numbers(np.concatenate([series.x, series.x[::-1]])),
        "y": _numbers(np.concatenate([series.low, series.high[::-1]])),
        "mode": "lines",
        "fill": "toself",
        "line": {"width": 0, "color": color},
        "fillcolor": _translucent(color),
        "hoverinfo": "skip",
    }
    return [band, line]


def _surface(surface: Surface) -> list[dict[str, Any]]:
    """The loss in bands of color, and the line of the cutoff."""
    height = np.log10(surface.loss)
    ticks = np.linspace(surface.low, surface.high, 5)
    shared = {"type": "contour", "x": _numbers(surface.x), "y": _numbers(surface.y)}
    bands = {
        **shared,
        "z": [_numbers(row) for row in height.clip(surface.low, surface.high)],
        "zmin": surface.low,
        "zmax": surface.high,
        "colorscale": "Viridis",
        "reversescale": True,
        "contours": {"start": surface.low, "end": surface.high, "size": (surface.high - surface.low) / 12},
        "line": {"width": 0},
        "text": [[f"{loss:.3g}" for loss in row] for row in surface.loss],
        "hovertemplate": "loss %{text}<extra></extra>",
        "colorbar": {
            "title": {"text": "loss"},
            "thickness": 12,
            "tickvals": _numbers(ticks),
            "ticktext": [f"{10**tick:.2g}" for tick in ticks],
        },
    }
    if not surface.loss.min() < surface.cutoff < surface.loss.max():
        return [bands]
    at = float(np.log10(surface.cutoff))
    line = {
        **shared,
        "z": [_numbers(row) for row in height],
        "contours": {"start": at, "end": at, "size": 1, "coloring": "none"},
        "line": {"color": "#000000", "width": 2},
        "showscale": False,
        "hoverinfo": "skip",
    }
    return [bands, line]


def _axis(axis: Axis) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "log" if axis.is_log else "linear", "zeroline": False}
    if axis.ticks:
        found |= {
            "tickvals": _numbers([place for place, _ in axis.ticks]),
            "ticktext": [label for _, label in axis.ticks],
        }
    elif axis.decimals is not None:
        found["tickformat"] = f",.{axis.decimals}f"
    if axis.is_log and not axis.ticks:
        found["dtick"] = 1  # decades alone
    if axis.limits == (0.0, None):
        found["rangemode"] = "tozero"
    elif any(limit is not None for limit in axis.limits):
        found["range"] = list(axis.limits)
    return found


def _reach(chart: Chart) -> list[float] | None:
    """The range in x that all panels share, with some room; None for maps and where there is nothing to see."""
    values = [series.x for panel in chart.panels for series in panel.series if len(series.x)]
    if not values or any(panel.surface is not None for panel in chart.panels):
        return None
    found = np.concatenate(values)
    found = np.log10(found) if chart.panels[0].x.is_log else found
    low, high = float(found.min()), float(found.max())
    room = _ROOM * (high - low) or 0.5
    return [low - room, high + room]


def _numbers(values: ArrayLike) -> list[float | None]:
    """The values with the digits that can be seen; null where there is no number."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in np.asarray(values, dtype=float)]


def _translucent(color: str) -> str:
    """The color at the density of a band; black becomes a gray that is seen on any ground."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5)) if color != COLORS[INK] else (128, 128, 128)
    return f"rgba({red},{green},{blue},0.2)"


def _markup(text: str) -> str:
    """The text in plotly's markup."""
    return html.escape(text).replace("r^P", "r<sup>P</sup>")
