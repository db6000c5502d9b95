"""Computes convolutions in which every channel has a window of its own: one sum for each channel and pixel.

Reference: conv2d of torch.nn.functional with as many groups as channels. Channels lie side by side.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .convolution import WINDOW, Image, Window, window_arguments
from .product import Rows
from .strided import Strided

_BLOCK = 512  # outputs to a program


@triton.jit(do_not_specialize=["elements", "taps", *WINDOW])
def _depthwise_kernel(
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
    elements,
    channels,
    taps,
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
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    element = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_output = element < elements
    row, channel = element // channels, element % channels
    pixel = row % pixels
    top, left = pixel // out_width * stride_y - pad_y, pixel % out_width * stride_x - pad_x
    x += direction * x_direction + (row // pixels * x_example + top * row_stride + left * column_stride + channel)
    weight += direction * weight_direction + channel
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    if HAS_BIAS:
        total = tl.load(bias + direction * bias_direction + channel, mask=is_output, other=0.0)
    for tap in range(taps):
        y, column = tap // kernel_width * step_y, tap % kernel_width * step_x
        inside = (
            (top + y >= 0) & (top + y < image_height) & (left + column >= 0) & (left + column < image_width) & is_output
        )
        value = tl.load(x + (y * row_stride + column * column_stride), mask=inside, other=0.0)
        total += value * tl.load(weight + tap * channels, mask=is_output, other=0.0)
    tl.store(out + direction * out_direction + (row * out_stride + channel), total, mask=is_output)


def depthwise(
    out: Rows,
    x: Image,
    weight: Strided,
    bias: Strided | None,
    window: Window,
    channels: int,
    directions: int,
    examples: int,
) -> None:
    """Write the convolution of every channel to `out`.

    Args:
        out: The result, a row of all channels for each pixel.
        x: The images.
        weight: [kernel height, kernel width, channels] without gaps; the weight of no example.
        bias: A number for each channel, or None.
        window: Where pixels are read.
        channels: How many.
        directions, examples: How many.
    """
    elements = window.pixels * channels * examples
    if elements == 0 or directions == 0:
        return
    _depthwise_kernel[(triton.cdiv(elements, _BLOCK), directions)](
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
        weight.memory if bias is None else bias.memory,
        0 if bias is None else bias.direction,
        elements,
        channels,
        window.taps,
        *window_arguments(window),
        HAS_BIAS=bias is not None,
        BLOCK=_BLOCK,
        enable_fp_fusion=True,
    )
