"""A perceptron as the search on a device takes it."""

from __future__ import annotations

from torch import Tensor

from basin_triton.compact import MAX_RAYS

from .block import RayBlock
from .directions import DeviceDirections
from .mlp import DeviceMlp


class Perceptron:
    """See `Network`.

    Args:
        mlp: the network with its data.
    """

    kind = ""
    is_nonnegative = True
    most_rays = MAX_RAYS

    def __init__(self, mlp: DeviceMlp) -> None:
        self.mlp = mlp
        self.terms = [float(level * mlp.terms) for level in mlp.levels]
        self.all_pieces = mlp.all_pieces

    def bytes_per_ray(self) -> int:
        """See `Network.bytes_per_ray`."""
        return self.mlp.bytes_per_ray()

    def rays(self, directions: DeviceDirections, rows: Tensor | None = None) -> RayBlock:
        """See `Network.rays`."""
        return RayBlock(self.mlp, directions, rows)
