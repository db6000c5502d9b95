"""Directions on a device, known by index: what kernels need to make them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from basin_triton import square_norms

from ...model.directions import Directions


@dataclass(frozen=True)
class DeviceDirections:
    """Some directions.

    Attributes:
        indices: their indices, S of them, on the host
        index: the same on the device. [S] int64
        inverse_norm: 1 / norm of their Gaussian vectors. [S] float64
        normals: those vectors, for a generator that does not run on the device. [S, P] float32
    """

    indices: Sequence[int]
    index: Tensor
    inverse_norm: Tensor
    normals: Tensor | None = None

    @classmethod
    def of(cls, directions: Directions, indices: Sequence[int], device: torch.device) -> DeviceDirections:
        """Those of these indices."""
        index = torch.tensor(list(indices), dtype=torch.int64, device=device)
        if directions.generator == "legacy":
            normals = torch.stack([directions.normals(i) for i in indices])
            norms = torch.linalg.vector_norm(normals, dim=1, dtype=torch.float64)
            return cls(indices, index, 1.0 / norms.to(device), normals.to(device))
        norms = square_norms(directions.seed, index, directions.space.sizes).sqrt()
        return cls(indices, index, 1.0 / norms)

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: Tensor) -> DeviceDirections:
        """Some of them, by position. [n] int64"""
        return DeviceDirections(
            [self.indices[position] for position in positions.tolist()],
            self.index[positions],
            self.inverse_norm[positions],
            None if self.normals is None else self.normals[positions],
        )
