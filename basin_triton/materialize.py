"""Computes the parameters of one tensor at center + radius x scale x direction, for every active direction.

Reference: `Directions.materialize` times the scale, times the radius, plus the center. The generator of the directions
runs inside the kernel, so no direction is ever stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .normals import as_signed, gaussians
from .reduce import reduce

_BLOCK = 256  # groups of four elements to a program; one Philox call gives four normals


@triton.jit
def _materialize_kernel(
    out,
    out_stride,
    center,
    scale,
    active,
    directions,
    inverse_norm,
    radius,
    seed,
    tensor,
    size,
    normals,
    normals_stride,
    HAS_CENTER: tl.constexpr,
    FROM_MEMORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(1)
    slot = tl.load(active + row)
    if slot < 0:
        return
    element = tl.program_id(0) * 4 * BLOCK + tl.arange(0, 4 * BLOCK)
    inside = element < size
    if FROM_MEMORY:
        normal = tl.load(normals + slot.to(tl.int64) * normals_stride + element, mask=inside, other=0.0)
    else:
        normal = gaussians(seed, tl.load(directions + slot), tensor, tl.program_id(0), BLOCK)
    move = normal * tl.load(inverse_norm + slot).to(tl.float32) * tl.load(scale + element, mask=inside, other=0.0)
    if HAS_CENTER:
        reach = tl.load(radius + slot).to(tl.float32)
        move = tl.load(center + element, mask=inside, other=0.0) + reach * move
    tl.store(out + row.to(tl.int64) * out_stride + element, move, mask=inside)


def materialize(
    out: Tensor,
    scale: Tensor,
    active: Tensor,
    directions: Tensor,
    inverse_norm: Tensor,
    *,
    seed: int,
    tensor: int,
    center: Tensor | None = None,
    radius: Tensor | None = None,
    normals: Tensor | None = None,
) -> None:
    """Fill row i of `out` with center + radius[s] x move of the direction in slot s = active[i].

    The move is normal x inverse_norm[s] x scale. Without a center, the move alone is written. Rows with slot -1 are
    left alone.

    Args:
        out: The rows to fill. [A, size] float32, rows contiguous, any row stride
        scale: The positive factor of each element. [size] float32
        active: A slot, or -1, for every row of `out`. [A] int32
        directions: The index of the direction in each slot. [S] int64
        inverse_norm: 1 / norm of the Gaussian vector of each slot, over all tensors. [S] float64
        seed, tensor: As in `normals`.
        center: The tensor at the center, given together with `radius`. [size] float32
        radius: The radius of each slot, in scaled coordinates. [S] float64
        normals: Gaussian numbers to use in place of those of the generator. [S, size] float32, rows contiguous

    Raises:
        ValueError: `out` or `normals` has another shape, or only one of `center` and `radius` is given.
    """
    size = scale.numel()
    if out.shape != (len(active), size) or out.stride(1) != 1:
        raise ValueError(f"`out` must be [{len(active)}, {size}] with contiguous rows, got {list(out.shape)}.")
    if (center is None) != (radius is None):
        raise ValueError("`center` and `radius` must be given together.")
    if normals is not None and (normals.shape != (len(directions), size) or normals.stride(1) != 1):
        raise ValueError(f"`normals` must be [{len(directions)}, {size}] with contiguous rows.")
    if len(active) == 0:
        return
    grid = (triton.cdiv(size, 4 * _BLOCK), len(active))
    _materialize_kernel[grid](
        out,
        out.stride(0),
        scale if center is None else center,
        scale,
        active,
        directions,
        inverse_norm,
        inverse_norm if radius is None else radius,
        as_signed(seed),
        tensor,
        size,
        scale if normals is None else normals,
        0 if normals is None else normals.stride(0),
        HAS_CENTER=center is not None,
        FROM_MEMORY=normals is not None,
        BLOCK=_BLOCK,
        enable_fp_fusion=False,
    )


@triton.jit
def _square_norms_kernel(out, out_stride, directions, seed, tensor, size, BLOCK: tl.constexpr):
    row = tl.program_id(1)
    element = tl.program_id(0) * 4 * BLOCK + tl.arange(0, 4 * BLOCK)
    normal = gaussians(seed, tl.load(directions + row), tensor, tl.program_id(0), BLOCK).to(tl.float64)
    square = tl.where(element < size, normal * normal, 0.0)
    tl.store(out + row.to(tl.int64) * out_stride + tl.program_id(0), tl.sum(square, axis=0))


def square_norms(seed: int, directions: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the squared norm of each direction's Gaussian vector, over all tensors. [S] float64

    The sum is taken in a fixed order, so it does not depend on the number of directions.

    Args:
        seed: As in `normals`.
        directions: The index of each direction. [S] int64
        sizes: The number of elements of every tensor.
    """
    blocks = [triton.cdiv(size, 4 * _BLOCK) for size in sizes]
    partial = torch.empty((len(directions), sum(blocks)), dtype=torch.float64, device=directions.device)
    first = 0
    for tensor, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
        _square_norms_kernel[(count, len(directions))](
            partial[:, first:],
            partial.stride(0),
            directions,
            as_signed(seed),
            tensor,
            size,
            BLOCK=_BLOCK,
            enable_fp_fusion=False,
        )
        first += count
    rows = torch.arange(len(directions), dtype=torch.int32, device=directions.device)
    ends = torch.tensor([first], dtype=torch.int32, device=directions.device)
    one = torch.ones(1, dtype=torch.float64, device=directions.device)
    # The order of torch's own sum depends on the number of directions.
    return reduce(partial, rows, ends.expand(len(rows)).contiguous(), ends, one)[:, 0]
