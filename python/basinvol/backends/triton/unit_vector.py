"""The unit vector of one direction, made on the device in a few launches, however many tensors it has."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from basin_triton import Pieces, materialize, square_norms

from ...model.directions import Directions


class DeviceVector:
    """Writes unit vectors with the bits of the extension's generator; see `unit_vector_into`.

    (The norm is summed in another order. Where its last bit decides how an element rounds, that element differs by one
    rounding, which is less than one element in 10^8.)

    Args:
        out: where to write, on the device. [P] float32
        directions: directions of the kind "philox".
    """

    def __init__(self, out: Tensor, directions: Directions) -> None:
        space = directions.space
        self._out, self._seed = out[None], directions.seed
        tensors = zip(range(len(space.sizes)), space.offsets, space.sizes, space.offsets, strict=True)
        self._pieces = Pieces.of(list(tensors), out.device)
        self._slot = torch.zeros(1, dtype=torch.int32, device=out.device)
        self._index = torch.zeros(1, dtype=torch.int64, device=out.device)

    def __call__(self, index: int) -> float:
        """Writes the vector of a direction; returns the norm of its Gaussian vector."""
        # Triton launches on the current device, which belongs to the thread.
        device = self._out.device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            self._index.fill_(index)
            norm = square_norms(self._seed, self._index, self._pieces).sqrt()
            materialize(self._out, self._pieces, None, self._slot, self._index, 1.0 / norm, seed=self._seed)
        return float(norm)
