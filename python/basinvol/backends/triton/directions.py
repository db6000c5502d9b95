"""Directions on a device, known by index: what kernels need to make them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from basin_triton import Pieces, square_norms

from ...model.directions import Directions


@dataclass(frozen=True)
class DeviceDirections:
    """S directions, as kernels need them to make their vectors on the device.

    Attributes:
        indices: their indices, on the host. [S]
        index: the same indices on the device. [S] int64
        inverse_norm: 1 / norm of their Gaussian vectors. [S] float64
        normals: the Gaussian vectors, for a generator that does not run on the device. [S, P] float32
    """

    indices: Sequence[int]
    index: Tensor
    inverse_norm: Tensor
    normals: Tensor | None = None

    @classmethod
    def of(cls, directions: Directions, indices: Sequence[int], pieces: Pieces) -> DeviceDirections:
        """The directions of these indices, on the device of the pieces.

        Args:
            directions: the seed and the space.
            indices: which of them. [S]
            pieces: all tensors of the space, in pieces.
        """
        device = pieces.table.device
        index = torch.tensor(list(indices), dtype=torch.int64, device=device)
        if directions.generator == "legacy":
            normals = torch.stack([directions.normals(i) for i in indices])
            norms = torch.linalg.vector_norm(normals, dim=1, dtype=torch.float64)
            return cls(indices, index, 1.0 / norms.to(device), normals.to(device))
        norms = square_norms(directions.seed, index, pieces).sqrt()
        return cls(indices, index, 1.0 / norms)

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: Tensor) -> DeviceDirections:
        """The directions at these positions. [n] int64"""
        return DeviceDirections(
            [self.indices[position] for position in positions.tolist()],
            self.index[positions],
            self.inverse_norm[positions],
            None if self.normals is None else self.normals[positions],
        )
