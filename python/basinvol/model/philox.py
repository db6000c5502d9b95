"""Philox4x32-10 and Box-Muller in torch: normals known by (seed, direction, tensor, element)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 5.4.
_MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
_KEY_STEP = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = 0xFFFFFFFF


def philox_words(seed: int, direction: int, tensor: int, num_blocks: int, device: torch.device | str = "cpu") -> Tensor:
    """The random words of `num_blocks` blocks of four, as int64 holding 32 unsigned bits. [num_blocks, 4]

    The key is the two halves of `seed`, the counter is (block, direction, tensor, 0). The direction has a word of its
    own, so that D x P may exceed 2^32.

    Args:
        seed: at least 0 and below 2^64.
        direction: index of the direction, below 2^32.
        tensor: index of the parameter tensor in the space.
        num_blocks: blocks of four words, from block 0 on.
        device: where the words are made.
    """
    c0 = torch.arange(num_blocks, dtype=torch.int64, device=device)
    c1 = torch.full_like(c0, direction)
    c2 = torch.full_like(c0, tensor)
    c3 = torch.zeros_like(c0)
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2^64, so both halves have the bits of the unsigned product. The shift fills in the
        # sign, which the mask removes.
        p0, p1 = c0 * _MULTIPLIER[0], c2 * _MULTIPLIER[1]
        c0, c1, c2, c3 = (p1 >> 32 & _MASK) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32 & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _KEY_STEP[0]) & _MASK, (k1 + _KEY_STEP[1]) & _MASK
    return torch.stack([c0, c1, c2, c3], dim=1)


def philox_normals(seed: int, direction: int, tensor: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normals of one parameter tensor along one direction, in row-major order. [count] float32

    Box and Muller 1958: words (a, b) give sqrt(-2 ln u) cos(2 pi v) and the same with sin, where u = (a + 1/2) 2^-32
    and v = b 2^-32 in float32. The largest normal possible is 6.8.

    Args:
        seed: at least 0 and below 2^64.
        direction: index of the direction, below 2^32.
        tensor: index of the parameter tensor in the space.
        count: elements of the tensor.
        device: where the normals are made.
    """
    words = philox_words(seed, direction, tensor, -(-count // 4), device).to(torch.float32)
    u = words[:, 0::2] * 2.0**-32 + 2.0**-33  # never 0, whose logarithm is infinite
    angle = words[:, 1::2] * (2.0**-32 * 2.0 * math.pi)
    radius = torch.sqrt(-2.0 * torch.log(u))
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=2).reshape(-1)[:count]
