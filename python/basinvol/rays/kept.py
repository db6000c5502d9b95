"""Rays that an earlier, interrupted call has solved, and where those of this call are kept."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..backends import RayProblem
from ..search.radii import Radii
from ..search.trace import Trace
from ..storage.archive import from_bytes, to_bytes
from ..storage.fingerprint import fingerprint
from ..storage.journal import Journal

_SECONDS = 2.0  # between two writes: a kill loses at most the rays of so long
_TYPES = {"Radii": Radii, "Trace": Trace}


class KeptRays:
    """The rays of one problem in the journal of a call. Without a journal nothing is kept, and nothing is found.

    A range of directions is a pure function of the problem, so that rays are known by the problem and their range.

    Args:
        journal: where rays are kept, or None.
        problem: what is solved.
        resolve: "all" or "decisive", which decides what is solved of it.
    """

    def __init__(self, journal: Journal | None, problem: RayProblem, resolve: str) -> None:
        self._journal = journal
        self._parts: list[Radii] = []
        self._start = 0
        self._written = time.monotonic()
        self._name = ""
        if journal is not None:
            part = (problem.directions, problem.cutoffs, problem.scale, problem.settings, resolve)
            self._name = f"rays {fingerprint(*part)}"

    def once(
        self, stage: str, solve: Callable[[], Radii], on_found: Callable[[Radii], object] = lambda _: None
    ) -> Radii:
        """The radii of a stage, as they were kept, or solved and kept now.

        Args:
            stage: name of the stage.
            solve: solves it.
            on_found: called with radii that were kept, before they are returned.
        """
        if self._journal is None:
            return solve()
        found = self._read(stage)
        if found is None:
            found = solve()
            self._journal.add(f"{self._name} {stage}", to_bytes(found))
        else:
            on_found(found)
        return found

    def block(self, start: int) -> Radii | None:
        """The radii of directions from `start` on, if they were kept."""
        return self._read(f"from {start}")

    def keep(self, start: int, radii: Radii) -> None:
        """Takes the radii of directions from `start` on, which are written some seconds later, or by `flush`."""
        if self._journal is None:
            return
        if start != self._start + sum(map(len, self._parts)):  # not where the last ones end
            self.flush()
        if not self._parts:
            self._start = start
        self._parts.append(radii)
        if time.monotonic() - self._written > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was taken."""
        if self._journal is not None and self._parts:
            self._journal.add(f"{self._name} from {self._start}", to_bytes(Radii.concatenate(self._parts)))
        self._parts, self._written = [], time.monotonic()

    def _read(self, stage: str) -> Radii | None:
        content = None if self._journal is None else self._journal.get(f"{self._name} {stage}")
        if content is None:
            return None
        radii: Radii = from_bytes(content, _TYPES, "`resume`")
        return radii
