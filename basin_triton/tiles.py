"""The tiles of matrix products, by precision and kind of layer; those of a device that was measured come first.

`tiles.json` beside this file holds what `benchmarks/gpu_check.sh tune` found fastest, with the device and the date.
Where there is no entry, tiles are the largest that compile without spills on sm_80 and sm_90; these were not timed.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch

_MEASURED = Path(__file__).with_name("tiles.json")
# Set to "0", the tiles are the same on every device, and with them the last bits of results.
_SWITCH = "BASINVOL_MEASURED_TILES"
_NARROW = 16  # layers with at most this many outputs get tiles with this many
KINDS = ("plain", "second")


@dataclass(frozen=True)
class Tile:
    """How the product of one layer is cut.

    Attributes:
        rows, outputs, depth: The sides of a tile.
        warps, stages: The warps of a program, and the stages of its pipeline of loads.
    """

    rows: int
    outputs: int
    depth: int
    warps: int
    stages: int


_UNTIMED = {
    ("fp32", "plain"): Tile(128, 64, 16, 8, 3),
    ("fp32", "second"): Tile(128, 64, 16, 8, 3),
    ("tf32x3", "plain"): Tile(128, 64, 32, 8, 3),
    ("tf32x3", "second"): Tile(128, 64, 16, 8, 3),  # splitting operands that were just computed takes more registers
    ("tf32", "plain"): Tile(128, 64, 32, 8, 3),
    ("tf32", "second"): Tile(128, 64, 32, 8, 3),
}


def tile_of(precision: str, outputs: int, is_second: bool = False, device: torch.device | None = None) -> Tile:
    """Return the tile for a layer.

    Args:
        precision: "fp32", "tf32x3" or "tf32".
        outputs: The number of outputs of the layer. Narrow layers get narrow tiles.
        is_second: Whether the inputs are first activations, which are computed as they are loaded.
        device: Where the layer is computed; None for the tiles that were not timed.
    """
    key = precision, "second" if is_second else "plain"
    tile = measured(_name(device)).get(key, _UNTIMED[key])
    return Tile(tile.rows, _NARROW, tile.depth, tile.warps, tile.stages) if outputs <= _NARROW else tile


@functools.cache
def measured(device: str | None) -> dict[tuple[str, str], Tile]:
    """Return the tiles that were measured on a device of this name, by precision and kind of layer."""
    if device is None or not _MEASURED.exists() or os.environ.get(_SWITCH) == "0":
        return {}
    entries = json.loads(_MEASURED.read_text())
    return {(e["precision"], e["kind"]): Tile(*e["tile"]) for e in entries if e["device"] == device}


def _name(device: torch.device | None) -> str | None:
    return None if device is None or device.type != "cuda" else _device_name(device.index)


@functools.cache
def _device_name(index: int | None) -> str:
    return str(torch.cuda.get_device_name(index))
