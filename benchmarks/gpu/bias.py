"""Whether a radius depends on the precision: the bias of losses on whole engines whose first layer is 3,072 deep."""

from __future__ import annotations

from typing import Any

import torch

from basinvol.backends import backends

from .device import IS_REHEARSAL, usable
from .lines import Lines
from .search import CUTOFF, images, solver_of

_MOST_BIAS = 5e-7  # of a loss, in units of the cutoff


def bias(lines: Lines) -> None:
    """Hold the losses at the center and the radii of every engine and precision against those of fp32 by torch."""
    made: list[Any] = []
    with lines.measuring("data and training"):
        rows, rays = (60, 2) if IS_REHEARSAL else (4000, 64)
        made.append(images("deep", [3072, 512, 256, 10], rows, 1.0, rays, 2))
    for case in made:
        with torch.no_grad():
            model, inputs = case.model.double(), case.inputs.double()
            exact = float(case.loss_fn(model(inputs), case.targets))
            case.model.float()
        for backend in usable():
            fp32 = None
            for precision in sorted(backends()[backend].precisions):  # fp32 comes first
                with lines.measuring(f"{backend}, {precision}") as found:
                    solver = solver_of(case, backend, precision, "all")
                    radius = solver.solve_all().radius.flatten()
                    fp32 = radius if precision == "fp32" else fp32
                    # In units of the cutoff, to which losses are compared: the loss itself is close to 0.
                    error = (float(solver.center_losses[-1]) - exact) / CUTOFF
                    found |= {"center_loss": exact, "error_at_center_over_cutoff": error}
                    if fp32 is not None:
                        kept = ~(radius.isnan() | fp32.isnan())
                        found["mean_relative_difference_of_radii"] = float((radius / fp32 - 1.0)[kept].mean())
                    found["ok"] = abs(error) <= _MOST_BIAS
