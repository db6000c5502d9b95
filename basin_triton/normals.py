"""The Gaussian numbers of one parameter tensor along many directions, on the device.

Reference: `basinvol.philox.philox_normals`; integers equal bit for bit, normals to 1e-6.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024  # blocks of four normals to a program


@triton.jit
def _normals_kernel(out, directions, seed, tensor, size, BLOCK: tl.constexpr):
    row = tl.program_id(1)
    direction = tl.load(directions + row)
    block = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    counter = block.to(tl.uint32)
    zero = counter * 0
    a, b, c, d = tl.philox(seed, counter, zero + direction.to(tl.uint32), zero + tensor, zero)
    first = row.to(tl.int64) * size + block.to(tl.int64) * 4
    left = size - block.to(tl.int64) * 4
    x, y = _box_muller(a, b)
    tl.store(out + first, x, mask=left > 0)
    tl.store(out + first + 1, y, mask=left > 1)
    x, y = _box_muller(c, d)
    tl.store(out + first + 2, x, mask=left > 2)
    tl.store(out + first + 3, y, mask=left > 3)


@triton.jit
def _box_muller(a, b):
    u = a.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    angle = b.to(tl.float32) * (2.3283064365386963e-10 * 6.283185307179586)
    radius = tl.sqrt(-2.0 * tl.log(u))
    return radius * tl.cos(angle), radius * tl.sin(angle)


def normals(seed: int, directions: Tensor, tensor: int, size: int) -> Tensor:
    """Standard normals of tensor number `tensor` along `directions`, in row-major order. [n, size] float32

    Args:
        seed: 0 <= seed < 2^64.
        directions: indices, each in [0, 2^32). [n] int64, on the device to compute on
        tensor: position of the parameter tensor in its space.
        size: its number of elements.

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
        signed = seed - 2**64 if seed >= 2**63 else seed
        _normals_kernel[grid](out, directions, signed, tensor, size, BLOCK=_BLOCK)
    return out
