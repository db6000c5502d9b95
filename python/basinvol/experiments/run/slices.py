"""Losses in the plane through three minima: the records of the paper's first figure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from ...model.landscape import Landscape
from ...model.parameters import ParameterSpace
from ..records.reading import minimum_label
from ..records.run_directory import model_name
from ..records.storage import write_atomically
from .training import loss_function, torch_threads

if TYPE_CHECKING:
    from .worker import Worker

_MARGIN = 0.9  # of the triangle's larger extent, on every side of it


def slice_losses(worker: Worker) -> None:
    """Writes the losses on a grid through three minima of the first seed, on the smallest and a larger landscape.

    The minima are the first, the middle and the last of those with the same network. Nothing is written if there are
    fewer than three, if `slice_points` is 0, or if the file exists.
    """
    path = worker.directory.slices_path(worker.experiment.seeds[0])
    if path.exists() or worker.experiment.slice_points == 0:
        return
    models = _three_minima(worker)
    if len(models) < 3:
        return
    # The last bits of the plane and of the losses may depend on the threads.
    with worker.directory.timed(f"slices/{path.stem}"), torch_threads(1):
        buffer = io.BytesIO()
        pq.write_table(pa.table(_columns(worker, models)), buffer, compression="zstd")
        write_atomically(path, buffer.getvalue())


def _columns(worker: Worker, models: list[tuple[str, nn.Module]]) -> dict[str, list[object]]:
    """The columns of the file: one row for every minimum and grid point on every landscape."""
    experiment, networks = worker.experiment, [network for _, network in models]
    split, sizes = worker.split(experiment.seeds[0]), experiment.landscape_sizes
    sizes = tuple(sorted({sizes[0], sizes[len(sizes) // 2]}))
    examples = split.inputs[: sizes[-1]], split.targets[: sizes[-1]]
    landscape = Landscape(networks[0], loss_function(experiment.loss), examples, sizes)
    space = ParameterSpace.of(networks[0])
    origin, axes, corners = _plane([space.flatten(network).double() for network in networks])
    points = [("minimum", label, corner) for (label, _), corner in zip(models, corners, strict=True)]
    points += [("grid", "", point) for point in _grid(corners, experiment.slice_points)]

    columns: dict[str, list[object]] = {name: [] for name in ("kind", "label", "x", "y", "landscape_size", "loss")}
    with landscape.measuring():
        for kind, label, point in points:
            losses = landscape.evaluate(space.unflatten((origin + point @ axes).to(space.dtype)))
            for size, loss in zip(sizes, losses.tolist(), strict=True):
                values = (kind, label, float(point[0]), float(point[1]), size, loss)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
    return columns


def _three_minima(worker: Worker) -> list[tuple[str, nn.Module]]:
    """Label and network of three models of the first seed, or of fewer if there are not as many."""
    experiment, seed = worker.experiment, worker.experiment.seeds[0]
    variants = [v for v in experiment.variants() if v.network == experiment.variants()[0].network]
    found = [(level, variant) for variant in variants for level in experiment.levels]
    if len(experiment.levels) >= 3:
        found = found[: len(experiment.levels)]
    chosen = found if len(found) < 3 else [found[0], found[len(found) // 2], found[-1]]
    has_sizes = len(experiment.levels) > 1
    return [
        (
            minimum_label(experiment.base + level, variant.label, has_sizes),
            worker.trained(seed, model_name(seed, level, variant.label), variant),
        )
        for level, variant in chosen
    ]


def _plane(minima: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The first minimum [P], two orthonormal axes [2, P], and the three minima in their coordinates [3, 2]."""
    origin = minima[0]
    first, second = minima[1] - origin, minima[2] - origin
    x_axis = first / first.norm()
    rest = second - (second @ x_axis) * x_axis
    axes = torch.stack([x_axis, rest / rest.norm()])
    return origin, axes, torch.stack([(minimum - origin) @ axes.T for minimum in minima])


def _grid(corners: Tensor, points: int) -> Tensor:
    """Positions on a square grid around the triangle, row by row. [points^2, 2]"""
    low, high = corners.min(dim=0).values, corners.max(dim=0).values
    half = (0.5 + _MARGIN) * (high - low).max()
    steps = half * torch.linspace(-1, 1, points, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x.ravel(), y.ravel()], dim=1) + (low + high) / 2
