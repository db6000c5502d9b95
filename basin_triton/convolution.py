"""Computes convolutions in programs: function(convolution(x, weight) + bias + added), on images with channels last.

Reference: conv2d of torch.nn.functional with strides, padding, dilation and groups. A tile of the result is a product:
its rows are pixels of the output, its depth the inputs of the window, which are read where they lie in the image. The
patches are never stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

from .linear import PRECISIONS
from .product import Finish, Rows, finished
from .strided import Strided
from .tiles import Tile, tile_of


@dataclass(frozen=True)
class Image:
    """Images whose channels lie side by side.

    Attributes:
        value: The memory.
        row_stride, column_stride: The floats from one row, and from one column, to the next.
    """

    value: Strided
    row_stride: int
    column_stride: int


@dataclass(frozen=True)
class Window:
    """The window of a convolution, and how it moves. Pixels outside of the image are zeros.

    Attributes:
        height, width: The size of the image.
        kernel_height, kernel_width: The size of the window.
        stride_y, stride_x: From one output to the next.
        pad_y, pad_x: Where the first window begins, in pixels before the image.
        step_y, step_x: From one pixel of the window to the next.
        out_height, out_width: The size of the output.
    """

    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    step_y: int
    step_x: int
    out_height: int
    out_width: int

    @property
    def taps(self) -> int:
        """The number of pixels of the window."""
        return self.kernel_height * self.kernel_width

    @property
    def pixels(self) -> int:
        """The number of pixels of the output."""
        return self.out_height * self.out_width


WINDOW = (  # arguments of kernels, none of which is worth a kernel of its own
    *("image_height", "image_width", "kernel_width", "stride_y", "stride_x", "pad_y", "pad_x", "step_y", "step_x"),
    *("pixels", "out_width"),
)


def window_arguments(window: Window) -> tuple[int, ...]:
    """Return the values of the arguments `WINDOW`."""
    names = ("height", "width", *WINDOW[2:])
    return tuple(getattr(window, name) for name in names)


@triton.jit(do_not_specialize=["rows", "first", "second", *WINDOW])
def _convolution_kernel(
    out,
    out_direction,
    out_stride,
    x,
    x_direction,
    x_example,
    row_stride,
    column_stride,
    weight,
    weight_direction,
    bias,
    bias_direction,
    added,
    added_direction,
    added_stride,
    rows,
    channels,
    depth,
    outputs,
    groups,
    image_height,
    image_width,
    kernel_width,
    stride_y,
    stride_x,
    pad_y,
    pad_x,
    step_y,
    step_x,
    pixels,
    out_width,
    first,
    second,
    WHOLE: tl.constexpr,
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
    group = tl.program_id(0) // tiles % groups
    start = tl.program_id(0) // (tiles * groups) * BM
    first_unit = (tl.program_id(0) % tiles) * BN
    row = tl.minimum(tl.arange(0, BM), rows - 1 - start)[:, None]
    unit = tl.minimum(tl.arange(0, BN), outputs - 1 - first_unit)[None, :]
    pixel = (start + row) % pixels
    top, left = pixel // out_width * stride_y - pad_y, pixel % out_width * stride_x - pad_x
    # The place of a patch may lie before the image, where nothing is read.
    patch = (start + row) // pixels * x_example + top * row_stride + left * column_stride
    x += direction * x_direction + group * channels
    weight += direction * weight_direction + (group * outputs + first_unit).to(tl.int64) * depth
    at_unit = unit * depth
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for begin in range(0, depth, BK):
        k_row, k_column = begin + tl.arange(0, BK)[None, :], begin + tl.arange(0, BK)[:, None]
        if WHOLE:  # a block of the depth lies within one pixel of the window
            tap = begin // channels
            channel = begin % channels + tl.arange(0, BK)[None, :]
        else:
            tap, channel = k_row // channels, k_row % channels
        y, column = tap // kernel_width * step_y, tap % kernel_width * step_x
        inside = (top + y >= 0) & (top + y < image_height) & (left + column >= 0) & (left + column < image_width)
        at = patch + (y * row_stride + column * column_stride + channel)
        values = tl.load(x + at, mask=inside & (k_row < depth), other=0.0)
        right = tl.load(weight + at_unit + k_column, mask=k_column < depth, other=0.0)
        total = tl.dot(values, right, total, input_precision=PRECISION)
    first_unit += group * outputs
    bias += direction * bias_direction + first_unit
    added += direction * added_direction + start.to(tl.int64) * added_stride + first_unit
    total = finished(total, bias, added, first, second, row, added_stride, unit, HAS_BIAS, HAS_ADDED, FUNCTION)
    out += direction * out_direction + start.to(tl.int64) * out_stride + first_unit
    in_group = tl.arange(0, BN)[None, :] < outputs - (tl.program_id(0) % tiles) * BN
    mask = (tl.arange(0, BM)[:, None] < rows - start) & in_group
    tl.store(out + row * out_stride + unit, total, mask=mask)


def convolution(
    out: Rows,
    x: Image,
    weight: Strided,
    window: Window,
    channels: int,
    outputs: int,
    groups: int,
    directions: int,
    examples: int,
    *,
    finish: Finish | None = None,
    precision: str = "fp32",
    tile: Tile | None = None,
) -> None:
    """Write function(convolution(x, weight) + bias + added) to `out`.

    Args:
        out: The result, a row of all outputs for each pixel.
        x: The images.
        weight: [groups, outputs, kernel height, kernel width, channels] without gaps; the weight of no example.
        window: Where pixels are read.
        channels, outputs: How many a group has.
        groups: How many.
        directions, examples: How many.
        finish: What follows the convolution.
        precision: "fp32", "tf32x3" or "tf32"; see `linear.PRECISIONS`.
        tile: How to cut the product, if not as `tiles.tile_of` says.
    """
    rows = window.pixels * examples
    if rows == 0 or directions == 0:
        return
    finish = finish or Finish()
    bias, added = finish.bias or x.value, finish.added or Rows(x.value, 0)
    tile = tile or tile_of(precision, outputs, device=x.value.memory.device)
    tiles = triton.cdiv(rows, tile.rows) * triton.cdiv(outputs, tile.outputs) * groups
    _convolution_kernel[(tiles, directions)](
        out.value.memory,
        out.value.direction,
        out.stride,
        x.value.memory,
        x.value.direction,
        x.value.example,
        x.row_stride,
        x.column_stride,
        weight.memory,
        weight.direction,
        bias.memory,
        bias.direction,
        added.value.memory,
        added.value.direction,
        added.stride,
        rows,
        channels,
        window.taps * channels,
        outputs,
        groups,
        *window_arguments(window),
        finish.first,
        finish.second,
        WHOLE=channels % tile.depth == 0,
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
