"""Looks up rows of a table.

Reference: torch.nn.functional.embedding. Indices are whole numbers in float32, as all data of programs are.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .strided import Loop, Strided, places

_BLOCK = 1024  # elements to a program


@triton.jit(do_not_specialize=["elements"])
def _embed_kernel(
    out,
    out_direction,
    out_example,
    table,
    table_direction,
    entry_stride,
    column_stride,
    indices,
    indices_direction,
    indices_example,
    loop,
    count,
    elements,
    columns,
    RANK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    element = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = element < elements
    position, column = element // columns, element % columns
    example, position = position // count, position % count
    at, _, _ = places(loop, position, RANK)
    index = tl.load(indices + direction * indices_direction + (example * indices_example + at), mask=inside, other=0.0)
    table += direction * table_direction + (index.to(tl.int32) * entry_stride + column * column_stride)
    out += direction * out_direction + (example * out_example + position * columns + column)
    tl.store(out, tl.load(table, mask=inside, other=0.0), mask=inside)


def embed(
    out: Strided,
    table: Strided,
    entry_stride: int,
    column_stride: int,
    columns: int,
    indices: Strided,
    loop: Loop,
    directions: int,
    examples: int,
) -> None:
    """Write the entry of every index to `out`, one after the other.

    Args:
        out: The result, [count, columns] of each example.
        table: The entries.
        entry_stride, column_stride: The floats from one entry, and from one number of an entry, to the next.
        columns: How many numbers an entry has.
        indices: Which entries.
        loop: The indices of an example, in this order.
        directions, examples: How many.
    """
    elements = loop.count * columns * examples
    if elements == 0 or directions == 0:
        return
    _embed_kernel[(triton.cdiv(elements, _BLOCK), directions)](
        out.memory,
        out.direction,
        out.example,
        table.memory,
        table.direction,
        entry_stride,
        column_stride,
        indices.memory,
        indices.direction,
        indices.example,
        loop.table,
        loop.count,
        elements,
        columns,
        RANK=loop.rank,
        BLOCK=_BLOCK,
        enable_fp_fusion=True,
    )
