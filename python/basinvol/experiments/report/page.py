"""The page itself: one file that asks the network for nothing, from a template, a style sheet and a script."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ...figures.style import COLORS
from .chart import Series
from .draw_interactive import plots
from .figures import Drawing
from .tables import row_anchor, row_number


class Page:
    """Renders the page of a run.

    Args:
        is_static: whether it is the plain page, without scripts and without links to files.

    Raises:
        ValueError: plotly is not installed, and the page is not the plain one.
    """

    def __init__(self, is_static: bool) -> None:
        self.is_static = is_static
        self._plotly = "" if is_static else _plotly_script()

    def render(self, drawings: list[Drawing], **content: Any) -> str:
        """The page as HTML.

        Args:
            drawings: the figures.
            **content: what the template names.
        """
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.filters |= {"powers": _powers, "swatch": _swatch}
        return environment.from_string(_asset("report.html.j2")).render(
            is_static=self.is_static,
            style=Markup(_asset("report.css")),
            script=Markup(_asset("report.js")),
            plotly=Markup(self._plotly),
            plots=Markup(_as_json({drawing.chart.name: plots(drawing.chart) for drawing in drawings})),
            picture_of=self._picture,
            row_anchor=row_anchor,
            row_number=row_number,
            drawings=drawings,
            **content,
        )

    def _picture(self, drawing: Drawing) -> str:
        """The picture of a figure as an address that holds it whole: mail programs show PNG more often than SVG."""
        kind, content = ("png", drawing.png) if self.is_static else ("svg+xml", drawing.svg)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _asset(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text()


def _plotly_script() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ValueError(
            "the report with interactive figures needs plotly, which is not installed: "
            "pip install 'basinvol[data]'; or give `--static` for the plain page."
        ) from error
    script: str = get_plotlyjs()
    return script


def _as_json(value: Any) -> str:
    """The value as JSON that can stand in a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _powers(text: str) -> Markup:
    """The text with r^P as it is printed."""
    return Markup.escape(text.replace("mean r^P", "mean\N{NO-BREAK SPACE}r^P")).replace("r^P", Markup("r<sup>P</sup>"))


def _swatch(series: Series) -> Markup:
    """A small picture of a series' line and marker, for the legend."""
    color = COLORS[series.color % len(COLORS)]
    color = "currentColor" if color == "#000000" else color
    dash = {"solid": "", "dot": "2 3", "dash": "6 3"}[series.dash]
    line = "" if series.marks == "points" else f'<path d="M1 8H27" stroke-dasharray="{dash}"/>'
    marker = "" if series.marks == "line" else f'<path d="{_SHAPES[series.marker]}" stroke-width="1" fill="{color}"/>'
    opacity = 0.4 if series.is_pale else 1
    return Markup(
        f'<svg viewBox="0 0 28 16" width="28" height="16" aria-hidden="true" focusable="false" fill="none" '
        f'stroke="{color}" stroke-width="2" opacity="{opacity}">{line}{marker}</svg>'
    )


_SHAPES = {
    "circle": "M10 8a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "square": "M10 4h8v8h-8z",
    "triangle-up": "M14 3l5 9h-10z",
    "diamond": "M14 3l5 5l-5 5l-5 -5z",
    "triangle-down": "M14 13l5 -9h-10z",
    "cross": "M12 3h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
    "x": "M10 6l2 -2l2 2l2 -2l2 2l-2 2l2 2l-2 2l-2 -2l-2 2l-2 -2l2 -2z",
    "star": "M14 2l2 4l4 .5l-3 3l1 4.500l-4 -2.500l-4 2.500l1 -4.500l-3 -3l4 -.5z",
    "end": "M10 4l8 8M18 4l-8 8",
}
