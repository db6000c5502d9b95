"""Chains that go on where an earlier, interrupted call has left them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..storage.archive import from_bytes, to_bytes
from .task import Task

_SECONDS = 2.0  # between two writes: a kill loses at most the moves of so long, ...
_PATIENCE = 20.0  # ... or of so many times what a write takes, which is long for chains of a large network


class Checkpoint:
    """The state of the chains of one method in the journal of a call. Without a journal nothing is kept.

    A method calls `restored` before its first move and `keep` between moves, with everything that the rest of its work
    depends on. The state of the generator and the count of evaluations are kept with it.

    Args:
        task: what is measured.
        name: name of the method.
        generator: generator of the random numbers of the chains.
        types: dataclasses that states are made of.
    """

    def __init__(self, task: Task, name: str, generator: torch.Generator, types: Sequence[type] = ()) -> None:
        self._task, self._generator = task, generator
        self._types = {part.__name__: part for part in types}
        self._key = f"chains of {name} at cutoff {task.cutoff!r}"
        self._spent = task.landscape.num_evaluations
        self._start_clock()

    def part(self, name: str) -> Checkpoint:
        """The same for a part of the work, whose state is kept apart from those of other parts."""
        part = copy.copy(self)
        part._key = f"{self._key}, {name}"
        part._start_clock()
        return part

    def restored(self) -> dict[str, Any] | None:
        """The state that was kept last, with the generator as it was then; None if there is none."""
        content = None if self._task.journal is None else self._task.journal.get(self._key)
        if content is None:
            return None
        kept = from_bytes(content, self._types, "`resume`")
        self._generator.set_state(kept["generator"])
        self._task.landscape.count(self._spent + kept["evaluations"] - self._task.landscape.num_evaluations)
        state: dict[str, Any] = kept["state"]
        return state

    def keep(self, state: Mapping[str, Any], at_once: bool = False) -> None:
        """Writes the state, unless the last write was a moment ago.

        Args:
            state: numbers, tensors, dataclasses, and lists and mappings of these.
            at_once: whether to write it in any case.
        """
        if self._task.journal is None or not (at_once or time.monotonic() >= self._next):
            return
        spent = self._task.landscape.num_evaluations - self._spent
        kept = {"state": state, "generator": self._generator.get_state(), "evaluations": spent}
        began = time.monotonic()
        self._task.journal.add(self._key, to_bytes(kept))
        self._start_clock(time.monotonic() - began)

    def once(self, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What an earlier call has made, or what is made and kept now."""
        made = self.restored()
        if made is None:
            made = make()
            self.keep(made, at_once=True)
        return made

    def _start_clock(self, cost: float = 0.0) -> None:
        self._next = time.monotonic() + max(_SECONDS, _PATIENCE * cost)
