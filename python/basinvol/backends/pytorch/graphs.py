"""Evaluation by replaying what was captured once: the host no longer launches every kernel of every batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...inputs.fields import Fields, Inputs
from .evaluators import Evaluator, OnDevice

_SAME = 1e-5  # by how much a replay may differ, relatively to the loss of a unit and to the mean loss

# Takes work on a device, and returns what repeats it on what then lies in the same memory.
Capture = Callable[[Callable[[], None]], Callable[[], None]]


def replaying(eager: OnDevice, capture: Capture, radius: float) -> Evaluator:
    """An evaluator that replays, or the one that is given where the model cannot be replayed.

    What is replayed must have the losses of the model itself, at the center and away from it. A model that waits for
    the device, or branches on its data, cannot be captured.

    Args:
        eager: evaluates by calling the model, at parameters that are turned to a direction.
        capture: what captures.
        radius: where parameters are away from the center.
    """
    # A guard puts such tensors back from memory that is gone when its measurement ends.
    if eager.caller.changes_tensors:
        return eager
    try:
        graphs = OnGraphs(eager, capture)
        is_right = all(_is_same(graphs, eager, at) for at in (0.0, radius))
    except Exception:  # noqa: BLE001  (whatever the model does that cannot be captured, and whatever that raises)
        return eager
    return graphs if is_right else eager


class OnGraphs(OnDevice):
    """Evaluates by replaying one captured batch of each size. See `Evaluator`.

    Rows are copied to where the batch was captured, those of the data in order and those of a proof alike. So the
    number of captures, and the memory that they hold, does not depend on how many examples there are.

    Args:
        eager: evaluates what is not captured.
        capture: what captures.

    Raises:
        Exception: the model does something that cannot be captured; whatever it raises then.
    """

    kind = "CUDA graphs"

    def __init__(self, eager: OnDevice, capture: Capture) -> None:
        super().__init__(eager.units, eager.copy, eager.caller, eager.stop)
        # A replay reads them where they are, also after the user has put others in their place.
        self._alive = eager.caller.attribute_tensors()
        self._captured: dict[int, _Batch] = {}
        for first, last in self.units.batches:
            part = slice(first, last)
            size = _length(self.units.rows(part))
            if size not in self._captured and self.units.factor(part) > 0.0:
                self._captured[size] = _Batch(eager, part, capture)

    def _evaluate(self, which: slice | Tensor, out: Tensor) -> Tensor:
        factor, rows = self.units.factor(which), self.units.rows(which)
        batch = self._captured.get(_length(rows))
        if batch is None or not factor > 0.0:  # the last units of a proof, or a batch in which no target counts
            return super()._evaluate(which, out)
        out.copy_(batch.losses(rows))
        return out if factor == 1.0 else out.mul_(factor)


class _Batch:
    """A batch in memory of its own, and the captured evaluation of what lies there.

    Args:
        eager: the data, the parameters and the model.
        which: the units with which it is captured.
        capture: what captures.
    """

    def __init__(self, eager: OnDevice, which: slice, capture: Capture) -> None:
        units, copy, caller = eager.units, eager.copy, eager.caller
        rows = units.rows(which)
        self._data = units.data
        inputs, targets = (_memory_for(part[rows]) for part in units.data)
        self._memory = inputs, targets
        self._held: slice | None = None
        self._load(rows)
        self._losses = torch.empty_like(units.losses(caller, copy.named, inputs, targets))

        def evaluate() -> None:
            self._losses.copy_(units.losses(caller, copy.named, inputs, targets))

        self._replay = capture(evaluate)

    def losses(self, rows: slice | Tensor) -> Tensor:
        """The losses of the units that some rows are, in memory that the next call writes again. [U] float64"""
        self._load(rows)
        self._replay()
        return self._losses

    def _load(self, rows: slice | Tensor) -> None:
        if isinstance(rows, slice) and rows == self._held:
            return
        for source, memory in zip(self._data, self._memory, strict=True):
            for part, held in zip(_tensors(source), _tensors(memory), strict=True):
                if isinstance(rows, slice):
                    held.copy_(part[rows])
                else:
                    torch.index_select(part, 0, rows.to(part.device), out=held)
        self._held = rows if isinstance(rows, slice) else None


def _is_same(graphs: OnGraphs, eager: OnDevice, radius: float) -> bool:
    eager.copy.place(radius)
    count = len(eager.units.weights)
    expected, found = (torch.zeros(count, dtype=torch.float64) for _ in range(2))
    eager.fill(expected, count)
    graphs.fill(found, count)
    mean = float(expected.abs().nanmean().nan_to_num(posinf=0.0))
    return torch.allclose(found, expected, rtol=_SAME, atol=_SAME * mean, equal_nan=True)


def _length(rows: slice | Tensor) -> int:
    return int(rows.stop - rows.start) if isinstance(rows, slice) else len(rows)


def _tensors(inputs: Inputs) -> list[Tensor]:
    return list(inputs.values.values()) if isinstance(inputs, Fields) else [inputs]


def _memory_for(inputs: Inputs) -> Inputs:
    if isinstance(inputs, Fields):
        return Fields({name: torch.empty_like(part) for name, part in inputs.values.items()}, inputs.is_named)
    return torch.empty_like(inputs)
