"""How long a search will take, said once and before it is done."""

from __future__ import annotations

import time
import warnings

# Work that takes longer than this many seconds is announced.
_LONG = 600.0
# Fewer directions say little.
_FEWEST = 64


class Announcement:
    """Warns once how long the work will take, if it is long and no bar on a terminal shows it.

    The first block is left out: it also pays for what is made once, and for directions that are solved in full where
    later ones are only proved short.
    """

    def __init__(self, count: int, is_shown: bool) -> None:
        self._count, self._done, self._is_shown = count, 0, is_shown
        self._began: tuple[float, int] | None = None  # when the first block was done, and its size

    def update(self, number: int) -> None:
        """Takes the number of directions of a finished block, and warns if the rest will take long."""
        self._done += number
        now = time.perf_counter()
        if self._began is None:
            self._began = now, self._done
            return
        if self._is_shown or self._done <= _FEWEST:
            return
        began, before = self._began
        seconds = (now - began) / (self._done - before) * (self._count - self._done)
        if seconds > _LONG:
            self._is_shown = True
            warnings.warn(
                f"{self._count:,} directions take about {_duration(seconds)} longer; lower `num_directions`, or pass "
                "progress=True to see how far it is.",
                stacklevel=3,
            )


def _duration(seconds: float) -> str:
    for unit, length in (("years", 3.15576e7), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} seconds"
