"""Computes products of two values that both may depend on the examples.

Reference: torch.bmm.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

from .linear import PRECISIONS
from .strided import Strided

# Chosen, like the tiles of `linear`, so that every variant compiles without spills; not timed on a device.
_BK, _WARPS, _STAGES = 16, 4, 3


@dataclass(frozen=True)
class Matrices:
    """Some matrices of every example.

    Attributes:
        value: The memory.
        batch, row, column: The floats from one matrix, row and column to the next.
    """

    value: Strided
    batch: int
    row: int
    column: int


@triton.jit
def first_of(value, direction, value_direction, example, value_example, batch, value_batch):
    """Return a pointer to the first element of a matrix."""
    return value + direction * value_direction + example.to(tl.int64) * value_example + batch.to(tl.int64) * value_batch


@triton.jit
def _batched_kernel(
    out,
    out_direction,
    out_example,
    out_batch,
    out_row,
    out_column,
    x,
    x_direction,
    x_example,
    x_batch,
    x_row,
    x_column,
    y,
    y_direction,
    y_example,
    y_batch,
    y_row,
    y_column,
    batch,
    matrix_rows,
    depth,
    outputs,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    tiles = tl.cdiv(outputs, BN)
    each = tl.cdiv(matrix_rows, BM) * tiles
    matrix, tile = tl.program_id(0) // each, tl.program_id(0) % each
    example, at = matrix // batch, matrix % batch
    row = tile // tiles * BM + tl.arange(0, BM)[:, None]
    unit = tile % tiles * BN + tl.arange(0, BN)[None, :]
    x = first_of(x, direction, x_direction, example, x_example, at, x_batch) + row * x_row
    y = first_of(y, direction, y_direction, example, y_example, at, y_batch) + unit * y_column
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for begin in range(0, depth, BK):
        k_row, k_column = begin + tl.arange(0, BK)[None, :], begin + tl.arange(0, BK)[:, None]
        left = tl.load(x + k_row * x_column, mask=(row < matrix_rows) & (k_row < depth), other=0.0)
        right = tl.load(y + k_column * y_row, mask=(k_column < depth) & (unit < outputs), other=0.0)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    out = first_of(out, direction, out_direction, example, out_example, at, out_batch) + row * out_row
    tl.store(out + unit * out_column, total, mask=(row < matrix_rows) & (unit < outputs))


def batched(
    out: Matrices,
    x: Matrices,
    y: Matrices,
    batch: int,
    rows: int,
    depth: int,
    outputs: int,
    directions: int,
    examples: int,
    *,
    precision: str = "fp32",
) -> None:
    """Write the products of matrices x [rows, depth] and y [depth, outputs] to `out` [rows, outputs].

    Args:
        out, x, y: The results and the factors.
        batch: How many matrices an example has.
        rows, depth, outputs: Their sizes.
        directions, examples: How many.
        precision: "fp32", "tf32x3" or "tf32"; see `linear.PRECISIONS`.
    """
    matrices = batch * examples
    if matrices == 0 or directions == 0:
        return
    high, wide = side_of(rows), side_of(outputs)
    grid = (matrices * triton.cdiv(rows, high) * triton.cdiv(outputs, wide), directions)
    arguments = [
        argument
        for part in (out, x, y)
        for argument in (
            part.value.memory,
            part.value.direction,
            part.value.example,
            part.batch,
            part.row,
            part.column,
        )
    ]
    _batched_kernel[grid](
        *arguments,
        batch,
        rows,
        depth,
        outputs,
        PRECISION=PRECISIONS[precision],
        BM=high,
        BN=wide,
        BK=_BK,
        num_warps=_WARPS,
        num_stages=_STAGES,
        enable_fp_fusion=True,
    )


def side_of(size: int) -> int:
    """Return the side of a tile along a dimension of this size."""
    return next(side for side in (16, 32, 64) if size <= side or side == 64)
