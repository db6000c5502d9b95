"""Computes the last layer and the loss, summed over blocks of rows: one float64 number per direction and block.

Reference: `torch.nn.functional.linear`, then cross_entropy, binary_cross_entropy_with_logits or mse_loss with
reduction="sum". Cross-entropy goes through the classes in tiles, with a streaming log-sum-exp. The logits of a narrow
last layer are never stored. Those of a wide layer come from `linear`, which computes them in larger tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .linear import PRECISIONS, First, first_activations, first_arguments
from .loss_math import cross_entropy, element_losses, finite

LOSSES = ("cross_entropy", "bce_with_logits", "mse")
BLOCK_ROWS = 64  # most rows of a block

MAX_OUTPUTS = 16  # a last layer with more outputs is computed by `linear`, and only its logits are read here

# Chosen, like the tiles of `linear`, so that every variant compiles without spills; not timed on a device.
_BK, _WARPS, _STAGES = 16, 4, 3
_CLASSES = 32  # classes of a tile where logits are only read


@dataclass(frozen=True)
class RowBlocks:
    """Consecutive blocks of at most `BLOCK_ROWS` rows. A block never straddles a boundary.

    Attributes:
        first, count: The first row and the number of rows of each block. [B] int32
        level: The position of the first boundary at or beyond the end of each block. [B] int32
    """

    first: Tensor
    count: Tensor
    level: Tensor

    @classmethod
    def between(cls, boundaries: tuple[int, ...], device: torch.device) -> RowBlocks:
        """Return the blocks of rows 0 to boundaries[-1] - 1, for boundaries that increase."""
        first, count, level = [], [], []
        start = 0
        for position, stop in enumerate(boundaries):
            for row in range(start, stop, BLOCK_ROWS):
                first.append(row)
                count.append(min(BLOCK_ROWS, stop - row))
                level.append(position)
            start = stop
        return cls(*(torch.tensor(values, dtype=torch.int32, device=device) for values in (first, count, level)))

    def __len__(self) -> int:
        return len(self.first)

    def part(self, start: int, stop: int) -> RowBlocks:
        """Return the blocks from `start` to `stop` - 1."""
        return RowBlocks(self.first[start:stop], self.count[start:stop], self.level[start:stop])


@triton.jit
def losses_of_logits(logit, row, outputs, targets, LOSS: tl.constexpr, BC: tl.constexpr):
    """Return the loss of each row of a tile that holds all of its logits, [BM, BC]; see `loss_head` for targets."""
    c = tl.arange(0, BC)[None, :]
    in_class = c < outputs
    if LOSS == "cross_entropy":
        label = tl.load(targets + row)
        at_label = tl.sum(tl.where(c == label, logit, 0.0), axis=1)
        logit = tl.where(in_class, logit, float("-inf"))
        largest = tl.max(logit, axis=1)
        zero = finite(largest)
        others = tl.sum(tl.where(c == label, 0.0, tl.exp(logit - zero[:, None])), axis=1)
        loss = cross_entropy(largest, at_label, others)
    else:
        target = tl.load(targets + row * outputs + tl.minimum(c, outputs - 1))
        loss = tl.sum(tl.where(in_class, element_losses(logit, target, LOSS), 0.0), axis=1)
    return loss


@triton.jit(
    do_not_specialize=["origin", "out_stride", "per_row_stride"],
    do_not_specialize_on_alignment=["out", "per_row", "targets", "block_first", "block_count"],
)
def _loss_head_kernel(
    out,
    out_stride,
    per_row,
    per_row_stride,
    inputs,
    inputs_stride,
    weight,
    weight_stride,
    bias,
    bias_stride,
    targets,
    active,
    num_rows,
    origin,
    block_first,
    block_count,
    depth,
    outputs,
    base,
    shift,
    shift_stride,
    radius,
    first_bias,
    first_bias_stride,
    LOSS: tl.constexpr,
    PER_ROW: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IS_SECOND: tl.constexpr,
    FIRST_HAS_BIAS: tl.constexpr,
    FIRST_ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BC: tl.constexpr,
    BK: tl.constexpr,
):
    a = tl.program_id(1).to(tl.int64)
    slot = tl.load(active + a).to(tl.int64)
    if slot < 0:
        return
    start = tl.load(block_first + tl.program_id(0))
    if start >= tl.load(num_rows + slot):
        return
    # Rows and classes beyond the end repeat the last one, for the reason given in `linear`.
    count = tl.load(block_count + tl.program_id(0))
    row = tl.minimum(tl.arange(0, BM), count - 1)[:, None]
    at_first = (start - origin).to(tl.int64)
    inputs += a * inputs_stride + at_first * depth
    weight += a * weight_stride
    bias += a * bias_stride
    if IS_SECOND:
        reach = tl.load(radius + slot).to(tl.float32)
        base += at_first * depth
        shift += slot * shift_stride + at_first * depth
        first_bias += a * first_bias_stride
    if LOSS == "cross_entropy":
        label = tl.load(targets + at_first + row)
    else:
        targets += at_first * outputs

    largest = tl.full((BM,), float("-inf"), dtype=tl.float32)
    scaled = tl.zeros((BM,), dtype=tl.float32)  # sum of the others' exp(logit - largest), or of the element losses
    at_label = tl.zeros((BM,), dtype=tl.float32)
    for first_class in range(0, outputs, BC):
        c = first_class + tl.arange(0, BC)[None, :]
        in_class = c < outputs
        c = tl.minimum(c, outputs - 1)
        if HAS_WEIGHT:
            logit = tl.zeros((BM, BC), dtype=tl.float32)
            for first in range(0, depth, BK):
                k_row, k_column = first + tl.arange(0, BK)[None, :], first + tl.arange(0, BK)[:, None]
                mask = k_row < depth
                if IS_SECOND:
                    at = row * depth + k_row
                    x = first_activations(
                        base, shift, reach, first_bias, at, k_row, mask, FIRST_HAS_BIAS, FIRST_ACTIVATION
                    )
                else:
                    x = tl.load(inputs + row * depth + k_row, mask=mask, other=0.0)
                w = tl.load(weight + c * depth + k_column, mask=k_column < depth, other=0.0)
                logit = tl.dot(x, w, logit, input_precision=PRECISION)
            if HAS_BIAS:
                logit += tl.load(bias + c)
        elif not IS_SECOND:
            logit = tl.load(inputs + row * outputs + c)
        else:  # the first layer is the last
            at = row * outputs + c
            logit = first_activations(base, shift, reach, first_bias, at, c, in_class, FIRST_HAS_BIAS, FIRST_ACTIVATION)
        if LOSS == "cross_entropy":
            at_label += tl.sum(tl.where(in_class & (c == label), logit, 0.0), axis=1)
            logit = tl.where(in_class, logit, float("-inf"))
            above = tl.maximum(largest, tl.max(logit, axis=1))
            zero = finite(above)
            others = tl.sum(tl.where(c == label, 0.0, tl.exp(logit - zero[:, None])), axis=1)
            scaled = scaled * tl.exp(largest - zero) + others
            largest = above
        else:
            target = tl.load(targets + row * outputs + c)
            scaled += tl.sum(tl.where(in_class, element_losses(logit, target, LOSS), 0.0), axis=1)

    loss = cross_entropy(largest, at_label, scaled) if LOSS == "cross_entropy" else scaled
    is_row = tl.arange(0, BM) < count
    if PER_ROW:
        tl.store(per_row + a * per_row_stride + at_first + tl.arange(0, BM), loss, mask=is_row)
    loss = tl.where(is_row, loss, 0.0)
    tl.store(out + a * out_stride + tl.program_id(0), tl.sum(loss.to(tl.float64), axis=0))


def loss_head(
    inputs: Tensor | First,
    weight: Tensor | None,
    bias: Tensor | None,
    targets: Tensor,
    active: Tensor,
    num_rows: Tensor,
    blocks: RowBlocks,
    out: Tensor,
    *,
    loss: str,
    origin: int = 0,
    precision: str = "fp32",
    per_row: Tensor | None = None,
) -> None:
    """Write the summed losses of every active direction and block of rows to `out`.

    Rows of `out` with slot -1, and blocks that no slot wants, are left alone.

    Args:
        inputs: The inputs of the last layer, [A, R, K] float32 contiguous, or the parts of the first layer. Row 0 is
            row `origin` of the data.
        weight: The weight of each active direction, with C at most `MAX_OUTPUTS`. [A, C, K] float32, each direction
            contiguous. None if `inputs` are the logits, or the parts of a first layer that is also the last.
        bias: The bias of each active direction. None for a layer without a bias, or without a weight. [A, C] float32,
            rows contiguous
        targets: The targets from row `origin` on, contiguous: labels [R] int64 for cross-entropy, values [R, C]
            float32 for the other losses.
        active: The slot of each direction, or -1. [A] int32
        num_rows: How many rows each slot wants. A block that begins there or beyond is not wanted. [S] int32
        blocks: The rows of each of the B blocks, counted in the data.
        out: The sums. [A, B] float64, rows contiguous
        loss: "cross_entropy", "bce_with_logits" or "mse".
        origin: The row of the data that is row 0 of `inputs` and `targets`.
        precision: "fp32", "tf32x3" or "tf32"; see `linear.PRECISIONS`.
        per_row: Where to write the loss of every row as well, if it is wanted. [A, R] float32, rows contiguous

    Raises:
        ValueError: An unknown loss, a last layer with too many outputs, or an `out` of another shape.
    """
    if loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {', '.join(map(repr, LOSSES))}, got {loss!r}.")
    if out.shape != (len(active), len(blocks)) or out.stride(1) != 1:
        raise ValueError(f"`out` must be [{len(active)}, {len(blocks)}] with contiguous rows, got {list(out.shape)}.")
    first = inputs if isinstance(inputs, First) else None
    read = inputs.base if isinstance(inputs, First) else inputs
    depth = read.shape[-1]
    outputs = depth if weight is None else weight.shape[1]
    if weight is not None and outputs > MAX_OUTPUTS:
        raise ValueError(f"`weight` has {outputs} outputs, at most {MAX_OUTPUTS}: compute the logits with `linear`.")
    if len(active) == 0 or len(blocks) == 0:
        return
    _loss_head_kernel[(len(blocks), len(active))](
        out,
        out.stride(0),
        out if per_row is None else per_row,
        0 if per_row is None else per_row.stride(0),
        read,
        read.stride(0) if read.ndim == 3 else 0,
        read if weight is None else weight,
        0 if weight is None else weight.stride(0),
        read if bias is None else bias,
        0 if bias is None else bias.stride(0),
        targets,
        active,
        num_rows,
        origin,
        blocks.first,
        blocks.count,
        depth,
        outputs,
        *first_arguments(first, read),
        LOSS=loss,
        PER_ROW=per_row is not None,
        HAS_WEIGHT=weight is not None,
        HAS_BIAS=bias is not None,
        IS_SECOND=first is not None,
        FIRST_HAS_BIAS=first is not None and first.bias is not None,
        FIRST_ACTIVATION="identity" if first is None else first.activation,
        PRECISION=PRECISIONS[precision],
        BM=BLOCK_ROWS,
        BC=MAX_OUTPUTS if weight is not None else _CLASSES,
        BK=_BK,
        num_warps=_WARPS,
        num_stages=_STAGES,
        enable_fp_fusion=True,
    )
