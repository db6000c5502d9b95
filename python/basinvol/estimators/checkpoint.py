"""Chains that go on where an earlier, interrupted call has left them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from ..storage.archive import from_bytes, to_bytes
from .task import Task

_SECONDS = 2.0  # between two writes: a kill loses at most the moves of so long


class Checkpoint:
    """The state of the chains of one method in the journal of a call. Without a journal nothing is kept.

    A method calls `restored` before its first move and `keep` between moves, with everything that the rest of its work
    depends on. The state of the generator and the count of evaluations are kept with it.

    Args:
        task: what is measured.
        name: name of the method, or of the part of it.
        generator: generator of the random numbers of the chains.
    """

    def __init__(self, task: Task, name: str, generator: torch.Generator) -> None:
        self._task, self._generator = task, generator
        self._key = f"chains of {name} at cutoff {task.cutoff!r}"
        self._spent = task.landscape.num_evaluations
        self._written = time.monotonic()

    def restored(self) -> dict[str, Any] | None:
        """The state that was kept last, with the generator as it was then; None if there is none."""
        content = None if self._task.journal is None else self._task.journal.get(self._key)
        if content is None:
            return None
        kept = from_bytes(content, {}, "`resume`")
        self._generator.set_state(kept["generator"])
        self._task.landscape.count(kept["evaluations"])
        state: dict[str, Any] = kept["state"]
        return state

    def keep(self, state: Mapping[str, Any]) -> None:
        """Writes the state if the last write is some seconds ago: numbers, tensors, lists and mappings of these."""
        if self._task.journal is None or time.monotonic() - self._written < _SECONDS:
            return
        spent = self._task.landscape.num_evaluations - self._spent
        kept = {"state": state, "generator": self._generator.get_state(), "evaluations": spent}
        self._task.journal.add(self._key, to_bytes(kept))
        self._written = time.monotonic()
