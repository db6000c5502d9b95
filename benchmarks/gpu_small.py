"""Runs small searches on every usable GPU backend, for compute-sanitizer: odd sizes, and both values of `resolve`."""

from __future__ import annotations

import torch
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends import backends

from .cases import perceptron

DEVICE = torch.device("cuda")


def main() -> None:
    usable = [name for name, backend in backends().items() if name != "native" and backend.unusable(DEVICE) is None]
    for widths in ([20, 5], [17, 33, 5], [2, 32, 32, 1], [129, 65, 33, 40]):
        model = perceptron(widths).to(DEVICE)
        inputs = torch.randn(130, widths[0], device=DEVICE)
        targets = model(inputs).detach()
        directions = bv.Directions(bv.ParameterSpace.of(model), 40)
        landscape = bv.Landscape(model, F.mse_loss, (inputs, targets), levels=[7, 130])
        expected = bv.find_radii(landscape, directions, [0.05], backend="reference")
        for name in usable:
            for resolve in ("all", "decisive"):
                found = bv.find_radii(landscape, directions, [0.05], backend=name, resolve=resolve)
                overlap = (found.lower <= expected.upper) & (expected.lower <= found.upper)
                if resolve == "all" and not bool(overlap.all()):
                    raise SystemExit(f"{name}, {widths}: {int((~overlap).sum())} brackets do not overlap")
    print(f"backends {', '.join(usable)}: brackets overlap with the reference's")


if __name__ == "__main__":
    main()
