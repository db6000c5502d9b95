"""Computes parameters at center + radius x scale x direction, for many tensors and every active direction at once.

Reference: `Directions.materialize` times the scale, times the radius, plus the center. The generator of the directions
runs inside the kernel, so no direction is ever stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .normals import as_signed, gaussians
from .reduce import reduce

BLOCK_GROUPS = 256  # groups of four elements to a program; one Philox call gives four normals
COLUMNS = tl.constexpr(6)  # of a table of pieces


@dataclass(frozen=True)
class Pieces:
    """Some parameter tensors of a space, cut into the pieces that programs take, so that one launch does all of them.

    Attributes:
        table: For each piece: the position of its tensor in the space, the first element of that tensor in the flat
            vector, its number of elements, its first element in a row of the output, which part of the tensor the
            piece is, and the position of the tensor among these. [pieces, 6] int64
        row_size: The least length of a row of the output.
        num_tensors: The number of tensors.
    """

    table: Tensor
    row_size: int
    num_tensors: int

    @classmethod
    def of(cls, tensors: Sequence[tuple[int, int, int, int]], device: torch.device) -> Pieces:
        """Cut tensors into pieces.

        Args:
            tensors: For each tensor: its position in the space, its first element in the flat vector, its number of
                elements, and its first element in a row of the output.
            device: The device that holds the table.
        """
        rows = [
            (*tensor, part, position)
            for position, tensor in enumerate(tensors)
            for part in range(triton.cdiv(tensor[2], 4 * BLOCK_GROUPS))
        ]
        table = torch.tensor(rows, dtype=torch.int64, device=device).reshape(-1, COLUMNS.value)
        return cls(table, max((size + at for _, _, size, at in tensors), default=0), len(tensors))

    def __len__(self) -> int:
        return len(self.table)


@triton.jit
def _lanes(part, size, BLOCK: tl.constexpr):
    # Only what is the same for all lanes has 64 bits, for tensors of more than 2^31 elements: lanes of 64 bits would
    # cost registers.
    begin = part.to(tl.int64) * 4 * BLOCK
    lane = tl.arange(0, 4 * BLOCK)
    return lane, lane < tl.minimum(size - begin, 4 * BLOCK).to(tl.int32), begin


@triton.jit(do_not_specialize=["seed"])
def _materialize_kernel(
    out,
    out_stride,
    table,
    center,
    scale,
    active,
    directions,
    inverse_norm,
    radius,
    seed,
    normals,
    normals_stride,
    HAS_SCALE: tl.constexpr,
    HAS_CENTER: tl.constexpr,
    FROM_MEMORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(1)
    slot = tl.load(active + row)
    if slot < 0:
        return
    table += tl.program_id(0) * COLUMNS
    move, at, inside = moved(
        table,
        center,
        scale,
        slot,
        directions,
        inverse_norm,
        radius,
        seed,
        normals,
        normals_stride,
        HAS_CENTER,
        HAS_SCALE,
        FROM_MEMORY,
        BLOCK,
    )
    tl.store(out + row.to(tl.int64) * out_stride + at, move, mask=inside)


@triton.jit
def moved(
    table,
    center,
    scale,
    slot,
    directions,
    inverse_norm,
    radius,
    seed,
    normals,
    normals_stride,
    HAS_CENTER: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    FROM_MEMORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Return the parameters of a piece, their places in a row, and which of them there are. [4 BLOCK] each"""
    tensor, first, size = tl.load(table).to(tl.int32), tl.load(table + 1), tl.load(table + 2)
    at, part = tl.load(table + 3), tl.load(table + 4).to(tl.int32)
    lane, inside, begin = _lanes(part, size, BLOCK)
    first += begin
    if FROM_MEMORY:
        normal = tl.load(normals + slot.to(tl.int64) * normals_stride + first + lane, mask=inside, other=0.0)
    else:
        normal = gaussians(seed, tl.load(directions + slot), tensor, part, BLOCK)
    inverse = tl.load(inverse_norm + slot)
    if HAS_SCALE:
        move = normal * inverse.to(tl.float32) * tl.load(scale + first + lane, mask=inside, other=0.0)
    else:  # rounded once, as the generator of the CPU does
        move = (normal.to(tl.float64) * inverse).to(tl.float32)
    if HAS_CENTER:
        reach = tl.load(radius + slot).to(tl.float32)
        move = tl.load(center + first + lane, mask=inside, other=0.0) + reach * move
    return move, at + begin + lane, inside


