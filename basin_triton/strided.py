"""Values of programs as kernels read and write them: strided arrays, of every direction and of every example.

A program is a network as a list of instructions (basinvol's backends/program). Its kernels are `elementwise`,
`by_rows`, `pool`, `embed`, `product`, `convolution`, `depthwise`, `batched`, `attention` and `term_losses`, an
instruction each. All of them work on D directions, the second number of a launch's grid, and on E examples of each.
A number does not depend on what is computed beside it, neither on D nor on E.

Within one direction, elements are counted in 32 bits: E times the size of any value must be below 2^31.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

Extents = Sequence[tuple[int, int]]

OPERANDS = tl.constexpr(3)  # most operands of a loop


@dataclass(frozen=True)
class Strided:
    """The memory of a value.

    Attributes:
        memory: The memory from the first element on. [...] float32
        direction: The floats from one direction to the next; 0 where all directions share the value.
        example: The floats from one example to the next; 0 where all examples share the value.
    """

    memory: Tensor
    direction: int
    example: int


@dataclass(frozen=True)
class Loop:
    """The indices within one example, and where up to three operands are at each of them.

    Attributes:
        table: For each dimension, outermost first: its size, and its stride in every operand. [rank, 4] int32
        rank: The number of dimensions.
        count: The number of indices.
    """

    table: Tensor
    rank: int
    count: int

    @classmethod
    def over(cls, operands: Sequence[Extents], device: torch.device) -> Loop:
        """Return the loop over operands with the same number of elements, whose dimensions may be cut differently.

        Args:
            operands: The (size, stride) of every dimension of each operand, outermost first.
            device: The device that holds the table.

        Raises:
            ValueError: The dimensions have no common division.
        """
        rows, count = [], 1
        for size, *strides in _divided_alike(operands):
            rows.append([size, *strides, *[0] * (OPERANDS.value - len(strides))])
            count *= size
        table = torch.tensor(rows, dtype=torch.int32, device=device).reshape(-1, 1 + OPERANDS.value)
        return cls(table, len(rows), count)


def _divided_alike(operands: Sequence[Extents]) -> list[tuple[int, ...]]:
    """Return (size, stride in every operand) of dimensions that all operands have, outermost first."""
    waiting = [[pair for pair in extents if pair[0] != 1] for extents in operands]
    found: list[tuple[int, ...]] = []
    while any(waiting):
        if not all(waiting):
            raise ValueError("operands of one loop must have the same number of elements.")
        least = min(extents[-1][0] for extents in waiting)
        strides = []
        for extents in waiting:
            size, stride = extents.pop()
            if size % least:
                raise ValueError(f"a dimension of {size} cannot be divided by one of {least}.")
            if size > least:
                extents.append((size // least, stride * least))
            strides.append(stride)
        if found and all(outer == found[-1][0] * inner for outer, inner in zip(strides, found[-1][1:], strict=True)):
            found[-1] = (found[-1][0] * least, *found[-1][1:])
        else:
            found.append((least, *strides))
    return found[::-1]


@triton.jit
def places(loop, index, RANK: tl.constexpr):
    """Return where the three operands of a loop are at an index, from the start of an example.

    Args:
        loop: The table of a `Loop`.
        index: The index, any shape.
        RANK: The number of dimensions of the loop.
    """
    first, second, third = index * 0, index * 0, index * 0
    for d in tl.static_range(RANK):
        row = loop + (RANK - 1 - d) * (1 + OPERANDS)
        size = tl.load(row)
        here = index % size
        index = index // size
        first += here * tl.load(row + 1)
        second += here * tl.load(row + 2)
        third += here * tl.load(row + 3)
    return first, second, third
