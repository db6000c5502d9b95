"""Small searches on every path of the engines, for compute-sanitizer: odd sizes, both values of `resolve`."""

from __future__ import annotations

import torch
from torch.nn import functional as F

import basinvol as bv

from ..cases import perceptron
from .device import DEVICE, IS_REHEARSAL, usable
from .lines import Lines

# By path: one layer, one block per ray or fused, fused, batched (its first layer is wider than a fused kernel takes),
# and with sizes that tiles of halves take.
_WIDTHS = ([20, 5], [17, 33, 5], [2, 32, 32, 1], [129, 65, 33, 40], [136, 72, 48, 10])
_ROWS, _RAYS = (70, 2) if IS_REHEARSAL else (130, 24)


def small(lines: Lines, engine: str | None) -> None:
    """Search on each network; brackets must overlap those of the CPU engine.

    Args:
        lines: Where results go.
        engine: The only engine to run, or None for all.
    """
    for backend in usable() if engine is None else [engine]:
        for widths in _WIDTHS[: 2 if IS_REHEARSAL else None]:
            for precision in (None, "tf32x3"):
                for resolve in ("all", "decisive"):
                    name = f"{backend}, {'-'.join(map(str, widths))}, {precision or 'default'}, {resolve}"
                    with lines.measuring(name) as found:
                        found["ok"] = overlap(widths, backend, precision, resolve)


def overlap(widths: list[int], backend: str, precision: str | None, resolve: str) -> bool:
    """Whether every bracket of a small search overlaps that of the CPU engine, where both solved the ray."""
    model = perceptron(widths)
    torch.manual_seed(0)
    inputs = torch.randn(_ROWS, widths[0])
    outputs = model(inputs).detach()
    targets = outputs + 0.05 * torch.randn(outputs.shape)  # not the outputs themselves: a loss of 0
    directions = bv.Directions(bv.ParameterSpace.of(model), _RAYS)
    on_cpu, on_device = (
        bv.Landscape(model, F.mse_loss, (inputs, targets), levels=[7, _ROWS], device=device)
        for device in ("cpu", DEVICE)
    )
    expected = bv.find_radii(on_cpu, directions, [0.05], backend="native")
    options = {} if precision is None else {"precision": precision}
    found = bv.find_radii(on_device, directions, [0.05], backend=backend, resolve=resolve, **options)
    both = found.is_status(bv.Status.CROSSED) & expected.is_status(bv.Status.CROSSED)
    nearly = 1.0 + 1e-5  # float32 losses are not monotone in the last bits
    meets = (found.lower <= expected.upper * nearly) & (expected.lower <= found.upper * nearly)
    return bool(both.any()) and bool(meets[both].all())
