"""Computes one layer without a bias for inputs that all directions share: inputs weight', from split operands.

Reference: `torch.nn.functional.linear` for each direction. `halves` explains how exact the products are.

The inputs and weights are read as tiles by the copy unit of the device, from rows whose length in bytes is a multiple
of 16. Programs of `_GROUP` directions and one tile of rows run side by side: they read the same inputs, and the weights
of a group stay in the cache for the next rows.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .halves import Halves, in_tiles, product

_ROWS, _OUTPUTS, _DEPTH = 128, 128, 64
_WARPS, _STAGES = 8, 3
_GROUP = 8
MULTIPLE = 8  # of inputs and outputs: 16 bytes of fp16 numbers


@triton.jit(do_not_specialize=["rows", "count"])
def _shared_linear_kernel(
    out,
    inputs,
    inputs_inverse,
    weight,
    weight_inverse,
    rows,
    depth,
    outputs,
    count,
    GROUP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    tiles = tl.cdiv(outputs, BN)
    at = tl.program_id(0)
    within = at % (GROUP * tiles)
    at = at // (GROUP * tiles)
    row = at % tl.cdiv(rows, BM) * BM
    direction = at // tl.cdiv(rows, BM) * GROUP + within // tiles
    if direction >= count:
        return
    unit = within % tiles * BN

    total = tl.zeros((BM, BN), dtype=tl.float32)
    for first in range(0, depth, BK):  # what lies beyond the last row, unit or input is read as zero
        x_high = inputs.load([0, row, first]).reshape(BM, BK)
        x_low = inputs.load([1, row, first]).reshape(BM, BK)
        w_high = weight.load([direction, 0, unit, first]).reshape(BN, BK).T
        w_low = weight.load([direction, 1, unit, first]).reshape(BN, BK).T
        total += product(x_high, x_low, w_high, w_low)
    total *= tl.load(inputs_inverse) * tl.load(weight_inverse + direction)
    out.store([direction, row, unit], total.reshape(1, BM, BN))


def shared_linear(inputs: Halves, weight: Halves, out: Tensor) -> None:
    """Write inputs weight' for every direction to `out`.

    Args:
        inputs: The inputs of all directions, with K a multiple of `MULTIPLE`. [1, 2, R, K]
        weight: The weight of each direction, rows contiguous. [n, 2, J, K], J a multiple of `MULTIPLE`
        out: The products. [n, R, J] float32, contiguous

    Raises:
        ValueError: Shapes that do not fit, or sizes that are not multiples of `MULTIPLE`.
    """
    (_, _, rows, depth), (count, _, outputs, inner) = inputs.parts.shape, weight.parts.shape
    if inner != depth or out.shape != (count, rows, outputs):
        raise ValueError(
            f"`weight` must be [n, 2, J, {depth}] for these inputs and `out` [n, {rows}, J], "
            f"got {list(weight.parts.shape)} and {list(out.shape)}."
        )
    if depth % MULTIPLE or outputs % MULTIPLE:
        raise ValueError(f"the layer must have sizes that are multiples of {MULTIPLE}, got {depth} x {outputs}.")
    if count == 0 or rows == 0:
        return
    programs = triton.cdiv(count, _GROUP) * _GROUP * triton.cdiv(rows, _ROWS) * triton.cdiv(outputs, _OUTPUTS)
    _shared_linear_kernel[(programs,)](
        in_tiles(out, [1, _ROWS, _OUTPUTS]),
        in_tiles(inputs.parts[0], [1, _ROWS, _DEPTH]),
        inputs.inverse,
        in_tiles(weight.parts, [1, 1, _OUTPUTS, _DEPTH]),
        weight.inverse,
        rows,
        depth,
        outputs,
        count,
        GROUP=_GROUP,
        BM=_ROWS,
        BN=_OUTPUTS,
        BK=_DEPTH,
        num_warps=_WARPS,
        num_stages=_STAGES,
        enable_fp_fusion=True,
    )
