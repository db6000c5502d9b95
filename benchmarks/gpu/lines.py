"""Lines of results: one for every measurement, and one with its reason for every failure."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Lines:
    """A file of JSON lines, to which one step of a check adds.

    Args:
        path: The file.
        step: The name of the step, which every line says.
    """

    def __init__(self, path: Path, step: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")
        self._step = step
        self.num_failures = 0

    def add(self, name: str, ok: bool = True, **values: Any) -> None:
        """Write one line, and print it; it is on the disk when this returns."""
        self.num_failures += not ok
        line = json.dumps({"step": self._step, "name": name, "ok": ok, **values})
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        print(line, flush=True)

    @contextmanager
    def measuring(self, name: str) -> Iterator[dict[str, Any]]:
        """Write the line of what is put into the yielded dictionary; an exception becomes the line of a failure.

        An entry "ok" that is false makes it a failure too.
        """
        found: dict[str, Any] = {}
        started = time.perf_counter()
        try:
            yield found
        except (Exception, SystemExit) as error:  # noqa: BLE001  (one case must not end the others)
            where = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
            self.add(name, False, reason=reason[:2000], wall_s=round(time.perf_counter() - started, 3))
        else:
            self.add(name, found.pop("ok", True), **found, wall_s=round(time.perf_counter() - started, 3))
