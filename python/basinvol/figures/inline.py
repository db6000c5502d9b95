"""Small figures as SVG inside of HTML, for notebooks: they need nothing, and take the colors of their surroundings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 360, 120, 6, 18
_FLOOR = _HEIGHT - _BOTTOM
_BLUE, _ORANGE = "#0072B2", "#D55E00"  # of Okabe and Ito, as in the other figures


def histogram(values: NDArray[np.float64], shares: NDArray[np.float64] | None, label: str, alternative: str) -> str:
    """Bars that count values on a logarithmic axis, and beside each the share of a total that its values hold.

    Args:
        values: positive numbers. [n]
        shares: the share of each value in a total; None to draw counts alone. [n]
        label: name of the axis.
        alternative: what the figure shows, in a sentence, for readers who do not see it.
    """
    logs = np.log(values)
    low, high = float(logs.min()), float(logs.max())
    if high - low < 1e-9:  # all are equal but for rounding
        low, high = low - 0.5e-3, high + 0.5e-3
    edges = np.linspace(low, high, max(8, min(36, int(math.sqrt(len(values)) * 1.5))) + 1)
    columns = [(np.histogram(logs, edges)[0].astype(float), _BLUE)]
    if shares is not None:
        columns.append((np.histogram(logs, edges, weights=shares)[0], _ORANGE))
    width = (_WIDTH - 2 * _LEFT) / (len(edges) - 1)
    bars = []
    for place, (heights, color) in enumerate(columns):
        part = width / len(columns)
        for i, height in enumerate(heights / max(float(heights.max()), 1e-300)):
            if height > 0:
                tall = height * (_FLOOR - 6)
                left = _LEFT + i * width + place * part
                bars.append(
                    f'<rect x="{left:.1f}" y="{_FLOOR - tall:.1f}" width="{max(part - 0.6, 0.6):.1f}" '
                    f'height="{tall:.1f}" fill="{color}"/>'
                )
    return _svg(bars, f"{math.exp(low):.4g}", label, f"{math.exp(high):.4g}", alternative)


def lines(x: NDArray[np.float64], rows: Sequence[NDArray[np.float64]], label: str, alternative: str) -> str:
    """Lines over a logarithmic axis, all to one scale; the middle one is drawn stronger.

    Args:
        x: positive numbers, in increasing order. [n]
        rows: heights; where they are not finite, a line is broken. [n] each
        label: name of the axis.
        alternative: what the figure shows, in a sentence, for readers who do not see it.
    """
    finite = np.concatenate([row[np.isfinite(row)] for row in rows])
    if not len(finite):
        return ""
    low, high = float(finite.min()), float(finite.max())
    logs = np.log(x)
    across = (logs - logs[0]) / max(float(logs[-1] - logs[0]), 1e-12) * (_WIDTH - 2 * _LEFT) + _LEFT
    drawn = []
    for i, row in enumerate(rows):
        up = _FLOOR - (row - low) / max(high - low, 1e-300) * (_FLOOR - 6)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, up, strict=True) if math.isfinite(b))
        width = 2 if i == len(rows) // 2 else 0.8
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{_BLUE}" stroke-width="{width}"/>')
    return _svg(drawn, f"{x[0]:.3g}", label, f"{x[-1]:.3g}", alternative)


def _svg(parts: Sequence[str], left: str, middle: str, right: str, alternative: str) -> str:
    def text(x: float, anchor: str, content: str) -> str:
        return (
            f'<text x="{x:g}" y="{_HEIGHT - 5}" text-anchor="{anchor}" font-size="11" fill="currentColor">'
            f"{escape(content)}</text>"
        )

    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{escape(alternative)}" style="max-width:100%">'
        f'<line x1="{_LEFT}" y1="{_FLOOR}" x2="{_WIDTH - _LEFT}" y2="{_FLOOR}" stroke="currentColor" opacity="0.4"/>'
        + "".join(parts)
        + text(_LEFT, "start", left)
        + text(_WIDTH / 2, "middle", middle)
        + text(_WIDTH - _LEFT, "end", right)
        + "</svg>"
    )
