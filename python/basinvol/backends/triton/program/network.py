"""A program as the search on a device takes it."""

from __future__ import annotations

from torch import Tensor

from ..directions import DeviceDirections
from .device_program import DeviceProgram
from .rays import ProgramRays


class ProgramNetwork:
    """See `Network`.

    Args:
        program: the network with its data.
    """

    def __init__(self, program: DeviceProgram) -> None:
        self.program = program
        self.kind = program.kind
        self.terms = program.terms
        self.is_nonnegative = program.is_nonnegative
        self.all_pieces = program.all_pieces
        self.most_rays = program.most_rays

    def bytes_per_ray(self) -> int:
        """See `Network.bytes_per_ray`."""
        return self.program.bytes_per_ray()

    def rays(self, directions: DeviceDirections, rows: Tensor | None = None) -> ProgramRays:
        """See `Network.rays`."""
        return ProgramRays(self.program, directions, rows)
