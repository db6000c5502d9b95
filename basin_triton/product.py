"""Computes products with weights in programs: function(x weight' + bias + added).

Each direction has weights of its own, or all share them. Reference: torch.nn.functional.linear, a sum and the function.
Precisions are those of `linear`, and a sum is added up in float32 block by block of the depth, as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

from .functions import apply
from .linear import PRECISIONS
from .strided import Strided
from .tiles import Tile, tile_of


@dataclass(frozen=True)
class Rows:
    """Rows of numbers that lie side by side; the rows of all examples follow each other with one stride.

    Attributes:
        value: The memory.
        stride: The floats from one row to the next.
    """

    value: Strided
    stride: int


@dataclass(frozen=True)
class Finish:
    """What is done to the results of a product while they are in registers.

    Attributes:
        bias: A number for each output, side by side, or None.
        added: Rows that are added, or None.
        function: The name of the function that follows, one of `functions.FUNCTIONS`.
        first, second: Its parameters.
    """

    bias: Strided | None = None
    added: Rows | None = None
    function: str = "identity"
    first: float = 0.0
    second: float = 0.0


@triton.jit
def finished(
    total,
    bias,
    added,
    first,
    second,
    row,
    added_stride,
    unit,
    HAS_BIAS: tl.constexpr,
    HAS_ADDED: tl.constexpr,
    FUNCTION: tl.constexpr,
):
    """Return function(total + bias + added) of a tile. [BM, BN]

    Args:
        total: The tile.
        bias, added: Pointers to what belongs to the tile's first row and output.
        first, second: The parameters of the function.
        row, unit: Rows [BM, 1] and outputs [1, BN], from the tile's first on.
        added_stride: The floats from one row of `added` to the next.
        HAS_BIAS, HAS_ADDED: Whether to read them.
        FUNCTION: The name of the function.
    """
    if HAS_BIAS:
        total += tl.load(bias + unit)
    if HAS_ADDED:
        total += tl.load(added + row * added_stride + unit)
    return apply(total, first, second, FUNCTION)


@triton.jit(do_not_specialize=["rows", "first", "second"])
def _product_kernel(
    out,
    out_direction,
    out_stride,
    x,
    x_direction,
    x_stride,
    weight,
    weight_direction,
    weight_stride,
    bias,
    bias_direction,
    added,
    added_direction,
    added_stride,
    rows,
    depth,
    outputs,
    first,
    second,
    HAS_BIAS: tl.constexpr,
    HAS_ADDED: tl.constexpr,
    FUNCTION: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    tiles = tl.cdiv(outputs, BN)
    start = (tl.program_id(0) // tiles) * BM
    first_unit = (tl.program_id(0) % tiles) * BN
    # Rows and outputs beyond the end repeat the last one, as in `linear`.
    row = tl.minimum(tl.arange(0, BM), rows - 1 - start)[:, None]
    unit = tl.minimum(tl.arange(0, BN), outputs - 1 - first_unit)[None, :]
    x += direction * x_direction + start.to(tl.int64) * x_stride
    weight += direction * weight_direction + first_unit.to(tl.int64) * weight_stride
    at_row, at_unit = row * x_stride, unit * weight_stride
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for begin in range(0, depth, BK):
        k_row, k_column = begin + tl.arange(0, BK)[None, :], begin + tl.arange(0, BK)[:, None]
        left = tl.load(x + at_row + k_row, mask=k_row < depth, other=0.0)
        right = tl.load(weight + at_unit + k_column, mask=k_column < depth, other=0.0)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    bias += direction * bias_direction + first_unit
    added += direction * added_direction + start.to(tl.int64) * added_stride + first_unit
    total = finished(total, bias, added, first, second, row, added_stride, unit, HAS_BIAS, HAS_ADDED, FUNCTION)
    out += direction * out_direction + start.to(tl.int64) * out_stride + first_unit
    mask = (tl.arange(0, BM)[:, None] < rows - start) & (tl.arange(0, BN)[None, :] < outputs - first_unit)
    tl.store(out + row * out_stride + unit, total, mask=mask)


def product(
    out: Rows,
    x: Rows,
    weight: Rows,
    rows: int,
    depth: int,
    outputs: int,
    directions: int,
    *,
    finish: Finish | None = None,
    precision: str = "fp32",
    tile: Tile | None = None,
) -> None:
    """Write function(x weight' + bias + added) to `out`.

    Args:
        out: The result, rows of `outputs` numbers.
        x: Rows of `depth` numbers.
        weight: A row of `depth` numbers for each output, which are the rows of no example.
        rows: How many rows all examples have together.
        depth, outputs: The sizes of the weight.
        directions: How many.
        finish: What follows the product.
        precision: "fp32", "tf32x3" or "tf32"; see `linear.PRECISIONS`.
        tile: How to cut the product, if not as `tiles.tile_of` says.
    """
    if rows == 0 or directions == 0:
        return
    finish = finish or Finish()
    bias, added = finish.bias or x.value, finish.added or x
    tile = tile or tile_of(precision, outputs, device=x.value.memory.device)
    grid = (triton.cdiv(rows, tile.rows) * triton.cdiv(outputs, tile.outputs), directions)
    _product_kernel[grid](
        out.value.memory,
        out.value.direction,
        out.stride,
        x.value.memory,
        x.value.direction,
        x.stride,
        weight.value.memory,
        weight.value.direction,
        weight.stride,
        bias.memory,
        bias.direction,
        added.value.memory,
        added.value.direction,
        added.stride,
        rows,
        depth,
        outputs,
        finish.first,
        finish.second,
        HAS_BIAS=finish.bias is not None,
        HAS_ADDED=finish.added is not None,
        FUNCTION=finish.function,
        PRECISION=PRECISIONS[precision],
        BM=tile.rows,
        BN=tile.outputs,
        BK=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
        enable_fp_fusion=True,
    )
