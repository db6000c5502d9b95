"""The rays that are still open, in order, and what the host has to know of them.

Reference: `active[level[active] >= 0]`, its length, and the largest level.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rays that the one program takes: more would not fit its registers.
MAX_RAYS = 4096
_FEW = 512

_WARPS = 8


@triton.jit
def _compact_kernel(active, num_active, probe_level, still_active, summary, BLOCK: tl.constexpr):
    position = tl.arange(0, BLOCK)
    ray = tl.load(active + position, mask=position < num_active, other=-1)
    level = tl.load(probe_level + ray, mask=ray >= 0, other=-1).to(tl.int32)
    stays = level >= 0
    place = tl.cumsum(stays.to(tl.int32), axis=0) - 1
    tl.store(still_active + position, place * 0 - 1, mask=position < num_active)
    tl.debug_barrier()
    tl.store(still_active + place, ray, mask=stays)
    tl.store(summary, tl.sum(stays.to(tl.int32), axis=0))
    tl.store(summary + 1, tl.max(level, axis=0))


def compact(active: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """The active rays whose level is not -1, in order, then -1 [A] int32; their number and highest level, [2] int32.

    Args:
        active: at most `MAX_RAYS` rays; -1 are left out. [A] int32
        level: of every ray. [D] int64
    """
    count = len(active)
    if count > MAX_RAYS:
        raise ValueError(f"`active` must hold at most {MAX_RAYS} rays, got {count}.")
    still_active, summary = torch.empty_like(active), torch.empty(2, dtype=torch.int32, device=active.device)
    _compact_kernel[(1,)](active, count, level, still_active, summary, BLOCK=block_of(count), num_warps=_WARPS)
    return still_active, summary


def block_of(count: int) -> int:
    """Places of the program for that many rays."""
    return _FEW if count <= _FEW else MAX_RAYS
