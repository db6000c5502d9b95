"""What the search on a device asks of a network: losses of many examples along many rays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from basin_triton import Pieces

from .directions import DeviceDirections


class Rays(Protocol):
    """Some directions on the device, S of them, and the loss anywhere along them."""

    def losses(
        self, active: Tensor, radius: Tensor, level: Tensor, highest: int, precision: str | None = None
    ) -> Tensor:
        """The mean losses on levels 0 to `highest` of some directions; NaN above a direction's own. [A, highest + 1]

        Args:
            active: positions of these directions. [A] int32
            radius: radius of every direction. [S] float64
            level: highest level of every direction. [S] int64
            highest: the largest of these levels.
            precision: precision of the products that only propose, if not the network's.
        """
        ...

    def summed_losses(self, radius: Tensor, per_row: Tensor | None = None) -> Tensor:
        """The summed losses of every direction over all rows. [S] float64

        Args:
            radius: radius of every direction. [S] float64
            per_row: where to write the loss of each row. [S, R] float32
        """
        ...


class Network(Protocol):
    """A network with its data on a device.

    Attributes:
        kind: what it is, in a few words for a description; empty for a perceptron.
        terms: what the summed losses of each level are divided by. [L]
        is_nonnegative: whether no example's loss can be negative, so that a partial sum is a proof.
        all_pieces: all tensors of the space, in pieces.
        most_rays: how many rays it evaluates together at most.
    """

    kind: str
    terms: Sequence[float]
    is_nonnegative: bool
    all_pieces: Pieces
    most_rays: int

    def bytes_per_ray(self) -> int:
        """The bytes that a ray keeps on the device between evaluations."""
        ...

    def rays(self, directions: DeviceDirections, rows: Tensor | None = None) -> Rays:
        """Some rays of the network, on all rows or on some.

        Args:
            directions: the directions, S of them.
            rows: rows of the data to use, in this order, instead of all. [R] int64
        """
        ...


def center_losses(network: Network, num_levels: int, device: torch.device) -> Tensor:
    """The mean losses at the center, in the arithmetic of every other evaluation. [L] float64

    Args:
        network: the network.
        num_levels: L.
        device: where it is.
    """
    radius = torch.zeros(1, dtype=torch.float64, device=device)
    still = DeviceDirections((0,), torch.zeros(1, dtype=torch.int64, device=device), radius)
    active = torch.zeros(1, dtype=torch.int32, device=device)
    level = torch.full((1,), num_levels - 1, dtype=torch.int64, device=device)
    return network.rays(still).losses(active, radius, level, num_levels - 1)[0]
