"""Radii of a block of directions as a Parquet part, and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..radii import Radii, Status
from .records import write_atomically

_FLOATS = ("lower", "upper", "radius", "value_lower", "value_upper", "slope")


def write_block(path: Path, radii: Radii, directions: Sequence[int], landscape_levels: Sequence[int]) -> None:
    """One row per (landscape, cutoff, direction), in that order.

    Args:
        radii: of these directions. [L, C, D]
        landscape_levels: number of pool examples of each level of `radii`.
    """
    num_levels, num_cutoffs, count = radii.lower.shape
    level, cutoff, direction = np.meshgrid(landscape_levels, radii.cutoffs, directions, indexing="ij")
    size = np.repeat(np.array(radii.levels), num_cutoffs * count)
    columns = {
        "landscape_level": level.ravel().astype(np.int64),
        "landscape_size": size.astype(np.int64),
        "cutoff": cutoff.ravel(),
        "direction": direction.ravel().astype(np.int64),
        **{name: getattr(radii, name).numpy().ravel() for name in _FLOATS},
        "status": [status.name for status in radii.status.ravel()],
        "num_evaluations": np.tile(radii.num_evaluations.numpy(), num_levels * num_cutoffs),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def read_block(path: Path, levels: tuple[int, ...], cutoffs: tuple[float, ...]) -> tuple[Radii, list[int]]:
    """The radii [L, C, D] that `write_block` wrote, and their directions."""
    table = pq.read_table(path)
    shape = (len(levels), len(cutoffs), len(table) // (len(levels) * len(cutoffs)))
    codes = np.array([Status[name].code for name in table["status"].to_pylist()], dtype=np.int8)
    fields = {name: torch.from_numpy(table[name].to_numpy().copy()).reshape(shape) for name in _FLOATS}
    evaluations = torch.from_numpy(table["num_evaluations"].to_numpy().copy()).reshape(shape)[0, 0]
    radii = Radii(
        **fields,
        status_code=torch.from_numpy(codes).reshape(shape),
        num_evaluations=evaluations,
        levels=levels,
        cutoffs=cutoffs,
    )
    return radii, table["direction"].to_pylist()[: len(radii)]
