"""Generates the Gaussian numbers of one parameter tensor along many directions, on the device.

Reference: `philox_normals` in basinvol's model/philox.py. The integers are equal bit for bit, and the normals to 1e-6.
The operations are those of the CPU engine's generator, without fused multiply-adds, so its normals are equal bit for
bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024  # groups of four normals to a program; one Philox call gives four


@triton.jit(do_not_specialize=["seed", "tensor", "size"])
def _normals_kernel(out, directions, seed, tensor, size, BLOCK: tl.constexpr):
    row = tl.program_id(1)
    element = tl.program_id(0).to(tl.int64) * 4 * BLOCK + tl.arange(0, 4 * BLOCK)
    values = gaussians(seed, tl.load(directions + row), tensor, tl.program_id(0), BLOCK)
    tl.store(out + row.to(tl.int64) * size + element, values, mask=element < size)


@triton.jit
def gaussians(seed, direction, tensor, program, BLOCK: tl.constexpr):
    """Return elements 4 BLOCK program to 4 BLOCK (program + 1) - 1 of a tensor's standard normals. [4 BLOCK] float32

    Args:
        seed: 64 bits, as a signed integer.
        direction: The index of the direction.
        tensor: The position of the parameter tensor in its space.
        program: Which part of the tensor.
        BLOCK: How many groups of four elements.
    """
    counter = (program * BLOCK + tl.arange(0, BLOCK)).to(tl.uint32)
    zero = counter * 0
    a, b, c, d = tl.philox(seed, counter, zero + direction.to(tl.uint32), zero + tensor, zero)
    first, second = _box_muller(a, b)
    third, fourth = _box_muller(c, d)
    return tl.interleave(tl.interleave(first, third), tl.interleave(second, fourth))


@triton.jit
def _box_muller(a, b):
    # (a + 1/2) / 2^32 is never 0; the angle is b / 2^32 of a turn.
    u = a.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    angle = b.to(tl.float32) * (2.3283064365386963e-10 * 6.283185307179586)
    radius = tl.sqrt_rn(-2.0 * _log(u))
    sine, cosine = _sincos(angle)
    return radius * cosine, radius * sine


# The polynomials are those of csrc/box_muller.h (from Cephes), in the same order. The device library's own sine has a
# path for huge arguments that needs a stack, and it rounds differently.
@triton.jit
def _log(x):
    bits = x.to(tl.int32, bitcast=True)
    exponent = (bits >> 23) - 126
    m = ((bits & 0x007FFFFF) | 0x3F000000).to(tl.float32, bitcast=True)
    small = m < 0.70710678
    exponent = tl.where(small, exponent - 1, exponent)
    m = m + tl.where(small, m, 0.0) - 1.0
    z = m * m
    p = m * 7.0376836292e-2 - 1.1514610310e-1
    p = p * m + 1.1676998740e-1
    p = p * m - 1.2420140846e-1
    p = p * m + 1.4249322787e-1
    p = p * m - 1.6668057665e-1
    p = p * m + 2.0000714765e-1
    p = p * m - 2.4999993993e-1
    p = p * m + 3.3333331174e-1
    e = exponent.to(tl.float32)
    y = m * z * p + e * -2.12194440e-4
    y = y - 0.5 * z
    return (m + y) + e * 0.693359375


@triton.jit
def _sincos(x):
    turns = (x * 0.63661977 + 12582912.0) - 12582912.0  # 1.5 x 2^23 rounds to an integer, 0 to 4
    quadrant = turns.to(tl.int32)
    # pi/2 in three parts (Cody and Waite), so that little is lost where the difference is small.
    y = ((x - turns * 1.5703125) - turns * 4.837512969970703125e-4) - turns * 7.549789948768648e-8
    z = y * y
    s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * y + y
    c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0
    swaps = (quadrant & 1) != 0
    sine, cosine = tl.where(swaps, c, s), tl.where(swaps, s, c)
    sine = tl.where((quadrant & 2) != 0, -sine, sine)
    cosine = tl.where(((quadrant + 1) & 2) != 0, -cosine, cosine)
    return sine, cosine


def normals(seed: int, directions: Tensor, tensor: int, size: int) -> Tensor:
    """Return the standard normals of one parameter tensor along some directions, in row-major order. [n, size] float32

    Args:
        seed: The seed, with 0 <= seed < 2^64.
        directions: The index of each direction, in [0, 2^32), on the device that computes. [n] int64
        tensor: The position of the parameter tensor in its space.
        size: The number of elements of the tensor.

    Raises:
        ValueError: `directions` is not a vector of int64, or `size` is not positive.
    """
    if directions.ndim != 1 or directions.dtype != torch.int64:
        raise ValueError(f"`directions` must be int64 [n], got {directions.dtype} {list(directions.shape)}.")
    if size < 1:
        raise ValueError(f"`size` must be positive, got {size}.")
    out = torch.empty((len(directions), size), dtype=torch.float32, device=directions.device)
    if len(directions):
        grid = (triton.cdiv(size, 4 * _BLOCK), len(directions))
        _normals_kernel[grid](out, directions, as_signed(seed), tensor, size, BLOCK=_BLOCK, enable_fp_fusion=False)
    return out


def as_signed(seed: int) -> int:
    """Return the same 64 bits as a signed integer, which a launch can pass."""
    return seed - 2**64 if seed >= 2**63 else seed
