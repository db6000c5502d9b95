"""How results look in a notebook: a headline, what follows from it, a small figure, and the text to unfold."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Marks at the side of the headline. The words say the same, for those who see no colors.
GOOD, DOUBTFUL, BAD, PLAIN = "#009E73", "#E69F00", "#D55E00", "#999999"


def card(headline: str, sentence: str, rows: Sequence[tuple[str, str]], figure: str, text: str, mark: str) -> str:
    """A result as HTML without scripts; every text is escaped.

    Args:
        headline: what comes first, in bold.
        sentence: what explains it.
        rows: names and values below it.
        figure: SVG, which is inserted as it is; empty for none.
        text: the whole result as text, folded.
        mark: color of the mark at the side.
    """
    table = "".join(
        f'<tr><th scope="row" style="text-align:left;font-weight:normal;padding:0 1em 0 0">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return (
        f'<div style="border-left:4px solid {mark};padding-left:0.8em;margin:0.5em 0;max-width:46em">'
        f"<div><strong>{escape(headline)}</strong></div>"
        f"<div>{escape(sentence)}</div>"
        f'<table style="margin:0.4em 0">{table}</table>'
        f"{figure}"
        f"<details><summary>all values</summary><pre>{escape(text)}</pre></details></div>"
    )


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML with a row of column names; every text is escaped."""
    top = "".join(f'<th scope="col" style="text-align:left">{escape(head)}</th>' for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
