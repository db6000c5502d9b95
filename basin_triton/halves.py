"""Splits float32 numbers into two fp16 numbers each, so that tensor cores multiply them as exactly as float32.

A number is first multiplied by a power of two that brings the largest of its group to between 2^13 and 2^14. Its high
part is the nearest fp16 number, and its low part is the nearest fp16 number to what is left: together they keep 22
bits, and 39 bits below the largest of the group. A product is the sum of three products on tensor cores (low times
high, high times low, high times high) of which each takes half the time of a tf32 product. Tensor cores round toward
zero, so each block of the depth has a sum of its own there, and these sums are added in float32 (Ootomo and Yokota
2022, "Recovering single precision accuracy from Tensor Cores").
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True)
class Halves:
    """Numbers as high + low, times a factor for each group.

    Attributes:
        parts: The high parts and the low parts. [G, 2, ...] fp16, contiguous from the third dimension on
        inverse: What the sum of both parts is multiplied by, a power of two. [G] float32
    """

    parts: Tensor
    inverse: Tensor


@triton.jit
def power_of_two(largest):
    """Return the power of two that brings `largest` to between 2^13 and 2^14, and its inverse; never 0 or infinite."""
    exponent = (largest.to(tl.int32, bitcast=True) >> 23) & 255
    exponent = tl.minimum(tl.maximum(exponent, 14), 254)
    factor = ((267 - exponent) << 23).to(tl.float32, bitcast=True)
    inverse = ((exponent - 13) << 23).to(tl.float32, bitcast=True)
    return factor, inverse


@triton.jit
def high_and_low(x):
    """Return the two parts of numbers that were multiplied by their factor."""
    high = x.to(tl.float16)
    return high, (x - high.to(tl.float32)).to(tl.float16)


@triton.jit
def split_rows(x):
    """Return the two parts of a tile, [BM, BK] fp16 each, and the inverse factor of each of its rows, [BM]."""
    factor, inverse = power_of_two(tl.max(tl.abs(x), axis=1))
    high, low = high_and_low(x * factor[:, None])
    return high, low, inverse


@triton.jit
def product(x_high, x_low, w_high, w_low):
    """Return the product of two split tiles, summed on the tensor cores from zero on."""
    total = tl.dot(x_low, w_high)
    total = tl.dot(x_high, w_low, total)
    return tl.dot(x_high, w_high, total)


def split(x: Tensor) -> Halves:
    """Return a tensor as halves of one group: [1, 2, *shape].

    Args:
        x: Finite numbers. float32
    """
    largest = x.abs().max().clamp(2.0**-112, 2.0**127)
    exponent = torch.frexp(largest).exponent - 1  # largest = m x 2^exponent, with 1 <= m < 2
    scaled = torch.ldexp(x, 13 - exponent)
    high = scaled.half()
    low = (scaled - high.float()).half()
    return Halves(torch.stack([high, low])[None], torch.ldexp(torch.ones_like(largest), exponent - 13).reshape(1))


def in_tiles(tensor: Tensor, tile: list[int]) -> Any:
    """Describe a tensor to the unit that copies tiles of it.

    Args:
        tensor: Its last dimension is contiguous, and every other stride a multiple of 16 bytes.
        tile: The shape of a tile, with as many dimensions.
    """
    from triton.tools.tensor_descriptor import TensorDescriptor  # from Triton 3.4 on, see `has_descriptors`

    return TensorDescriptor.from_tensor(tensor, tile)


def has_descriptors() -> bool:
    """Whether this version of Triton can describe a tensor to the unit that copies tiles, from 3.4 on."""
    return importlib.util.find_spec("triton.tools.tensor_descriptor") is not None
