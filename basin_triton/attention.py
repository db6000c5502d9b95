"""Computes attention: softmax(factor queries keys' + mask) values, of which the scores are never stored.

Reference: scaled_dot_product_attention of torch.nn.functional. Columns are taken in tiles, and what was summed is
scaled whenever a larger score is found, so that the largest term of a sum is one.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .batched import Matrices, first_of, side_of
from .linear import PRECISIONS
from .loss_math import finite

MASKS = ("none", "chosen", "added")
# Chosen, like the tiles of `linear`, so that every variant compiles without spills; not timed on a device.
_ROWS, _COLUMNS, _FEATURES, _WARPS, _STAGES = 32, 32, 32, 8, 1


@triton.jit(do_not_specialize=["factor"])
def _attention_kernel(
    out,
    out_direction,
    out_example,
    out_batch,
    out_row,
    out_column,
    queries,
    queries_direction,
    queries_example,
    queries_batch,
    queries_row,
    queries_column,
    keys,
    keys_direction,
    keys_example,
    keys_batch,
    keys_row,
    keys_column,
    values,
    values_direction,
    values_example,
    values_batch,
    values_row,
    values_column,
    mask,
    mask_direction,
    mask_example,
    mask_batch,
    mask_row,
    mask_column,
    heads,
    matrix_rows,
    columns,
    features,
    outputs,
    factor,
    IS_CAUSAL: tl.constexpr,
    MASK: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    tiles = tl.cdiv(outputs, BV)
    each = tl.cdiv(matrix_rows, BM) * tiles
    matrix, tile = tl.program_id(0) // each, tl.program_id(0) % each
    example, head = matrix // heads, matrix % heads
    first_row = tile // tiles * BM
    row = first_row + tl.arange(0, BM)[:, None]
    unit = tile % tiles * BV + tl.arange(0, BV)[None, :]
    queries = first_of(queries, direction, queries_direction, example, queries_example, head, queries_batch)
    keys = first_of(keys, direction, keys_direction, example, keys_example, head, keys_batch)
    values = first_of(values, direction, values_direction, example, values_example, head, values_batch)
    mask = first_of(mask, direction, mask_direction, example, mask_example, head, mask_batch)
    queries += row * queries_row
    largest = tl.full((BM,), float("-inf"), dtype=tl.float32)
    weight = tl.zeros((BM,), dtype=tl.float32)
    total = tl.zeros((BM, BV), dtype=tl.float32)
    stop = tl.minimum(columns, first_row + BM) if IS_CAUSAL else columns
    for begin in range(0, stop, BN):
        column = begin + tl.arange(0, BN)[None, :]
        scores = tl.zeros((BM, BN), dtype=tl.float32)
        for feature in range(0, features, BK):
            k_row, k_column = feature + tl.arange(0, BK)[None, :], feature + tl.arange(0, BK)[:, None]
            q = tl.load(queries + k_row * queries_column, mask=(row < matrix_rows) & (k_row < features), other=0.0)
            at = column * keys_row + k_column * keys_column
            k = tl.load(keys + at, mask=(column < columns) & (k_column < features), other=0.0)
            scores = tl.dot(q * factor, k, scores, input_precision=PRECISION)
        is_seen = column < columns
        if IS_CAUSAL:
            is_seen = is_seen & (column <= row)
        if MASK != "none":
            inside = (row < matrix_rows) & (column < columns)
            given = tl.load(mask + row * mask_row + column * mask_column, mask=inside, other=0.0)
            if MASK == "added":
                scores += given
            else:
                is_seen = is_seen & (given != 0.0)
        scores = tl.where(is_seen, scores, float("-inf"))
        above = tl.maximum(largest, tl.max(scores, axis=1))
        zero = finite(above)
        shares = tl.exp(scores - zero[:, None])
        shrunk = tl.exp(largest - zero)
        weight = weight * shrunk + tl.sum(shares, axis=1)
        v_row = begin + tl.arange(0, BN)[:, None]
        v = tl.load(
            values + v_row * values_row + unit * values_column, mask=(v_row < columns) & (unit < outputs), other=0.0
        )
        total = total * shrunk[:, None] + tl.dot(shares, v, input_precision=PRECISION)
        largest = above
    total = tl.div_rn(total, weight[:, None] + tl.zeros((BM, BV), dtype=tl.float32))  # NaN where nothing is seen
    out = first_of(out, direction, out_direction, example, out_example, head, out_batch)
    tl.store(out + row * out_row + unit * out_column, total, mask=(row < matrix_rows) & (unit < outputs))


def attention(
    out: Matrices,
    queries: Matrices,
    keys: Matrices,
    values: Matrices,
    mask: Matrices | None,
    heads: int,
    rows: int,
    columns: int,
    features: int,
    outputs: int,
    directions: int,
    examples: int,
    *,
    factor: float,
    is_causal: bool = False,
    is_added: bool = False,
    precision: str = "fp32",
) -> None:
    """Write the attention of every head to `out` [rows, outputs].

    Args:
        out: The results.
        queries, keys, values: [rows, features], [columns, features] and [columns, outputs] of each head.
        mask: [rows, columns] of each head, or None.
        heads: How many heads an example has.
        rows, columns, features, outputs: Their sizes.
        directions, examples: How many.
        factor: What scores are multiplied by.
        is_causal: Whether a row sees only the columns up to its own.
        is_added: Whether the mask is added to the scores; otherwise columns where it is 0 are not seen.
        precision: "fp32", "tf32x3" or "tf32"; see `linear.PRECISIONS`.
    """
    matrices = heads * examples
    if matrices == 0 or directions == 0:
        return
    high, wide, deep = min(_ROWS, side_of(rows)), side_of(outputs), min(_FEATURES, side_of(features))
    grid = (matrices * triton.cdiv(rows, high) * triton.cdiv(outputs, wide), directions)
    arguments = [
        argument
        for part in (out, queries, keys, values, mask or queries)
        for argument in (
            part.value.memory,
            part.value.direction,
            part.value.example,
            part.batch,
            part.row,
            part.column,
        )
    ]
    _attention_kernel[grid](
        *arguments,
        heads,
        rows,
        columns,
        features,
        outputs,
        factor,
        IS_CAUSAL=is_causal,
        MASK=MASKS[0 if mask is None else 1 + is_added],
        PRECISION=PRECISIONS[precision],
        BM=high,
        BN=_COLUMNS,
        BK=deep,
        BV=wide,
        num_warps=_WARPS,
        num_stages=_STAGES,
        enable_fp_fusion=True,
    )
