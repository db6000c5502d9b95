"""Computes the last layers of a network and the loss, summed over blocks of rows, and stores nothing in between.

Reference: `torch.nn.functional.linear` and the activations, then the loss with reduction="sum".

A program takes one block of rows along one direction: the first activations act(base + radius x shift + bias), or
inputs that another kernel left; the layer that reads them, of which all outputs fit the registers of a program; and
the last layer, if there is one after it. Weights are split into halves beforehand, activations row by row here, and
`halves` explains how exact their products are. Programs of `_GROUP` directions and one block of rows run side by side,
so that they find `base` in the cache, and their weights as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from .activations import activate
from .halves import Halves, in_tiles, product, split_rows
from .linear import First
from .loss_head import BLOCK_ROWS, LOSSES, MAX_OUTPUTS, RowBlocks, losses_of_logits

MAX_HIDDEN = 256  # outputs of the first of these layers
MULTIPLE = 8  # of its inputs: 16 bytes of fp16 numbers
_GROUP = 16


@dataclass(frozen=True)
class SplitLayer:
    """One layer for every active direction, its weight in halves.

    Attributes:
        weight: [A, 2, J, K], rows contiguous
        bias: [A, J] float32, rows contiguous, or None.
        activation: The name of the activation that follows.
    """

    weight: Halves
    bias: Tensor | None
    activation: str


@triton.jit(
    do_not_specialize=["origin", "out_stride", "per_row_stride", "count", "blocks"],
    do_not_specialize_on_alignment=["out", "per_row", "targets", "block_first", "block_count", "last_inverse"],
)
def _last_layers_kernel(
    out,
    out_stride,
    per_row,
    per_row_stride,
    base,
    shift,
    radius,
    first_bias,
    first_bias_stride,
    weight,
    weight_inverse,
    bias,
    bias_stride,
    last,
    last_stride,
    last_inverse,
    last_bias,
    last_bias_stride,
    targets,
    active,
    num_rows,
    origin,
    block_first,
    block_count,
    count,
    blocks,
    depth,
    hidden,
    outputs,
    LOSS: tl.constexpr,
    PER_ROW: tl.constexpr,
    IS_SECOND: tl.constexpr,
    FIRST_HAS_BIAS: tl.constexpr,
    FIRST_ACTIVATION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    HAS_LAST: tl.constexpr,
    LAST_HAS_BIAS: tl.constexpr,
    GROUP: tl.constexpr,
    BM: tl.constexpr,
    BH: tl.constexpr,
    BC: tl.constexpr,
    BK: tl.constexpr,
):
    at = tl.program_id(0)
    a = at // (GROUP * blocks) * GROUP + at % GROUP
    if a >= count:
        return
    block = at // GROUP % blocks
    slot = tl.load(active + a)
    if slot < 0:
        return
    start = tl.load(block_first + block)
    if start >= tl.load(num_rows + slot):
        return
    first_row = start - origin
    a_wide = a.to(tl.int64)
    if IS_SECOND:
        reach = tl.load(radius + slot).to(tl.float32)
        first_bias += a_wide * first_bias_stride

    total = tl.zeros((BM, BH), dtype=tl.float32)
    for first in range(0, depth, BK):  # what lies beyond the last row, unit or input is read as zero
        if IS_SECOND:
            x = base.load([first_row, first])
            x += reach * shift.load([slot, first_row, first]).reshape(BM, BK)
            if FIRST_HAS_BIAS:
                k = first + tl.arange(0, BK)
                x += tl.load(first_bias + k, mask=k < depth, other=0.0)[None, :]
            x = activate(x, FIRST_ACTIVATION)
        else:
            x = shift.load([a, first_row, first]).reshape(BM, BK)
        x_high, x_low, inverse = split_rows(x)
        w_high = weight.load([a, 0, 0, first]).reshape(BH, BK).T
        w_low = weight.load([a, 1, 0, first]).reshape(BH, BK).T
        total += product(x_high, x_low, w_high, w_low) * inverse[:, None]
    total *= tl.load(weight_inverse + a)
    unit = tl.arange(0, BH)
    if HAS_BIAS:
        total += tl.load(bias + a_wide * bias_stride + unit, mask=unit < hidden, other=0.0)[None, :]
    if HAS_LAST:
        total = activate(total, ACTIVATION)
        c = tl.arange(0, BC)
        last += a_wide * 2 * last_stride + c[None, :] * hidden + unit[:, None]
        in_last = (c[None, :] < outputs) & (unit[:, None] < hidden)
        v_high = tl.load(last, mask=in_last, other=0.0)
        v_low = tl.load(last + last_stride, mask=in_last, other=0.0)
        y_high, y_low, inverse = split_rows(total)
        logit = product(y_high, y_low, v_high, v_low) * inverse[:, None] * tl.load(last_inverse + a)
        if LAST_HAS_BIAS:
            logit += tl.load(last_bias + a_wide * last_bias_stride + c, mask=c < outputs, other=0.0)[None, :]
    else:
        logit = activate(total, ACTIVATION)

    rows = tl.load(block_count + block)
    row = tl.minimum(tl.arange(0, BM), rows - 1)[:, None]
    wide = first_row.to(tl.int64)
    targets += wide * (1 if LOSS == "cross_entropy" else outputs)
    loss = losses_of_logits(logit, row, outputs, targets, LOSS, BC)
    is_row = tl.arange(0, BM) < rows
    if PER_ROW:
        tl.store(per_row + a_wide * per_row_stride + wide + tl.arange(0, BM), loss, mask=is_row)
    loss = tl.where(is_row, loss, 0.0)
    tl.store(out + a_wide * out_stride + block, tl.sum(loss.to(tl.float64), axis=0))


def last_layers(
    inputs: Tensor | First,
    layer: SplitLayer,
    last: SplitLayer | None,
    targets: Tensor,
    active: Tensor,
    num_rows: Tensor,
    blocks: RowBlocks,
    out: Tensor,
    *,
    loss: str,
    origin: int = 0,
    per_row: Tensor | None = None,
) -> None:
    """Write the summed losses of every active direction and block of rows to `out`.

    The result is that of `linear` for `layer`, followed by `loss_head` with the weight of `last`.

    Args:
        inputs: The inputs of `layer`, [A, R, K] float32 contiguous, or the parts of the first layer, with K a multiple
            of `MULTIPLE`. Row 0 is row `origin` of the data.
        layer: The layer that reads them, with at most `MAX_HIDDEN` outputs.
        last: The layer that follows, with at most `MAX_OUTPUTS` outputs and no activation; None if there is none.
        targets, active, num_rows, blocks, out, loss, origin, per_row: As in `loss_head`.

    Raises:
        ValueError: An unknown loss, a layer that is too wide, or sizes that do not fit.
    """
    first = inputs if isinstance(inputs, First) else None
    moved = inputs.shift if isinstance(inputs, First) else inputs
    depth, hidden = moved.shape[-1], layer.weight.parts.shape[2]
    outputs = hidden if last is None else last.weight.parts.shape[2]
    _check(loss, depth, layer, last, out, len(active), len(blocks))
    if len(active) == 0 or len(blocks) == 0:
        return
    bh, bk, warps, stages = tile_of(hidden)
    rows = in_tiles(moved, [1, BLOCK_ROWS, bk])
    none = out  # a launch needs a pointer for every argument
    first_bias = None if first is None else first.bias
    end = layer if last is None else last
    _last_layers_kernel[(triton.cdiv(len(active), _GROUP) * _GROUP * len(blocks),)](
        out,
        out.stride(0),
        none if per_row is None else per_row,
        0 if per_row is None else per_row.stride(0),
        rows if first is None else in_tiles(first.base, [BLOCK_ROWS, bk]),
        rows,
        none if first is None else first.radius,
        none if first_bias is None else first_bias,
        0 if first_bias is None else first_bias.stride(0),
        in_tiles(layer.weight.parts, [1, 1, bh, bk]),
        layer.weight.inverse,
        none if layer.bias is None else layer.bias,
        0 if layer.bias is None else layer.bias.stride(0),
        end.weight.parts,
        end.weight.parts.stride(1),
        end.weight.inverse,
        none if end.bias is None else end.bias,
        0 if end.bias is None else end.bias.stride(0),
        targets,
        active,
        num_rows,
        origin,
        blocks.first,
        blocks.count,
        len(active),
        len(blocks),
        depth,
        hidden,
        outputs,
        LOSS=loss,
        PER_ROW=per_row is not None,
        IS_SECOND=first is not None,
        FIRST_HAS_BIAS=first_bias is not None,
        FIRST_ACTIVATION="identity" if first is None else first.activation,
        HAS_BIAS=layer.bias is not None,
        ACTIVATION=layer.activation,
        HAS_LAST=last is not None,
        LAST_HAS_BIAS=last is not None and last.bias is not None,
        GROUP=_GROUP,
        BM=BLOCK_ROWS,
        BH=bh,
        BC=bh if last is None else MAX_OUTPUTS,
        BK=bk,
        num_warps=warps,
        num_stages=stages,
        enable_fp_fusion=True,
    )


def fitting(shapes: Sequence[Sequence[int]], activation: str, loss: str) -> int:
    """Return how many of the last layers this kernel computes together: 0, 1 or 2.

    Args:
        shapes: Outputs and inputs of all layers after the first.
        activation: The name of the activation after the last layer.
        loss: The name of the loss.
    """
    if not shapes:
        return 0
    ends = 2 if len(shapes) > 1 and shapes[-1][0] <= MAX_OUTPUTS and activation == "identity" else 1
    outputs, inputs = shapes[-ends]
    # Many logits at once with this loss take more registers than there are.
    most = MAX_OUTPUTS if ends == 1 and loss == "bce_with_logits" else MAX_HIDDEN
    return ends if outputs <= most and inputs % MULTIPLE == 0 else 0


def tile_of(hidden: int) -> tuple[int, int, int, int]:
    """Return outputs and depth of a tile, warps and stages, for a layer with this many outputs."""
    if hidden <= 128:
        return (16 if hidden <= 16 else triton.next_power_of_2(hidden)), 32, 4, 3
    return MAX_HIDDEN, 64, 8, 2


def _check(
    loss: str, depth: int, layer: SplitLayer, last: SplitLayer | None, out: Tensor, count: int, num_blocks: int
) -> None:
    if loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {', '.join(map(repr, LOSSES))}, got {loss!r}.")
    hidden, inner = layer.weight.parts.shape[2:]
    if hidden > MAX_HIDDEN or inner != depth or depth % MULTIPLE:
        raise ValueError(
            f"`layer` must have at most {MAX_HIDDEN} outputs and {depth} inputs, a multiple of {MULTIPLE}; "
            f"got {hidden} x {inner}."
        )
    if last is not None and (last.weight.parts.shape[2] > MAX_OUTPUTS or last.weight.parts.shape[3] != hidden):
        raise ValueError(
            f"`last` must have at most {MAX_OUTPUTS} outputs and {hidden} inputs, "
            f"got {' x '.join(map(str, last.weight.parts.shape[2:]))}."
        )
    if out.shape != (count, num_blocks) or out.stride(1) != 1:
        raise ValueError(f"`out` must be [{count}, {num_blocks}] with contiguous rows, got {list(out.shape)}.")
