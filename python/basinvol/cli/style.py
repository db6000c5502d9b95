"""Colors in a terminal: for people only, and not for those who have asked for none."""

from __future__ import annotations

import os
import sys

_CODES = {"good": "32", "doubtful": "33", "bad": "31"}
# Words of verdicts and of findings, by what they mean to a reader.
_MEANINGS = {
    "trustworthy": "good",
    "lower bound": "doubtful",
    "censored": "doubtful",
    "invalid": "bad",
    "ok": "good",
    "note": "doubtful",
    "problem": "bad",
}


def has_colors() -> bool:
    """Whether standard output shows colors: a terminal that can, and no NO_COLOR (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def highlighted(text: str, word: str) -> str:
    """The text with the first appearance of a verdict or a finding's state in its color, where colors are shown."""
    meaning = _MEANINGS.get(word)
    if meaning is None or not has_colors():
        return text
    return text.replace(word, f"\033[{_CODES[meaning]}m{word}\033[0m", 1)
