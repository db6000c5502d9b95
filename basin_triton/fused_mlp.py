"""Computes a whole narrow perceptron and its loss, from the parts of the first layer to the sums over blocks of rows.

Reference: `torch.nn.functional.linear` and the activation for each layer, then the loss with reduction="sum".

This kernel is for networks up to 32 wide. Their activations and the weights of a layer fit the registers of one
program, so nothing is stored between layers and one launch replaces a launch for each layer. At a width of 64, the
compiler needs a stack for tf32x3 on sm_80, whatever the number of warps; at 128, it needs 7.5 KB of stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import activate
from .linear import PRECISIONS, First, first_activations, first_arguments
from .loss_head import MAX_OUTPUTS, RowBlocks, losses_of_logits

MAX_WIDTH = 32

_WIDTHS = (16, 32)  # widths of the tiles that the program works on
_ROWS, _WARPS = 64, 4  # 64 rows: at least those of a block, `loss_head.BLOCK_ROWS`


@dataclass(frozen=True)
class LayerTable:
    """The place of each layer after the first in a row of parameters, and its shape.

    Attributes:
        places: For each of these layers: the offset of its weight, the offset of its bias (-1 without one), the
            number of inputs, and the number of outputs. [layers, 4] int32
        width: The width of every tile: the largest number of inputs of these layers, rounded up to 16 or 32.
        outputs: The number of outputs of the last layer.
        activation: The name of the activation, the same after every layer but the last.
    """

    places: Tensor
    width: int
    outputs: int
    activation: str

    @classmethod
    def of(cls, places: list[tuple[int, int, int, int]], activation: str, device: torch.device) -> LayerTable:
        """Build the table for one network; no layer may have more than `MAX_WIDTH` inputs.

        Args:
            places: The rows of the attribute `places`.
            activation: The name of the activation.
            device: The device that holds the table.
        """
        widest = max(inputs for _, _, inputs, _ in places)
        width = next(width for width in _WIDTHS if width >= widest)
        return cls(torch.tensor(places, dtype=torch.int32, device=device), width, places[-1][3], activation)


@triton.jit(
    do_not_specialize=["origin", "out_stride", "num_layers"],
    do_not_specialize_on_alignment=["out", "targets", "block_first", "block_count"],
)
def _fused_mlp_kernel(
    out,
    out_stride,
    parameters,
    parameters_stride,
    places,
    num_layers,
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
    FIRST_HAS_BIAS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    WIDTH: tl.constexpr,
    BC: tl.constexpr,
):
    a = tl.program_id(1).to(tl.int64)
    slot = tl.load(active + a).to(tl.int64)
    if slot < 0:
        return
    start = tl.load(block_first + tl.program_id(0))
    if start >= tl.load(num_rows + slot):
        return
    count = tl.load(block_count + tl.program_id(0))
    row = tl.minimum(tl.arange(0, BM), count - 1)[:, None]
    at_first = (start - origin).to(tl.int64)
    parameters += a * parameters_stride
    k_row, k_column = tl.arange(0, WIDTH)[None, :], tl.arange(0, WIDTH)[:, None]

    x = first_activations(
        base + at_first * depth,
        shift + slot * shift_stride + at_first * depth,
        tl.load(radius + slot).to(tl.float32),
        first_bias + a * first_bias_stride,
        row * depth + k_row,
        k_row,
        k_row < depth,
        FIRST_HAS_BIAS,
        ACTIVATION,
    )
    for layer in range(num_layers - 1):
        weight_at, bias_at = tl.load(places + 4 * layer), tl.load(places + 4 * layer + 1)
        inner, outer = tl.load(places + 4 * layer + 2), tl.load(places + 4 * layer + 3)
        mask = (k_row < outer) & (k_column < inner)
        w = tl.load(parameters + weight_at + k_row * inner + k_column, mask=mask, other=0.0)
        x = tl.dot(x, w, input_precision=PRECISION)
        x += tl.load(parameters + bias_at + k_row, mask=k_row < tl.where(bias_at >= 0, outer, 0), other=0.0)
        x = tl.where(k_row < outer, activate(x, ACTIVATION), 0.0)

    last = places + 4 * (num_layers - 1)
    weight_at, bias_at, inner = tl.load(last), tl.load(last + 1), tl.load(last + 2)
    c = tl.arange(0, BC)[None, :]
    in_class = c < outputs
    w = tl.load(parameters + weight_at + c * inner + k_column, mask=in_class & (k_column < inner), other=0.0)
    logit = tl.dot(x, w, input_precision=PRECISION)
    logit += tl.load(parameters + bias_at + c, mask=c < tl.where(bias_at >= 0, outputs, 0), other=0.0)
    targets += at_first * (1 if LOSS == "cross_entropy" else outputs)
    loss = losses_of_logits(logit, row, outputs, targets, LOSS, BC)
    loss = tl.where(tl.arange(0, BM) < count, loss, 0.0)
    tl.store(out + a * out_stride + tl.program_id(0), tl.sum(loss.to(tl.float64), axis=0))


def fused_mlp(
    inputs: First,
    parameters: Tensor,
    layers: LayerTable,
    targets: Tensor,
    active: Tensor,
    num_rows: Tensor,
    blocks: RowBlocks,
    out: Tensor,
    *,
    loss: str,
    origin: int = 0,
    precision: str = "fp32",
) -> None:
    """Write the summed losses of every active direction and block of rows to `out`.

    The result is that of `linear` for every layer between the first and the last, followed by `loss_head`.

    Args:
        inputs: The parts of the first layer. Its activation must be that of `layers`.
        parameters: The parameters of all other layers. [A, any] float32, rows contiguous
        layers: The place and shape of these layers. None is wider than `MAX_WIDTH`, and the last has at most
            `MAX_OUTPUTS` outputs.
        targets, active, num_rows, blocks, out, loss, origin, precision: As in `loss_head`.

    Raises:
        ValueError: A layer is too wide, or the two activations differ.
    """
    if layers.width > MAX_WIDTH or layers.outputs > MAX_OUTPUTS:
        raise ValueError(
            f"`layers` may be {MAX_WIDTH} wide with {MAX_OUTPUTS} outputs at most, "
            f"got {layers.width} and {layers.outputs}."
        )
    if inputs.activation != layers.activation:
        raise ValueError(f"`inputs` have activation {inputs.activation!r}, `layers` {layers.activation!r}.")
    if len(active) == 0 or len(blocks) == 0:
        return
    _fused_mlp_kernel[(len(blocks), len(active))](
        out,
        out.stride(0),
        parameters,
        parameters.stride(0),
        layers.places,
        len(layers.places),
        targets,
        active,
        num_rows,
        origin,
        blocks.first,
        blocks.count,
        inputs.base.shape[1],
        layers.outputs,
        *first_arguments(inputs, parameters),
        LOSS=loss,
        FIRST_HAS_BIAS=inputs.bias is not None,
        ACTIVATION=layers.activation,
        PRECISION=PRECISIONS[precision],
        BM=_ROWS,
        WIDTH=layers.width,
        BC=MAX_OUTPUTS,
        num_warps=_WARPS,
        num_stages=1,
        enable_fp_fusion=True,
    )
