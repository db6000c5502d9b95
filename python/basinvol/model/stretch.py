"""Directions that are stretched along some axes, and their density on the sphere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .directions import Directions


@dataclass(frozen=True)
class Stretch:
    """The linear map B = diag(d) (I + V diag(l - 1) V'), which takes the sphere to an ellipsoid.

    A direction v = Bu / |Bu|, with u uniform on the sphere, has the angular central Gaussian density
    q(v) = |det B|^-1 |B^-1 v|^-P with respect to the uniform one (Tyler 1987).

    Attributes:
        diagonal: d, positive. [P] float64
        axes: V, orthonormal columns. [P, k] float64
        lengths: l, positive. [k] float64
    """

    diagonal: Tensor
    axes: Tensor
    lengths: Tensor

    @classmethod
    def along_coordinates(cls, diagonal: Tensor) -> Stretch:
        """The stretch diag(d), from positive factors d of the coordinates. [P]"""
        empty = torch.empty((len(diagonal), 0), dtype=torch.float64)
        return cls(diagonal.double(), empty, torch.empty(0, dtype=torch.float64))

    @classmethod
    def along_axes(cls, axes: Tensor, lengths: Tensor) -> Stretch:
        """The stretch I + V diag(l - 1) V', from orthonormal columns V [P, k] and lengths l. [k]"""
        return cls(torch.ones(len(axes), dtype=torch.float64), axes.double(), lengths.double())

    @property
    def is_diagonal(self) -> bool:
        """Whether the map only scales the coordinates, which every backend can do."""
        return self.axes.shape[1] == 0

    def apply(self, vectors: Tensor) -> Tensor:
        """The image Bu of every row u. [n, P] float64"""
        vectors = vectors.double()
        return self.diagonal * (vectors + ((vectors @ self.axes) * (self.lengths - 1.0)) @ self.axes.T)

    def solve(self, vectors: Tensor) -> Tensor:
        """The preimage B^-1 v of every row v. [n, P] float64"""
        vectors = vectors.double() / self.diagonal
        return vectors + ((vectors @ self.axes) * (1.0 / self.lengths - 1.0)) @ self.axes.T

    def log_density(self, log_norm: Tensor) -> Tensor:
        """The log density ln q(v), from ln |B^-1 v|. [n]"""
        log_det = float(self.diagonal.log().sum() + self.lengths.log().sum())
        return -log_det - len(self.diagonal) * log_norm


@dataclass(frozen=True)
class StretchedDirections(Directions):
    """Directions Bu / |Bu|, for backends that take vectors.

    Attributes:
        stretch: the map B; None for B = I.
    """

    stretch: Stretch | None = None

    def materialize(
        self, indices: Iterable[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """The directions as vectors of unit norm. [len(indices), P]

        Args:
            indices: which directions, each from 0 to `count` - 1.
            dtype: dtype of the vectors.
            device: where the vectors are put.
        """
        if self.stretch is None:
            return super().materialize(indices, dtype, device)
        # In float64 on the CPU: the density of the proposal is divided out for these vectors.
        moved = self.stretch.apply(super().materialize(indices, torch.float64))
        unit: Tensor = moved / torch.linalg.vector_norm(moved, dim=1, keepdim=True)
        return unit.to(dtype).to(device)
