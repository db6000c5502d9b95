"""Turns the sums over blocks of rows into mean losses, in float64 and in a fixed order.

The result therefore does not depend on how the work was divided. Reference: a cumulative sum of the blocks' sums over
the levels, with each level divided by its number of terms.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256  # block sums that are loaded together; changing it changes the order of the sum, and so the last bits


@triton.jit(do_not_specialize=["partial_stride", "levels"])
def _reduce_kernel(out, partial, partial_stride, active, num_blocks, ends, terms, levels, BLOCK: tl.constexpr):
    a = tl.program_id(0).to(tl.int64)
    slot = tl.load(active + a)
    if slot < 0:
        return
    wanted = tl.load(num_blocks + slot)
    total = tl.zeros((), dtype=tl.float64)
    start = 0
    for level in range(levels):
        end = tl.load(ends + level)
        for first in range(start, end, BLOCK):
            block = first + tl.arange(0, BLOCK)
            total += tl.sum(tl.load(partial + a * partial_stride + block, mask=block < end, other=0.0), axis=0)
        mean = tl.where(end <= wanted, total / tl.load(terms + level), float("nan"))
        tl.store(out + a * levels + level, mean)
        start = end


def reduce(partial: Tensor, active: Tensor, num_blocks: Tensor, ends: Tensor, terms: Tensor) -> Tensor:
    """Return the mean losses of nested levels; they are NaN on levels beyond a direction's blocks. [A, L] float64

    Args:
        partial: The summed losses of the blocks. [A, B] float64, rows contiguous
        active: The slot of each row, or -1 for rows that are left alone. [A] int32
        num_blocks: How many blocks were computed for each slot. [S] int32
        ends: The first block beyond each level, increasing. [L] int32
        terms: The number by which the sum of each level is divided. [L] float64

    Raises:
        ValueError: `partial` is not float64, its rows are not contiguous, or there are too many or too few of them.
    """
    if partial.dtype != torch.float64 or partial.stride(1) != 1 or len(partial) != len(active):
        raise ValueError(f"`partial` must be float64 [{len(active)}, B] with contiguous rows, got {partial.dtype}.")
    out = torch.empty((len(active), len(ends)), dtype=torch.float64, device=partial.device)
    if len(active):
        _reduce_kernel[(len(active),)](
            out,
            partial,
            partial.stride(0),
            active,
            num_blocks,
            ends,
            terms,
            len(ends),
            BLOCK=_BLOCK,
            num_warps=1,
            enable_fp_fusion=False,
        )
    return out
