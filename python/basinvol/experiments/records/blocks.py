"""The Parquet parts of a run: the radii of a block of directions in one, every evaluation behind them in another."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ...search.radii import COUNTS, Radii, Status
from ...search.trace import Trace
from .storage import write_atomically

_FLOATS = ("lower", "upper", "radius", "value_lower", "value_upper", "slope")


def write_block(path: Path, radii: Radii, directions: Sequence[int], landscape_levels: Sequence[int]) -> None:
    """Writes one row per (landscape, cutoff, direction), in that order.

    Evaluations go to a file beside it, which is written first: one row each, with the loss on every landscape.

    Args:
        path: of the part.
        radii: what was found. [L, C, D]
        directions: numbers of the directions of `radii`. [D]
        landscape_levels: number of pool examples of each landscape of `radii`. [L]
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
        **{name: np.tile(getattr(radii, name).numpy(), num_levels * num_cutoffs) for name in COUNTS},
    }
    if radii.trace is not None:
        _write(_evaluations_path(path), _trace_columns(radii.trace, directions, radii.levels))
    _write(path, columns)


def read_block(path: Path, levels: tuple[int, ...], cutoffs: tuple[float, ...]) -> tuple[Radii, list[int]]:
    """The radii [L, C, D] that `write_block` wrote, with their evaluations if it had any, and their directions.

    Args:
        path: of the part.
        levels: number of examples of each landscape. [L]
        cutoffs: losses at which the radii were searched. [C]
    """
    table = _read(path)
    shape = (len(levels), len(cutoffs), len(table) // (len(levels) * len(cutoffs)))
    codes = np.array([Status[name].code for name in table["status"].to_pylist()], dtype=np.int8)
    fields: dict[str, Any] = {name: _tensor(table[name]).reshape(shape) for name in _FLOATS}
    # Older runs do not have all of the counts.
    counts: dict[str, Any] = {
        name: _tensor(table[name]).reshape(shape)[0, 0] for name in COUNTS if name in table.column_names
    }
    radii = Radii(
        **fields,
        status_code=torch.from_numpy(codes).reshape(shape),
        **counts,
        levels=levels,
        cutoffs=cutoffs,
    )
    directions = table["direction"].to_pylist()[: len(radii)]
    evaluations = _evaluations_path(path)
    if evaluations.exists():
        radii = dataclasses.replace(radii, trace=_read_trace(evaluations, directions, levels))
    return radii, directions


def _evaluations_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-evaluations.parquet")


def _trace_columns(trace: Trace, directions: Sequence[int], levels: Sequence[int]) -> dict[str, Any]:
    names = np.array(directions, dtype=np.int64)
    losses = {f"loss_{size}": trace.losses[:, column].numpy() for column, size in enumerate(levels)}
    return {"direction": names[trace.ray.numpy()], "radius": trace.radius.numpy(), **losses}


def _read_trace(path: Path, directions: Sequence[int], levels: Sequence[int]) -> Trace:
    table = _read(path)
    place = {direction: position for position, direction in enumerate(directions)}
    ray = torch.tensor([place[direction] for direction in table["direction"].to_pylist()], dtype=torch.int64)
    losses = [_tensor(table[f"loss_{size}"]) for size in levels]
    return Trace(ray, _tensor(table["radius"]), torch.stack(losses, dim=1))


def _tensor(column: Any) -> torch.Tensor:
    return torch.from_numpy(column.to_numpy().copy())


def _read(path: Path) -> pa.Table:
    return pq.read_table(pa.BufferReader(path.read_bytes()))


def _write(path: Path, columns: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())
