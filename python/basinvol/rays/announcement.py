"""How long a search will take, said once and before it is done."""

from __future__ import annotations

import time
import warnings

# Work that takes longer than this many seconds is announced.
_LONG = 600.0
# The first directions also pay for what is made once.
_FIRST = 64


class Announcement:
    """Warns once how long the work will take, if it is long and no bar on a terminal shows it."""

    def __init__(self, count: int, is_shown: bool) -> None:
        self._count, self._done, self._is_shown = count, 0, is_shown
        self._started = time.perf_counter()

    def update(self, number: int) -> None:
        """Takes the number of directions of a finished block, and warns if the rest will take long."""
        self._done += number
        if self._is_shown or self._done <= _FIRST:
            return
        seconds = (time.perf_counter() - self._started) / self._done * (self._count - self._done)
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
