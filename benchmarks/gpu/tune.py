"""A sweep of tiles for the layers of the goal cases; the fastest of each kind are printed as entries of tiles.json."""

from __future__ import annotations

import itertools
import math
import time
from datetime import date
from typing import Any

import torch

from basin_triton import First, linear
from basin_triton.linear import _linear_kernel
from basin_triton.tiles import Tile, tile_of

from .device import DEVICE, IS_REHEARSAL, describe, seconds_of
from .lines import Lines

# Layers of the goal cases: inputs, outputs, and whether the inputs are first activations; directions and rows fill any
# device.
_LAYERS = ((784, 256, False), (256, 128, True), (3072, 512, False), (512, 256, True))
_DIRECTIONS, _ROWS = (2, 40) if IS_REHEARSAL else (64, 4096)
_PRECISIONS = ("tf32x3", "fp32")
_FASTER = 0.98  # a tile that is not faster than today's by 2 % is not worth a change


def tune(lines: Lines, deadline: float) -> None:
    """Time tiles until the deadline, of `time.monotonic`: every layer gets its first tiles before any gets its last."""
    best: dict[tuple[str, str], dict[Tile, list[float]]] = {}
    cases = list(itertools.product(_PRECISIONS, _LAYERS))
    for tile in _tiles()[: 2 if IS_REHEARSAL else None]:
        for precision, (depth, outputs, is_second) in cases:
            if time.monotonic() > deadline:
                lines.add("end", reason="no time left for further tiles", measured=False)
                break
            name = f"{precision}, {depth} x {outputs}{', second' * is_second}, {tile}"
            with lines.measuring(name) as found:
                own = tile_of(precision, outputs, is_second, DEVICE)
                found |= {"precision": precision, "kind": "second" if is_second else "plain", "tile": _plain(tile)}
                found |= _time(precision, depth, outputs, is_second, tile)
                ratio = found["seconds"] / _time(precision, depth, outputs, is_second, own)["seconds"]
                found["time_over_todays"] = ratio
                best.setdefault((precision, found["kind"]), {}).setdefault(tile, []).append(ratio)
    device = describe()["device"]
    for (precision, kind), tiles in best.items():
        # Of the tiles that were timed on every layer of this kind, the one with the least geometric mean.
        whole = max(map(len, tiles.values()))
        means = {t: math.exp(sum(map(math.log, r)) / len(r)) for t, r in tiles.items() if len(r) == whole}
        fastest = min(means, key=lambda tile: means[tile])
        if means[fastest] < _FASTER:
            entry = {"device": device, "precision": precision, "kind": kind, "tile": _plain(fastest)}
            lines.add("entry of tiles.json", **entry, time_over_todays=means[fastest], origin=f"tune, {date.today()}")


def _tiles() -> list[Tile]:
    shapes = itertools.product((128, 64), (64, 128), ((16, 3), (32, 3), (32, 4), (64, 2)), (8, 4))
    return [Tile(rows, outputs, depth, warps, stages) for rows, outputs, (depth, stages), warps in shapes]


def _plain(tile: Tile) -> list[int]:
    return [tile.rows, tile.outputs, tile.depth, tile.warps, tile.stages]


def _time(precision: str, depth: int, outputs: int, is_second: bool, tile: Tile) -> dict[str, Any]:
    """The time of one layer for many directions, and what the compiler says of the kernel."""
    torch.manual_seed(0)
    weight = torch.randn(_DIRECTIONS, outputs, depth, device=DEVICE)
    active = torch.arange(_DIRECTIONS, dtype=torch.int32, device=DEVICE)
    rows = torch.full((_DIRECTIONS,), _ROWS, dtype=torch.int32, device=DEVICE)
    inputs: torch.Tensor | First = torch.randn(_ROWS, depth, device=DEVICE)
    if is_second:
        inputs = First(
            base=torch.randn(_ROWS, depth, device=DEVICE),
            shift=torch.randn(_DIRECTIONS, _ROWS, depth, device=DEVICE),
            radius=torch.rand(_DIRECTIONS, dtype=torch.float64, device=DEVICE),
            bias=torch.randn(_DIRECTIONS, depth, device=DEVICE),
            activation="relu",
        )
    out = torch.empty(_DIRECTIONS, _ROWS, outputs, device=DEVICE)

    def run() -> None:
        linear(inputs, weight, None, active, rows, precision=precision, out=out, tile=tile)

    seconds = seconds_of(run, 1 if IS_REHEARSAL else 5)["median"]
    flops = 2.0 * _DIRECTIONS * _ROWS * depth * outputs / seconds
    return {"seconds": seconds, "flops": flops, **_last_compiled()}


def _last_compiled() -> dict[str, int]:
    """Registers and spills of the newest variant of the kernel, where Triton tells."""
    caches = getattr(_linear_kernel, "device_caches", None)
    if not caches:
        return {}
    compiled = list(next(iter(caches.values()))[0].values())
    return {"registers": compiled[-1].n_regs, "spills": compiled[-1].n_spills} if compiled else {}
