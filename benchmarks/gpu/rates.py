"""The rates that a search is held against, measured in the same run."""

from __future__ import annotations

import torch

from .device import DEVICE, IS_REHEARSAL, seconds_of


def measure_rates() -> dict[str, float]:
    """Return operations per second of square matrix products by precision, and bytes per second of a copy."""
    size = 128 if IS_REHEARSAL else 8192
    a, b = (torch.randn(size, size, device=DEVICE) for _ in range(2))
    rates = {}
    allowed = torch.backends.cuda.matmul.allow_tf32
    for name, allows_tf32 in (("fp32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allows_tf32
        rates[name] = 2 * size**3 / seconds_of(lambda: torch.mm(a, b), 5)["median"]
    torch.backends.cuda.matmul.allow_tf32 = allowed
    rates["tf32x3"] = rates["tf32"] / 3  # three tf32 products for each product
    half_a, half_b = a.half(), b.half()
    rates["fp16x3"] = 2 * size**3 / seconds_of(lambda: torch.mm(half_a, half_b), 5)["median"] / 3
    source = torch.empty(size**2 * 16, dtype=torch.uint8, device=DEVICE)
    into = torch.empty_like(source)
    rates["copy"] = 2 * source.numel() / seconds_of(lambda: into.copy_(source), 5)["median"]
    return rates
