"""Computes what takes whole rows of numbers that lie side by side: normalizations, the softmax, sums, the largest.

Reference: layer_norm, rms_norm, softmax and log_softmax of torch.nn.functional, and sum, mean and amax of torch. Rows
are summed in float32, each lane of a tile its own part and then the lanes together.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .strided import Loop, Strided, places

KINDS = ("layer_norm", "rms_norm", "softmax", "log_softmax", "sum", "largest")
_TILE = 2048  # elements
_MOST_COLUMNS = 1024


@triton.jit(do_not_specialize=["rows", "number"])
def _by_rows_kernel(
    out,
    out_direction,
    out_example,
    x,
    x_direction,
    x_example,
    weight,
    weight_direction,
    bias,
    bias_direction,
    loop,
    count,
    rows,
    columns,
    number,
    KIND: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RANK: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    is_row = row < rows
    example = row // count
    to, at, _ = places(loop, row % count, RANK)
    x += direction * x_direction + (example * x_example + at)[:, None]
    out += direction * out_direction + (example * out_example + to)[:, None]
    weight += direction * weight_direction
    bias += direction * bias_direction
    lane = tl.arange(0, BN)[None, :]
    row_mask = is_row[:, None]

    is_sum = (KIND == "sum") | (KIND == "layer_norm")
    shift = tl.zeros((BM,), dtype=tl.float32)
    if is_sum:
        total = tl.zeros((BM, BN), dtype=tl.float32)
        for start in range(0, columns, BN):
            total += tl.load(x + start + lane, mask=row_mask & (start + lane < columns), other=0.0)
        shift = tl.sum(total, axis=1)
    elif KIND != "rms_norm":
        best = tl.full((BM, BN), float("-inf"), dtype=tl.float32)
        for start in range(0, columns, BN):
            value = tl.load(x + start + lane, mask=row_mask & (start + lane < columns), other=float("-inf"))
            best = tl.where((value > best) | (value != value), value, best)
        is_nan = tl.max((best != best).to(tl.int32), axis=1) > 0
        shift = tl.where(is_nan, float("nan"), tl.max(tl.where(best != best, float("-inf"), best), axis=1))

    if (KIND == "sum") | (KIND == "largest"):
        if KIND == "sum":
            shift = shift * number
        tl.store(out, shift[:, None], mask=row_mask)
    else:
        if KIND == "layer_norm":
            shift = tl.div_rn(shift, tl.zeros((BM,), dtype=tl.float32) + columns)
        total = tl.zeros((BM, BN), dtype=tl.float32)
        for start in range(0, columns, BN):
            inside = row_mask & (start + lane < columns)
            value = tl.load(x + start + lane, mask=inside, other=0.0) - shift[:, None]
            value = tl.exp(value) if (KIND == "softmax") | (KIND == "log_softmax") else value * value
            total += tl.where(inside, value, 0.0)
        scale = tl.sum(total, axis=1)
        if (KIND == "layer_norm") | (KIND == "rms_norm"):
            scale = tl.div_rn(scale, tl.zeros((BM,), dtype=tl.float32) + columns)
            scale = tl.div_rn(1.0, tl.sqrt_rn(scale + number))
        elif KIND == "softmax":
            scale = tl.div_rn(1.0, scale)
        else:
            shift = shift + tl.log(scale)
        for start in range(0, columns, BN):
            inside = row_mask & (start + lane < columns)
            value = tl.load(x + start + lane, mask=inside, other=0.0) - shift[:, None]
            if KIND == "softmax":
                value = tl.exp(value)
            if KIND != "log_softmax":
                value *= scale[:, None]
            if HAS_WEIGHT:
                value *= tl.load(weight + start + lane, mask=start + lane < columns, other=0.0)
            if HAS_BIAS:
                value += tl.load(bias + start + lane, mask=start + lane < columns, other=0.0)
            tl.store(out + start + lane, value, mask=inside)


def by_rows(
    kind: str,
    out: Strided,
    x: Strided,
    loop: Loop,
    columns: int,
    directions: int,
    examples: int,
    *,
    number: float = 0.0,
    weight: Strided | None = None,
    bias: Strided | None = None,
) -> None:
    """Write a function of every row of x to the rows of `out`, or for sums and the largest one number for each row.

    Args:
        kind: "layer_norm", "rms_norm", "softmax", "log_softmax", "sum" or "largest".
        out, x: The result and the values.
        loop: The rows of an example, in `out` and in x.
        columns: How many numbers a row has.
        directions, examples: How many.
        number: Epsilon of a normalization; the factor of a sum.
        weight, bias: What the numbers of a normalized row are multiplied by, and what is added to them.

    Raises:
        ValueError: An unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, KINDS))}, got {kind!r}.")
    rows = loop.count * examples
    if rows == 0 or directions == 0:
        return
    width = columns_at_once(columns)
    at_once = _TILE // width
    _by_rows_kernel[(triton.cdiv(rows, at_once), directions)](
        out.memory,
        out.direction,
        out.example,
        x.memory,
        x.direction,
        x.example,
        x.memory if weight is None else weight.memory,
        0 if weight is None else weight.direction,
        x.memory if bias is None else bias.memory,
        0 if bias is None else bias.direction,
        loop.table,
        loop.count,
        rows,
        columns,
        number,
        KIND=kind,
        HAS_WEIGHT=weight is not None,
        HAS_BIAS=bias is not None,
        RANK=loop.rank,
        BM=at_once,
        BN=width,
        enable_fp_fusion=True,
    )


def columns_at_once(columns: int) -> int:
    """Return how many numbers of a row a tile holds: few sizes, so that few kernels are compiled."""
    return next(width for width in (16, 128, _MOST_COLUMNS) if columns <= width or width == _MOST_COLUMNS)