def materialize(
    out: Tensor,
    pieces: Pieces,
    scale: Tensor | None,
    active: Tensor,
    directions: Tensor,
    inverse_norm: Tensor,
    *,
    seed: int,
    center: Tensor | None = None,
    radius: Tensor | None = None,
    normals: Tensor | None = None,
) -> None:
    """Fill row i of `out` with center + radius[s] x move of the direction in slot s = active[i], for some tensors.

    The move is normal x inverse_norm[s] x scale. Without a scale it is the unit vector itself, rounded once from
    float64, with the bits of the CPU engine's. Without a center, the move alone is written. Rows with slot -1 are left
    alone, as is what lies between the tensors.

    Args:
        out: The rows to fill. [A, row_size or more] float32, rows contiguous, any row stride
        pieces: The tensors, and where they lie in a row.
        scale: The positive factor of each parameter, or None where all are one. [P] float32
        active: A slot, or -1, for every row of `out`. [A] int32
        directions: The index of the direction in each slot. [S] int64
        inverse_norm: 1 / norm of the Gaussian vector of each slot, over all tensors. [S] float64
        seed: As in `normals`.
        center: The parameters at the center, given together with `radius`. [P] float32
        radius: The radius of each slot, in scaled coordinates. [S] float64
        normals: Gaussian numbers to use in place of those of the generator. [S, P] float32, rows contiguous

    Raises:
        ValueError: `out` or `normals` has another shape, or only one of `center` and `radius` is given.
    """
    if len(out) != len(active) or out.ndim != 2 or out.shape[1] < pieces.row_size or out.stride(1) != 1:
        raise ValueError(
            f"`out` must be [{len(active)}, {pieces.row_size} or more] with contiguous rows, got {list(out.shape)}."
        )
    check_vectors(scale, directions, center, radius, normals)
    if len(active) == 0 or len(pieces) == 0:
        return
    unused = out  # a pointer that the kernel does not read
    _materialize_kernel[(len(pieces), len(active))](
        out,
        out.stride(0),
        pieces.table,
        unused if center is None else center,
        unused if scale is None else scale,
        active,
        directions,
        inverse_norm,
        inverse_norm if radius is None else radius,
        as_signed(seed),
        unused if normals is None else normals,
        0 if normals is None else normals.stride(0),
        HAS_SCALE=scale is not None,
        HAS_CENTER=center is not None,
        FROM_MEMORY=normals is not None,
        BLOCK=BLOCK_GROUPS,
        enable_fp_fusion=False,
    )


def check_vectors(
    scale: Tensor | None, directions: Tensor, center: Tensor | None, radius: Tensor | None, normals: Tensor | None
) -> None:
    if (center is None) != (radius is None):
        raise ValueError("`center` and `radius` must be given together.")
    if normals is not None:
        size = normals.shape[-1] if scale is None else len(scale)
        if normals.shape != (len(directions), size) or normals.stride(1) != 1:
            raise ValueError(f"`normals` must be [{len(directions)}, {size}] with contiguous rows.")


@triton.jit(do_not_specialize=["seed", "num_pieces"])
def _square_norms_kernel(out, num_pieces, table, directions, seed, BLOCK: tl.constexpr):
    row = tl.program_id(1)
    piece = tl.program_id(0)
    table += piece * COLUMNS
    part = tl.load(table + 4).to(tl.int32)
    _, inside, _ = _lanes(part, tl.load(table + 2), BLOCK)
    normal = gaussians(seed, tl.load(directions + row), tl.load(table).to(tl.int32), part, BLOCK).to(tl.float64)
    square = tl.where(inside, normal * normal, 0.0)
    tl.store(out + row.to(tl.int64) * num_pieces + piece, tl.sum(square, axis=0))


def square_norms(seed: int, directions: Tensor, pieces: Pieces) -> Tensor:
    """Return the squared norm of each direction's Gaussian vector, over some tensors. [S] float64

    The sum is taken in a fixed order, so it does not depend on the number of directions.

    Args:
        seed: As in `normals`.
        directions: The index of each direction. [S] int64
        pieces: The tensors.
    """
    count = len(pieces)
    partial = torch.empty((len(directions), count), dtype=torch.float64, device=directions.device)
    if partial.numel():
        _square_norms_kernel[(count, len(directions))](
            partial, count, pieces.table, directions, as_signed(seed), BLOCK=BLOCK_GROUPS, enable_fp_fusion=False
        )
    rows = torch.arange(len(directions), dtype=torch.int32, device=directions.device)
    ends = torch.tensor([count], dtype=torch.int32, device=directions.device)
    one = torch.ones(1, dtype=torch.float64, device=directions.device)
    # The order of torch's own sum depends on the number of directions.
    return reduce(partial, rows, ends.expand(len(rows)).contiguous(), ends, one)[:, 0]
