"""Some rays of a program on a device, and the loss anywhere along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from basin_triton import reduce

from ..directions import DeviceDirections
from .device_program import DeviceProgram


class _Band(NamedTuple):
    """Rows `first` to `last` - 1, which the first `directions` want."""

    first: int
    last: int
    directions: int


class ProgramRays:
    """See `Rays`.

    Args:
        program: the network.
        directions: the directions, S of them.
        rows: rows of the data to use, in this order, instead of all. [R] int64
    """

    def __init__(self, program: DeviceProgram, directions: DeviceDirections, rows: Tensor | None = None) -> None:
        self._program, self._directions, self._rows = program, directions, rows
        self._num_rows = program.levels[-1] if rows is None else len(rows)

    def losses(
        self, active: Tensor, radius: Tensor, level: Tensor, highest: int, precision: str | None = None
    ) -> Tensor:
        """See `Rays.losses`."""
        program, count = self._program, len(active)
        # Those with the highest levels first, so that rows beyond a level are computed for those that want them.
        wanted, order = level[active.long()].sort(descending=True, stable=True)
        levels = wanted.tolist()
        starts = (0, *program.levels)
        bands = [
            _Band(starts[band], starts[band + 1], sum(wants >= band for wants in levels)) for band in range(highest + 1)
        ]
        by_row = self._by_row(active[order], radius, bands)
        every = torch.arange(count, dtype=torch.int32, device=by_row.device)
        ends = program.level_rows[: highest + 1]
        found = reduce(by_row, every, program.level_rows[wanted], ends, program.level_terms[: highest + 1])
        return torch.empty_like(found).index_copy_(0, order, found)

    def summed_losses(self, radius: Tensor, per_row: Tensor | None = None) -> Tensor:
        """See `Rays.summed_losses`."""
        every = torch.arange(len(self._directions), dtype=torch.int32, device=radius.device)
        by_row = self.row_losses(radius)
        if per_row is not None:
            per_row.copy_(by_row)
        rows = torch.full_like(every, self._num_rows)
        one = torch.ones(1, dtype=torch.float64, device=radius.device)
        return reduce(by_row, every, rows, rows[:1], one)[:, 0]

    def row_losses(self, radius: Tensor) -> Tensor:
        """The losses of all rows, each summed over its terms. [S, R] float64

        Args:
            radius: radius of every direction. [S] float64
        """
        count = len(self._directions)
        every = torch.arange(count, dtype=torch.int32, device=radius.device)
        return self._by_row(every, radius, [_Band(0, self._num_rows, count)])

    def _by_row(self, slots: Tensor, radius: Tensor, bands: Sequence[_Band]) -> Tensor:
        """The losses of the rows of each band, of the directions that want them. [n, rows of all bands] float64"""
        program = self._program
        out = torch.empty((len(slots), bands[-1].last), dtype=torch.float64, device=radius.device)
        for start in range(0, len(slots), program.most_rays):
            group = slots[start : start + program.most_rays]
            program.place(self._directions, group, radius)
            for first, last, wants in bands:
                here = min(wants - start, len(group))
                if here <= 0:
                    break
                step = program.rows_at_once(here)
                for low in range(first, last, step):
                    part = slice(low, min(low + step, last))
                    chosen = part if self._rows is None else self._rows[part]
                    program.losses(chosen, here, out[start : start + here, part])
        return out
