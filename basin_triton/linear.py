"""Computes one layer for many directions at once: activation(inputs weight' + bias).

Each direction has parameters of its own.

Reference: `torch.nn.functional.linear` and the activation, one direction at a time.

The first layer of a perturbed network is linear in the radius, so its products need not be repeated. This kernel
computes base = inputs W' and shift = inputs D' once, where W is the weight at the center and D the move of the weight.
The first activations are then act(base + radius x shift + bias) at any radius. The next layer computes them while it
loads its inputs (`first_activations`), and they are never stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import ACTIVATIONS, activate
from .tiles import Tile, tile_of

# The names of precisions, and what Triton calls them. fp32: products in float32. tf32x3: three tensor core products of
# split operands, as exact as float32. tf32: one tensor core product, which may only propose radii.
PRECISIONS = {"fp32": "ieee", "tf32x3": "tf32x3", "tf32": "tf32"}


@dataclass(frozen=True)
class First:
    """The parts from which the first layer's activations are computed; the module's docstring explains them.

    Attributes:
        base: The inputs times the weight at the center. [R, H] float32, contiguous
        shift: The inputs times the move of the weight in each slot. [S, R, H] float32, rows contiguous
        radius: The radius of each slot. [S] float64
        bias: The perturbed bias of each active direction, or None for a layer without a bias. [A, H] float32, rows
            contiguous
        activation: The name of the activation.
    """

    base: Tensor
    shift: Tensor
    radius: Tensor
    bias: Tensor | None
    activation: str


@triton.jit
def first_activations(base, shift, reach, bias, at, unit, mask, HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr):
    """Return a tile of act(base + radius x shift + bias), which is zero where `mask` is false. [BM, BK] float32

    Args:
        base, shift, bias: Pointers to the first element of the tile's rows.
        reach: The radius. float32
        at: The position of each element in `base` and `shift`. [BM, BK]
        unit: The unit of each column. [1, BK]
        mask: Which elements to load. It broadcasts to [BM, BK].
        HAS_BIAS: Whether to read `bias`.
        ACTIVATION: The name of the activation.
    """
    x = tl.load(base + at, mask=mask, other=0.0) + reach * tl.load(shift + at, mask=mask, other=0.0)
    if HAS_BIAS:
        x += tl.load(bias + unit, mask=mask, other=0.0)
    return tl.where(mask, activate(x, ACTIVATION), 0.0)


@triton.jit(do_not_specialize=["rows"])
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

    # Tiles begin at 64-bit addresses and are indexed with 32 bits. Rows and units beyond the end repeat the last one,
    # so only the depth needs a mask. Both save registers that would spill.
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
    tile: Tile | None = None,
) -> Tensor:
    """Return activation(inputs weight' + bias) for every active direction. [A, R, J] float32

    Args:
        inputs: Contiguous inputs, either [R, K] float32 for all directions or [A, R, K] float32, or the parts of the
            first layer.
        weight: The weight of each active direction. [A, J, K] float32, each direction contiguous, at any distance from
            the next
        bias: The bias of each active direction, or None for a layer without a bias. [A, J] float32, rows contiguous
        active: The slot of each direction, or -1 for rows of `out` that are left alone. [A] int32
        num_rows: How many rows each slot wants. Tiles that lie wholly beyond them are left alone. [S] int32
        activation: "identity", "relu", "tanh" or "gelu".
        precision: "fp32", "tf32x3" or "tf32"; see `PRECISIONS`.
        out: Where to write the result. It is allocated if it is not given.
        tile: How to cut the product, if not as `tiles.tile_of` says.

    Raises:
        ValueError: An unknown activation or precision, or a weight whose shape does not fit the inputs.
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
    tile = tile or tile_of(precision, outputs, first is not None, weight.device)
    grid = (triton.cdiv(rows, tile.rows) * triton.cdiv(outputs, tile.outputs), count)
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
        BM=tile.rows,
        BN=tile.outputs,
        BK=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
        enable_fp_fusion=True,
    )
    return out


def first_arguments(first: First | None, unused: Tensor) -> tuple[Tensor | int, ...]:
    """Return the kernel arguments of the first layer: base, shift and its stride, radius, bias and its stride.

    A launch needs a pointer for every argument, so `unused` stands for each part that is missing.
    """
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
