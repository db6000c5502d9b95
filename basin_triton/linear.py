"""One layer for many directions at once: activation(inputs weight' + bias), each direction with parameters of its own.

Reference: `torch.nn.functional.linear` and the activation, one direction at a time.

The first layer of a perturbed network is linear in the radius, so that its products are not repeated: with
base = inputs W' and shift = inputs D' (this kernel, once), the first activations are act(base + radius x shift + bias).
They are made while the next layer loads its inputs, see `first_activations`, and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import ACTIVATIONS, activate

# fp32: products in float32. tf32x3: three tensor core products of split operands, as exact. tf32: one, for proposals.
PRECISIONS = {"fp32": "ieee", "tf32x3": "tf32x3", "tf32": "tf32"}

# Rows x outputs x depth of a tile, warps and pipeline stages: the largest that compile without spills on sm_80 and
# sm_90. No device has timed them yet.
_TILES = {"fp32": (128, 64, 16, 8, 3), "tf32x3": (128, 64, 32, 8, 3), "tf32": (128, 64, 32, 8, 3)}
_NARROW = 16  # outputs of the tiles for layers no wider


@dataclass(frozen=True)
class First:
    """What the first layer's activations are made of; see the module's text.

    Attributes:
        base: inputs x weight. [R, H] float32, contiguous
        shift: inputs x move of the weight in each slot, [S, R, H] float32, rows contiguous.
        radius: [S] float64
        bias: of the perturbed layer, for each active direction. [A, H] float32, rows contiguous; None without one
        activation: its name.
    """

    base: Tensor
    shift: Tensor
    radius: Tensor
    bias: Tensor | None
    activation: str


@triton.jit
def first_activations(base, shift, reach, bias, at, unit, mask, HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr):
    """A tile of act(base + radius x shift + bias), zero where `mask` is false; `at` [BM, BK] and `unit` [1, BK]."""
    x = tl.load(base + at, mask=mask, other=0.0) + reach * tl.load(shift + at, mask=mask, other=0.0)
    if HAS_BIAS:
        x += tl.load(bias + unit, mask=mask, other=0.0)
    return tl.where(mask, activate(x, ACTIVATION), 0.0)


@triton.jit
def _linear_kernel(
    out,
    inputs,
    inputs_stride,
    weight,
    weight_stride,
    bias,
    bias_stride,
    active,
    num_rows,
    rows,
    depth,
    outputs,
    base,
    shift,
    shift_stride,
    radius,
    first_bias,
    first_bias_stride,
    HAS_BIAS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    IS_SECOND: tl.constexpr,
    FIRST_HAS_BIAS: tl.constexpr,
    FIRST_ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    a = tl.program_id(1).to(tl.int64)
    slot = tl.load(active + a).to(tl.int64)
    if slot < 0:
        return
    tiles = tl.cdiv(outputs, BN)
    start = (tl.program_id(0) // tiles) * BM
    if start >= tl.load(num_rows + slot):
        return
    first_unit = (tl.program_id(0) % tiles) * BN

    # Tiles begin at 64-bit addresses and are indexed with 32 bits; rows and units beyond the end repeat the last one,
    # so that only the depth needs a mask. Both save the registers that would spill.
    row = tl.minimum(tl.arange(0, BM), rows - 1 - start)[:, None]
    unit = tl.minimum(tl.arange(0, BN), outputs - 1 - first_unit)[None, :]
    weight += a * weight_stride + first_unit.to(tl.int64) * depth
    if IS_SECOND:
        reach = tl.load(radius + slot).to(tl.float32)
        base += start.to(tl.int64) * depth
        shift += slot * shift_stride + start.to(tl.int64) * depth
        first_bias += a * first_bias_stride
    else:
        inputs += a * inputs_stride + start.to(tl.int64) * depth
    at_row, at_unit = row * depth, unit * depth

    total = tl.zeros((BM, BN), dtype=tl.float32)
    for first in range(0, depth, BK):
        k_row, k_column = first + tl.arange(0, BK)[None, :], first + tl.arange(0, BK)[:, None]
        if IS_SECOND:
            x = first_activations(
                base, shift, reach, first_bias, at_row + k_row, k_row, k_row < depth, FIRST_HAS_BIAS, FIRST_ACTIVATION
            )
        else:
            x = tl.load(inputs + at_row + k_row, mask=k_row < depth, other=0.0)
        w = tl.load(weight + at_unit + k_column, mask=k_column < depth, other=0.0)
        total = tl.dot(x, w, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + a * bias_stride + first_unit + unit)
    out += (a * rows + start) * outputs + first_unit
    mask = (tl.arange(0, BM)[:, None] < rows - start) & (tl.arange(0, BN)[None, :] < outputs - first_unit)
    tl.store(out + row * outputs + unit, activate(total, ACTIVATION), mask=mask)


def linear(
    inputs: Tensor | First,
    weight: Tensor,
    bias: Tensor | None,
    active: Tensor,
    num_rows: Tensor,
    *,
    activation: str = "identity",
    precision: str = "fp32",
    out: Tensor | None = None,
) -> Tensor:
    """activation(inputs weight' + bias) for every active direction; rows of slot -1 are left alone. [A, R, J] float32

    Args:
        inputs: [R, K] for all directions, [A, R, K], both contiguous, or the first layer's parts.
        weight: [A, J, K] float32, or [J, K] with A = 1; each direction's contiguous, at any distance
        bias: [A, J] float32, rows contiguous; None without one.
        active: slot of each direction, or -1. [A] int32
        num_rows: of each slot, how many rows are wanted; tiles wholly beyond them are left alone. [S] int32
        activation: "identity", "relu", "tanh" or "gelu".
        precision: "fp32", "tf32x3" or "tf32", see `PRECISIONS`.
        out: where to write; made if it is not given.
    """
    _check(activation, precision)
    first = inputs if isinstance(inputs, First) else None
    read = inputs.base if isinstance(inputs, First) else inputs
    (rows, width), (count, outputs, depth) = read.shape[-2:], weight.shape
    if width != depth or count != len(active):
        raise ValueError(
            f"`weight` must be [{len(active)}, outputs, {width}] for these inputs and directions, "
            f"got {list(weight.shape)}."
        )
    if out is None:
        out = torch.empty((count, rows, outputs), dtype=torch.float32, device=weight.device)
    if count == 0 or rows == 0:
        return out
    bm, bn, bk, warps, stages = tile(precision, outputs, first is not None)
    grid = (triton.cdiv(rows, bm) * triton.cdiv(outputs, bn), count)
    _linear_kernel[grid](
        out,
        read,
        read.stride(0) if read.ndim == 3 else 0,
        weight,
        weight.stride(0),
        weight if bias is None else bias,
        0 if bias is None else bias.stride(0),
        active,
        num_rows,
        rows,
        depth,
        outputs,
        *first_arguments(first, weight),
        HAS_BIAS=bias is not None,
        ACTIVATION=activation,
        IS_SECOND=first is not None,
        FIRST_HAS_BIAS=first is not None and first.bias is not None,
        FIRST_ACTIVATION="identity" if first is None else first.activation,
        PRECISION=PRECISIONS[precision],
        BM=bm,
        BN=bn,
        BK=bk,
        num_warps=warps,
        num_stages=stages,
        enable_fp_fusion=True,
    )
    return out


def tile(precision: str, outputs: int, is_second: bool = False) -> tuple[int, int, int, int, int]:
    """Rows, outputs and depth of a tile, warps and stages; narrow layers get narrow tiles."""
    bm, bn, bk, warps, stages = _TILES[precision]
    if is_second and precision == "tf32x3":
        bk = 16  # splitting operands that were just computed takes more registers
    return bm, _NARROW if outputs <= _NARROW else bn, bk, warps, stages


def first_arguments(first: First | None, unused: Tensor) -> tuple[Tensor | int, ...]:
    """base, shift and its stride, radius, bias and its stride."""
    if first is None:
        return unused, unused, 0, unused, unused, 0
    bias = unused if first.bias is None else first.bias
    return (
        first.base,
        first.shift,
        first.shift.stride(0),
        first.radius,
        bias,
        0 if first.bias is None else bias.stride(0),
    )


def _check(activation: str, precision: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"`activation` must be one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}.")
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}.")
