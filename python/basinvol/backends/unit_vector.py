"""Unit vectors of directions, from the fastest generator that has their bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..model.directions import Directions
from .extension import compiled_extension


def unit_vector_into(out: Tensor, directions: Directions) -> Callable[[int], float]:
    """A function that writes a direction's unit vector, and returns the norm of the Gaussian vector behind it.

    The library's own directions have the same bits on the CPU and on a device, whichever generator makes them.

    Args:
        out: where to write. [P]
        directions: the directions.
    """
    if directions.kind == "philox" and out.dtype == torch.float32:
        return _on_device(out, directions) or _by_extension(out, directions)
    return _by_torch(out, directions)


def unit_vectors(directions: Directions, indices: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
    """What `Directions.materialize` gives on the CPU, a hundred times as fast for the library's own directions.

    Args:
        directions: the directions.
        indices: which of them.
        dtype: dtype of the vectors.

    Returns:
        Vectors of unit norm. [len(indices), P]
    """
    if directions.kind != "philox" or type(directions) is not Directions:
        return directions.materialize(indices, dtype)
    out = torch.empty((len(indices), directions.space.dim), dtype=dtype)
    vector = torch.empty(directions.space.dim, dtype=torch.float32)
    write = _by_extension(vector, directions)
    for row, index in zip(out, indices, strict=True):
        write(index)
        row.copy_(vector)
        if dtype == torch.float64:
            row /= torch.linalg.vector_norm(row)
    return out


def _on_device(out: Tensor, directions: Directions) -> Callable[[int], float] | None:
    """The generator that runs on the device, where that is CUDA's and Triton can compile for it."""
    if out.device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    from .triton.unit_vector import DeviceVector  # imports triton

    vector = DeviceVector(out, directions)
    try:
        vector(0)
    except Exception:  # noqa: BLE001  (no compiler on this machine, a device that is too old; whatever Triton raises)
        return None
    return vector


def _by_extension(out: Tensor, directions: Directions) -> Callable[[int], float]:
    fill, sizes = compiled_extension().fill_direction, directions.space.sizes
    held = out if out.device.type == "cpu" else torch.empty_like(out, device="cpu")

    def write(index: int) -> float:
        norm = float(fill(directions.seed, index, sizes, held.numpy()))
        if held is not out:
            out.copy_(held)
        return norm

    return write


def _by_torch(out: Tensor, directions: Directions) -> Callable[[int], float]:
    def write(index: int) -> float:
        if type(directions) is not Directions:  # whose vectors may be any
            out.copy_(directions.materialize([index], out.dtype, out.device)[0])
            return float(directions.norms([index])[0])
        normals = directions.normals(index, out.device)
        norm = torch.linalg.vector_norm(normals, dtype=torch.float64)
        out.copy_(normals.double() / norm)
        return float(norm)

    return write
