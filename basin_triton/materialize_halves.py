"""Computes parameters at center + radius x scale x direction as `materialize` does, split into halves.

Reference: `materialize`, and `halves.split` with a factor for each tensor and direction. The factor follows from the
largest values that the tensor can take, because no program sees all of a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .halves import high_and_low, power_of_two
from .materialize import BLOCK_GROUPS, COLUMNS, Pieces, check_vectors, moved
from .normals import as_signed

# No normal of the generator is larger than 6.77; those from memory may be twice this before a half overflows.
_LARGEST_NORMAL = tl.constexpr(8.0)


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
    check_vectors(scale, directions, center, radius, normals)
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
        BLOCK=BLOCK_GROUPS,
        enable_fp_fusion=False,
    )
