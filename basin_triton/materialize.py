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

from .halves import high_and_low, power_of_two
from .normals import as_signed, gaussians
from .reduce import reduce

_BLOCK = 256  # groups of four elements to a program; one Philox call gives four normals
_COLUMNS = tl.constexpr(6)  # of a table of pieces
# No normal of the generator is larger than 6.77; those from memory may be twice this before a half overflows.
_LARGEST_NORMAL = tl.constexpr(8.0)


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
            for part in range(triton.cdiv(tensor[2], 4 * _BLOCK))
        ]
        table = torch.tensor(rows, dtype=torch.int64, device=device).reshape(-1, _COLUMNS.value)
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
    table += tl.program_id(0) * _COLUMNS
    move, at, inside = _moved(
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
def _moved(
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


@triton.jit(do_not_specialize=["seed", "count"])
def _materialize_halves_kernel(
    out,
    row_size,
    inverse,
    count,
    largest_center,
    largest_scale,
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
    HAS_CENTER: tl.constexpr,
    FROM_MEMORY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(1)
    slot = tl.load(active + row)
    if slot < 0:
        return
    table += tl.program_id(0) * _COLUMNS
    move, at, inside = _moved(
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
        True,
        FROM_MEMORY,
        BLOCK,
    )
    tensor = tl.load(table + 5)
    bound = tl.load(inverse_norm + slot).to(tl.float32) * tl.load(largest_scale + tensor) * _LARGEST_NORMAL
    if HAS_CENTER:
        bound = tl.load(largest_center + tensor) + tl.abs(tl.load(radius + slot).to(tl.float32)) * bound
    factor, its_inverse = power_of_two(bound)
    if tl.load(table + 4) == 0:
        tl.store(inverse + tensor * count + row, its_inverse)
    high, low = high_and_low(move * factor)
    out += row.to(tl.int64) * 2 * row_size + at
    tl.store(out, high, mask=inside)
    tl.store(out + row_size, low, mask=inside)


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
    _check(scale, directions, center, radius, normals)
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
        BLOCK=_BLOCK,
        enable_fp_fusion=False,
    )


@dataclass(frozen=True)
class Largest:
    """The largest absolute values of some tensors, from which the factors of their halves follow.

    Attributes:
        center: That of the parameters at the center. [T] float32
        scale: That of the scale. [T] float32
    """

    center: Tensor
    scale: Tensor

    @classmethod
    def of(cls, tensors: Sequence[tuple[int, int, int, int]], center: Tensor, scale: Tensor) -> Largest:
        """Look at the tensors of `Pieces.of` in the flat vectors. [P] each"""
        parts = [slice(first, first + size) for _, first, size, _ in tensors]
        return cls(*(torch.stack([flat[part].abs().max() for part in parts]) for flat in (center, scale)))


def materialize_halves(
    out: Tensor,
    inverse: Tensor,
    pieces: Pieces,
    largest: Largest,
    scale: Tensor,
    active: Tensor,
    directions: Tensor,
    inverse_norm: Tensor,
    *,
    seed: int,
    center: Tensor | None = None,
    radius: Tensor | None = None,
    normals: Tensor | None = None,
) -> None:
    """Fill rows as `materialize` does, with numbers that are split into halves; see `halves.Halves`.

    Args:
        out: The rows to fill, high parts and then low parts. [A, 2, row_size or more] fp16, contiguous
        inverse: Where to write the inverse factor of every tensor and row. [T, A] float32, contiguous
        pieces: The tensors, and where they lie in a row.
        largest: The largest values of these tensors.
        scale, active, directions, inverse_norm, seed, center, radius, normals: As in `materialize`.

    Raises:
        ValueError: An argument has another shape, or only one of `center` and `radius` is given.
    """
    if out.shape[:2] != (len(active), 2) or out.shape[2] < pieces.row_size or not out.is_contiguous():
        raise ValueError(
            f"`out` must be contiguous [{len(active)}, 2, {pieces.row_size} or more], got {list(out.shape)}."
        )
    if inverse.shape != (pieces.num_tensors, len(active)) or not inverse.is_contiguous():
        raise ValueError(
            f"`inverse` must be contiguous [{pieces.num_tensors}, {len(active)}], got {list(inverse.shape)}."
        )
    _check(scale, directions, center, radius, normals)
    if len(active) == 0 or len(pieces) == 0:
        return
    _materialize_halves_kernel[(len(pieces), len(active))](
        out,
        out.shape[2],
        inverse,
        len(active),
        largest.center,
        largest.scale,
        pieces.table,
        scale if center is None else center,
        scale,
        active,
        directions,
        inverse_norm,
        inverse_norm if radius is None else radius,
        as_signed(seed),
        scale if normals is None else normals,
        0 if normals is None else normals.stride(0),
        HAS_CENTER=center is not None,
        FROM_MEMORY=normals is not None,
        BLOCK=_BLOCK,
        enable_fp_fusion=False,
    )


def _check(
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
    table += piece * _COLUMNS
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
            partial, count, pieces.table, directions, as_signed(seed), BLOCK=_BLOCK, enable_fp_fusion=False
        )
    rows = torch.arange(len(directions), dtype=torch.int32, device=directions.device)
    ends = torch.tensor([count], dtype=torch.int32, device=directions.device)
    one = torch.ones(1, dtype=torch.float64, device=directions.device)
    # The order of torch's own sum depends on the number of directions.
    return reduce(partial, rows, ends.expand(len(rows)).contiguous(), ends, one)[:, 0]
