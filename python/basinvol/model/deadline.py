"""How long measurements on a landscape may take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


class BudgetSpent(Exception):
    """The error for a measurement that has used up its `budget_seconds`."""


@dataclass(frozen=True)
class Deadline:
    """A number of seconds from now on.

    Attributes:
        seconds: how many.
        started: when they began, by `time.monotonic`.
    """

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def check(self, num_evaluations: int) -> None:
        """Refuses to go on when the seconds are over.

        Raises:
            BudgetSpent: they are.
        """
        if time.monotonic() - self.started > self.seconds:
            raise BudgetSpent(
                f"`budget_seconds` of {self.seconds:g} are spent, after {num_evaluations:,} evaluations; raise it, or "
                "pass `resume` and repeat the call to go on from here."
            )
