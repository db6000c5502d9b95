"""How much memory of a device may be used, and for what."""

from __future__ import annotations

import torch

# Shares of what is free: for what rays keep between evaluations, and for scratch, that is for moves of the first weight
# while they are multiplied and for activations between two layers. The rest is for what torch itself allocates.
_KEPT, _SCRATCH = 0.65, 0.15
# Where nothing says how much is free: in the interpreter, and beside a budget.
_DEFAULT_KEPT, _DEFAULT_SCRATCH = 2**30, 2**28


def kept_bytes(device: torch.device, budget: int | None) -> int:
    """The bytes that rays may keep between evaluations: the budget, or most of what is free."""
    if budget is not None:
        return budget
    return int(_KEPT * _free(device)) if device.type == "cuda" else _DEFAULT_KEPT


def scratch_bytes(device: torch.device, budget: int | None) -> int:
    """The bytes that one pass may use for moves and activations. Radii do not depend on them."""
    if budget is not None or device.type != "cuda":
        return _DEFAULT_SCRATCH
    return max(_DEFAULT_SCRATCH, int(_SCRATCH * _free(device)))


def _free(device: torch.device) -> int:
    """What the driver calls free, and what torch holds without using it."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused
