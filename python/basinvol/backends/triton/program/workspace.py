"""The memory in which a program runs on a device, and the launches that run it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from basin_triton.strided import Strided

from ...program.program import Operand
from ...program.values import Space
from .launches import Launch, prepared
from .layout import Layout


@dataclass(frozen=True)
class _Place:
    """Memory for chunks of some examples; see `launches.Site`."""

    workspace: Workspace
    rows: int
    precision: str

    def examples(self, stage: Space) -> int:
        return self.rows if stage == Space.BLOCK else 1

    def strided(self, operand: Operand) -> Strided:
        layout, memory = self.workspace.layout, self.workspace
        buffer = operand.value.buffer
        offset = layout.offsets[buffer]
        if buffer.space == Space.CONSTANT:
            return Strided(memory.constants[offset + operand.value.offset :], 0, 0)
        if buffer.space == Space.PERTURBED:
            rows = memory.rows
            return Strided(rows.view(-1)[offset + operand.value.offset :], rows.stride(0), 0)
        # What directions share comes first, then a block for each direction.
        begin = offset * self.rows + operand.value.offset
        if buffer not in layout.varying:
            return Strided(memory.examples[begin:], 0, buffer.size)
        begin += layout.shared_size * self.rows
        return Strided(memory.examples[begin:], layout.block_size * self.rows, buffer.size)


class Workspace:
    """Memory for a chunk of examples of some directions; all of it is written before it is read.

    Args:
        layout: the program.
        constants: numbers that neither parameters nor data change. float32
        directions: how many have parameters of their own at a time.
        floats: most floats of the values of a chunk of examples.
        precision: precision of products.
        device: where.
    """

    def __init__(
        self, layout: Layout, constants: Tensor, directions: int, floats: int, precision: str, device: torch.device
    ) -> None:
        self.layout, self._precision = layout, precision
        *body, self._loss = ((i, prepared(i, device)) for i in layout.instructions)
        self._body = {stage: [pair for pair in body if pair[0].stage == stage] for stage in Space}
        self.constants = torch.zeros(layout.constant_size, dtype=torch.float32, device=device)
        self.constants[: constants.numel()] = constants.to(device)
        self.rows = torch.empty((directions, layout.row_size), dtype=torch.float32, device=device)
        self.examples = torch.empty(floats, dtype=torch.float32, device=device)
        self._chunks: dict[int, tuple[list[_Step], Launch]] = {}
        self._perturbed = self._steps(Space.PERTURBED, 1)
        _run(self._steps(Space.CONSTANT, 1), 1)

    def compute_parameters(self, directions: int) -> None:
        """Computes what depends on the parameters alone, of the first directions."""
        _run(self._perturbed, directions)

    def losses(self, fields: Sequence[Tensor], chosen: slice | Tensor, directions: int, out: Tensor) -> None:
        """Writes the losses of some examples, each summed over its terms.

        Args:
            fields: the data. [N, size] each
            chosen: which examples, R of them.
            directions: of how many, the first.
            out: where to write. [directions or more, R] float64
        """
        rows = out.shape[1]
        steps, loss = self._chunk(rows)
        for buffer, number in self.layout.fields.items():
            begin = self.layout.offsets[buffer] * rows
            held = self.examples[begin : begin + buffer.size * rows]
            held.view(rows, buffer.size).copy_(fields[number][chosen])
        _run(steps, directions)
        loss(directions=directions, out=out)

    def _chunk(self, rows: int) -> tuple[list[_Step], Launch]:
        """What runs on chunks of so many examples."""
        if rows not in self._chunks:
            _, make = self._loss
            self._chunks[rows] = self._steps(Space.BLOCK, rows), make(_Place(self, rows, self._precision))
        return self._chunks[rows]

    def _steps(self, stage: Space, rows: int) -> list[_Step]:
        place = _Place(self, rows, self._precision)
        return [
            _Step(make(place), instruction.output.value.buffer in self.layout.varying)
            for instruction, make in self._body[stage]
        ]


@dataclass(frozen=True)
class _Step:
    """One launch, and whether each direction has a result of its own."""

    launch: Launch
    varies: bool


def _run(steps: Sequence[_Step], directions: int) -> None:
    for step in steps:
        step.launch(directions=directions if step.varies else 1)
