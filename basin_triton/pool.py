"""Computes the largest number, or the sum times a factor, of windows of an image whose channels lie side by side.

Reference: max_pool2d, avg_pool2d and adaptive_avg_pool2d of torch.nn.functional. Windows are cut where the image ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .strided import Strided

_BLOCK = 256  # outputs to a program


@dataclass(frozen=True)
class Windows:
    """The windows of all outputs.

    Attributes:
        bounds: First and last row of each output along the height, then first and last column along the width; the last
            is one beyond. [2 (height + width)] int32
        factors: What the sum of each window is multiplied by. [height, width] float32
        height, width: The size of the output.
        most_rows, most_columns: The sides of the largest window.
    """

    bounds: Tensor
    factors: Tensor
    height: int
    width: int
    most_rows: int
    most_columns: int

    @classmethod
    def of(
        cls, bounds: Sequence[int], factors: Sequence[float], height: int, width: int, device: torch.device
    ) -> Windows:
        """Return the windows; see the attributes."""
        spans = [last - first for first, last in zip(bounds[::2], bounds[1::2], strict=True)]
        return cls(
            torch.tensor(bounds, dtype=torch.int32, device=device),
            torch.tensor(factors, dtype=torch.float32, device=device),
            height,
            width,
            max(spans[:height]),
            max(spans[height:]),
        )


@triton.jit(do_not_specialize=["elements", "out_height", "out_width", "most_rows", "most_columns"])
def _pool_kernel(
    out,
    out_direction,
    out_example,
    x,
    x_direction,
    x_example,
    row_stride,
    column_stride,
    bounds,
    factors,
    elements,
    channels,
    out_height,
    out_width,
    most_rows,
    most_columns,
    IS_MAX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    element = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = element < elements
    pixel, channel = element // channels, element % channels
    example, pixel = pixel // (out_height * out_width), pixel % (out_height * out_width)
    along_y, along_x = bounds + 2 * (pixel // out_width), bounds + 2 * (out_height + pixel % out_width)
    y, last_y = tl.load(along_y, mask=inside, other=0), tl.load(along_y + 1, mask=inside, other=0)
    x0, last_x = tl.load(along_x, mask=inside, other=0), tl.load(along_x + 1, mask=inside, other=0)
    x += direction * x_direction + (example * x_example + y * row_stride + x0 * column_stride + channel)
    found = tl.full((BLOCK,), float("-inf") if IS_MAX else 0.0, dtype=tl.float32)
    for i in range(most_rows):
        row = found if IS_MAX else tl.zeros((BLOCK,), dtype=tl.float32)
        for j in range(most_columns):
            is_seen = inside & (y + i < last_y) & (x0 + j < last_x)
            value = tl.load(
                x + (i * row_stride + j * column_stride), mask=is_seen, other=float("-inf") if IS_MAX else 0.0
            )
            if IS_MAX:
                row = tl.where((value > row) | (value != value), value, row)
            else:
                row += value
        found = row if IS_MAX else found + row
    if not IS_MAX:
        found *= tl.load(factors + pixel, mask=inside, other=0.0)
    out += direction * out_direction + (example * out_example + pixel * channels + channel)
    tl.store(out, found, mask=inside)


def pool(
    out: Strided,
    x: Strided,
    row_stride: int,
    column_stride: int,
    channels: int,
    windows: Windows,
    is_max: bool,
    directions: int,
    examples: int,
) -> None:
    """Write the largest number or the scaled sum of every window to `out`, [height, width, channels] of each example.

    Args:
        out, x: The result, whose numbers lie side by side, and the image.
        row_stride, column_stride: The floats from one row and column of the image to the next.
        channels: How many.
        windows: Which.
        is_max: Whether it is the largest.
        directions, examples: How many.
    """
    elements = windows.height * windows.width * channels * examples
    if elements == 0 or directions == 0:
        return
    _pool_kernel[(triton.cdiv(elements, _BLOCK), directions)](
        out.memory,
        out.direction,
        out.example,
        x.memory,
        x.direction,
        x.example,
        row_stride,
        column_stride,
        windows.bounds,
        windows.factors,
        elements,
        channels,
        windows.height,
        windows.width,
        windows.most_rows,
        windows.most_columns,
        IS_MAX=is_max,
        BLOCK=_BLOCK,
        enable_fp_fusion=True,
    )
