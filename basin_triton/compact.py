"""Collects the rays that are still open, in order, and the two numbers that the host needs to know about them.

Reference: `active[level[active] >= 0]`, its length, and the largest level.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# One program takes all the rays, so that their order needs no second pass. More rays would not fit its registers.
MAX_RAYS = 4096
_FEW = 512  # a smaller program for small blocks of directions

_WARPS = 8


@triton.jit(do_not_specialize=["num_active"])
def _compact_kernel(active, num_active, probe_level, still_active, summary, BLOCK: tl.constexpr):
    position = tl.arange(0, BLOCK)
    ray = tl.load(active + position, mask=position < num_active, other=-1)
    level = tl.load(probe_level + ray, mask=ray >= 0, other=-1).to(tl.int32)
    stays = level >= 0
    place = tl.cumsum(stays.to(tl.int32), axis=0) - 1
    tl.store(still_active + position, place * 0 - 1, mask=position < num_active)
    # Without the barrier, another warp could write its -1 over a ray that is stored below.
    tl.debug_barrier()
    tl.store(still_active + place, ray, mask=stays)
    tl.store(summary, tl.sum(stays.to(tl.int32), axis=0))
    tl.store(summary + 1, tl.max(level, axis=0))


def compact(active: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return the active rays whose level is not -1, and a summary for the host.

    Args:
        active: At most `MAX_RAYS` rays. Entries of -1 are left out. [A] int32
        level: The level at which each ray is to be evaluated, or -1 for a ray that is finished. [D] int64

    Returns:
        The rays in order, followed by -1, [A] int32; and their number and their highest level, [2] int32.

    Raises:
        ValueError: `active` holds more than `MAX_RAYS` rays.
    """
    count = len(active)
    if count > MAX_RAYS:
        raise ValueError(f"`active` must hold at most {MAX_RAYS} rays, got {count}.")
    still_active, summary = torch.empty_like(active), torch.empty(2, dtype=torch.int32, device=active.device)
    _compact_kernel[(1,)](active, count, level, still_active, summary, BLOCK=block_of(count), num_warps=_WARPS)
    return still_active, summary


def block_of(count: int) -> int:
    """Return how many rays the program for `count` rays has room for."""
    return _FEW if count <= _FEW else MAX_RAYS
