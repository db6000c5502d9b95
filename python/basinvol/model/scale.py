"""The positive factor of every parameter, kept by tensor and not by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.arguments import one_of

SCALINGS = ("filter", "none")
_ELEMENTS_AT_ONCE = 2**18


@dataclass(frozen=True)
class Scale:
    """The diagonal of S: a perturbed network is center + radius x scale x direction.

    A network of P parameters has P of these factors, but few different ones: a filter's weights share one.

    Attributes:
        factors: for every tensor of the space its factors, in a shape that broadcasts to that of the tensor.
        shapes: the shapes of the tensors.
    """

    factors: tuple[Tensor, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], scaling: str, dtype: torch.dtype) -> Scale:
        """The factors of some parameters, see `ParameterSpace.scale`.

        Args:
            tensors: the parameters, in the order of the space.
            scaling: "filter" or "none".
            dtype: dtype of the factors.

        Raises:
            ValueError: there is no such scaling.
        """
        one_of("scaling", scaling, SCALINGS)
        factors = [_filter_norms(p, dtype) if scaling == "filter" else _one_like(p, dtype) for p in tensors]
        return cls(tuple(factors), tuple(p.shape for p in tensors))

    @classmethod
    def from_vector(cls, vector: Tensor, shapes: Sequence[torch.Size]) -> Scale:
        """The factors given one by one. [P]"""
        pieces = torch.split(vector, [shape.numel() for shape in shapes])
        return cls(tuple(piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)), tuple(shapes))

    def to(self, device: torch.device) -> Scale:
        """The same factors on a device."""
        return Scale(tuple(factor.to(device) for factor in self.factors), self.shapes)

    def vector(self) -> Tensor:
        """The factors one by one. [P]"""
        pieces = [factor.expand(shape).reshape(-1) for factor, shape in zip(self.factors, self.shapes, strict=True)]
        return torch.cat(pieces)


def _one_like(p: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.ones((), dtype=dtype, device=p.device)


def _filter_norms(p: Tensor, dtype: torch.dtype) -> Tensor:
    """The norm of each output unit's weights, and one for tensors of rank one. [rows, 1, ...]"""
    if p.ndim < 2:
        return _one_like(p, dtype)
    rows = p.reshape(len(p), -1)
    # A few rows at a time: the norms are float64, and so is what torch computes them from.
    step = max(1, _ELEMENTS_AT_ONCE // max(1, rows.shape[1]))
    norms = torch.empty(len(rows), dtype=torch.float64, device=p.device)
    for part, out in zip(rows.split(step), norms.split(step), strict=True):
        torch.linalg.vector_norm(part.to(dtype), dim=1, dtype=torch.float64, out=out)
    return norms.to(dtype).view(-1, *[1] * (p.ndim - 1))
