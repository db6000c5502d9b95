"""Where a parameter tensor lies, in the space and in a row of perturbed parameters."""

from __future__ import annotations

from dataclasses import dataclass

ALIGNMENT = 16  # elements: tensors in a row of parameters start where wide loads can


@dataclass(frozen=True)
class Place:
    """The place of a parameter tensor in the space, and in the buffer of perturbed parameters.

    Attributes:
        tensor: its index in the space.
        offset, size: its first element in the flat vector, and its number of elements.
        at: its first element in a row of the buffer.
    """

    tensor: int
    offset: int
    size: int
    at: int

    def row(self, at: int) -> tuple[int, int, int, int]:
        """The tensor as `basin_triton.Pieces.of` takes it, with another place in the row."""
        return self.tensor, self.offset, self.size, at
