"""Normal random numbers of chains, several times as fast as torch's, and turns of points along ellipses."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..backends.extension import compiled_extension

_SEEDS = 2**63 - 1


def empty(count: int, dim: int) -> Tensor:
    """An array that is written before it is read. [count, dim] float64"""
    # NumPy asks for huge pages, which the system clears when they are first touched: four times as fast as torch's.
    return torch.from_numpy(np.empty((count, dim)))


class Noise:
    """Independent normal numbers for many chains, as coarse as float32, which networks' parameters are too.

    Its seed is one number of the generator, so that the generator's state says what comes next. Every chain has the
    numbers of one direction of that seed, whichever chains are asked for together.

    Args:
        generator: a generator on the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._seed = int(torch.randint(_SEEDS, (), generator=generator))

    def fill(self, out: Tensor, rows: Tensor | None = None, first: int = 0, deviation: float = 1.0) -> Tensor:
        """Writes the numbers of some chains.

        Args:
            out: where they are written. [K, P] float64
            rows: a row of `out` for each chain; None for all rows in turn. [n] int64
            first: the first of these chains, which are consecutive.
            deviation: their standard deviation.

        Returns:
            `out`.
        """
        rows = torch.arange(len(out)) if rows is None else rows
        fill = compiled_extension().fill_normals
        fill(self._seed, first, deviation, rows.numpy(), out.numpy(), torch.get_num_threads())
        return out


def turn_rows(points: Tensor, partners: Tensor, rows: Tensor, angle: Tensor) -> None:
    """Moves points along the ellipses that they span with their partners, in place.

    Args:
        points, partners: conjugate radii of ellipses. [K, P] float64
        rows: which points are moved. [n] int64
        angle: they become cos(angle) points + sin(angle) partners. [n] float64
    """
    arrays = (array.numpy() for array in (points, partners, rows, angle.cos(), angle.sin()))
    compiled_extension().turn_rows(*arrays, torch.get_num_threads())
