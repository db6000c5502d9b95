"""Some rays of a perceptron on a device: their first-layer products, and the loss anywhere along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from basin_triton import (
    BLOCK_ROWS,
    First,
    Halves,
    Largest,
    Pieces,
    RowBlocks,
    SplitLayer,
    fused_mlp,
    last_layers,
    linear,
    loss_head,
    materialize,
    materialize_halves,
    reduce,
    shared_linear,
)

from ..mlp import LinearLayer
from .directions import DeviceDirections
from .mlp import DeviceMlp


@dataclass(frozen=True)
class _Evaluation:
    """One evaluation of some directions: which, at which radii and on how many rows, and where its sums are written."""

    active: Tensor
    radius: Tensor
    num_rows: Tensor
    parameters: Tensor
    last_weights: list[Halves]  # of the layers that are multiplied in halves
    partial: Tensor
    precision: str


class RayBlock:
    """Some directions on the device: their first-layer products, and the loss anywhere along them.

    Args:
        mlp: the network.
        directions: the directions, S of them.
        rows: rows of the data to use, in this order, instead of all. [R] int64
    """

    def __init__(self, mlp: DeviceMlp, directions: DeviceDirections, rows: Tensor | None = None) -> None:
        self._mlp, self._directions, self._rows = mlp, directions, rows
        self._base = mlp.base if rows is None else mlp.base[rows]
        self._targets = mlp.targets if rows is None else mlp.targets[rows]
        self._blocks = mlp.blocks if rows is None else RowBlocks.between((len(rows),), mlp.device)
        self._block_rows = [*self._blocks.first.tolist(), len(self._base)]  # where blocks begin, and the last ends
        self._moves_first = mlp.first_place is not None
        if self._moves_first:
            self._shift = self._multiply_inputs()
        else:
            self._shift = self._base.expand(len(directions), -1, -1)

    def losses(
        self, active: Tensor, radius: Tensor, level: Tensor, highest: int, precision: str | None = None
    ) -> Tensor:
        """The mean losses on levels 0 to `highest` of some directions; NaN above a direction's own. [A, highest + 1]

        Args:
            active: positions of these directions in the block. [A] int32
            radius: radius of every direction in the block. [S] float64
            level: highest level of every direction in the block. [S] int64
            highest: the largest of these levels.
            precision: precision of the products after the first layer, if not the network's.
        """
        mlp = self._mlp
        level = level.clamp(min=0)
        evaluation = self._begin(active, radius, mlp.level_rows[level], mlp.num_blocks[highest], precision)
        self._evaluate(evaluation)
        ends, terms = mlp.block_ends[: highest + 1], mlp.level_terms[: highest + 1]
        return reduce(evaluation.partial, active, mlp.block_ends[level], ends, terms)

    def summed_losses(self, radius: Tensor, per_row: Tensor | None = None) -> Tensor:
        """The summed losses of every direction over all rows. [S] float64

        Args:
            radius: radius of every direction. [S] float64
            per_row: where to write the loss of each row. [S, R] float32
        """
        count, device = len(self._directions), self._mlp.device
        active = torch.arange(count, dtype=torch.int32, device=device)
        num_rows = torch.full((count,), len(self._base), dtype=torch.int32, device=device)
        num_blocks = torch.full((count,), len(self._blocks), dtype=torch.int32, device=device)
        evaluation = self._begin(active, radius, num_rows, len(self._blocks))
        self._evaluate(evaluation, per_row)
        one = torch.ones(1, dtype=torch.float64, device=device)
        return reduce(evaluation.partial, active, num_blocks, num_blocks[:1], one)[:, 0]

    def _begin(
        self, active: Tensor, radius: Tensor, num_rows: Tensor, num_blocks: int, precision: str | None = None
    ) -> _Evaluation:
        mlp = self._mlp
        partial = torch.empty((len(active), num_blocks), dtype=torch.float64, device=mlp.device)
        parameters, last_weights = self._perturb(active, radius)
        reach = radius if self._moves_first else torch.zeros_like(radius)
        return _Evaluation(active, reach, num_rows, parameters, last_weights, partial, precision or mlp.precision)

    def _evaluate(self, evaluation: _Evaluation, per_row: Tensor | None = None) -> None:
        """Fills the summed losses of blocks of rows; those wholly beyond a direction's num_rows are not set."""
        num_blocks = evaluation.partial.shape[1]
        step = self._blocks_at_once(len(evaluation.active))
        for start in range(0, num_blocks, step):
            stop = min(start + step, num_blocks)
            low, high = self._block_rows[start], self._block_rows[stop]
            common: dict[str, Any] = {
                "targets": self._targets[low:high],
                "active": evaluation.active,
                "num_rows": evaluation.num_rows,
                "blocks": self._blocks.part(start, stop),
                "out": evaluation.partial[:, start:stop],
                "loss": self._mlp.loss,
                "origin": low,
            }
            rows = None if per_row is None else per_row[:, low:high]
            if self._mlp.split_end is not None:
                self._end(evaluation, low, high, per_row=rows, **common)
            elif self._mlp.fused is not None and per_row is None:
                first = self._first(evaluation, low, high)
                fused_mlp(first, evaluation.parameters, self._mlp.fused, precision=evaluation.precision, **common)
            else:
                self._head(evaluation, low, high, per_row=rows, **common)

    def _end(self, evaluation: _Evaluation, low: int, high: int, **common: Any) -> None:
        """The layers that are multiplied in halves, and the loss."""
        end = self._mlp.split_end
        assert end is not None
        layer, *last = [
            SplitLayer(weight, self._bias(layer, evaluation.parameters), layer.activation)
            for layer, weight in zip(end.layers, evaluation.last_weights, strict=True)
        ]
        x = self._inputs_after(self._mlp.layers[1 : -len(end.layers)], evaluation, low, high)
        last_layers(x, layer, last[0] if last else None, **common)

    def _head(self, evaluation: _Evaluation, low: int, high: int, **common: Any) -> None:
        """The last layer and the loss, after all others."""
        _, *others = self._mlp.layers
        last = others.pop() if others and not self._mlp.has_separate_end else None
        x = self._inputs_after(others, evaluation, low, high)
        weight = None if last is None else self._weight(last, evaluation.parameters)
        bias = None if last is None else self._bias(last, evaluation.parameters)
        loss_head(x, weight, bias, precision=evaluation.precision, **common)

    def _first(self, evaluation: _Evaluation, low: int, high: int) -> First:
        layer = self._mlp.layers[0]
        return First(
            base=self._base[low:high],
            shift=self._shift[:, low:high],
            radius=evaluation.radius,
            bias=self._bias(layer, evaluation.parameters),
            activation=layer.activation,
        )

    def _inputs_after(
        self, layers: Sequence[LinearLayer], evaluation: _Evaluation, low: int, high: int
    ) -> Tensor | First:
        """What the layer after the first and these reads, for rows low to high - 1."""
        x: Tensor | First = self._first(evaluation, low, high)
        for layer in layers:
            x = linear(
                x,
                self._weight(layer, evaluation.parameters),
                self._bias(layer, evaluation.parameters),
                evaluation.active,
                evaluation.num_rows - low,
                activation=layer.activation,
                precision=evaluation.precision,
            )
        return x

    def _multiply_inputs(self) -> Tensor:
        """The products of the inputs and the moves of the first weight. [S, R, H] float32"""
        mlp, place = self._mlp, self._mlp.first_place
        assert place is not None
        count, rows, width = len(self._directions), *self._base.shape
        shift = torch.empty((count, rows, width), dtype=torch.float32, device=mlp.device)
        step = max(1, mlp.scratch_bytes // (4 * place.size))
        for start in range(0, count, step):
            active = torch.arange(start, min(start + step, count), dtype=torch.int32, device=mlp.device)
            multiply = self._multiply_split if mlp.split_first is not None else self._multiply
            multiply(active, shift[start : start + len(active)])
        return shift

    def _multiply(self, active: Tensor, out: Tensor) -> None:
        """The products of the inputs and the moves of some directions. [n, R, H]"""
        mlp = self._mlp
        moves = torch.empty((len(active), mlp.first_pieces.row_size), dtype=torch.float32, device=mlp.device)
        self._materialize(moves, mlp.first_pieces, active, None)
        inputs = mlp.inputs if self._rows is None else mlp.inputs[self._rows]
        all_rows = torch.full((len(self._directions),), len(inputs), dtype=torch.int32, device=mlp.device)
        weight = moves.view(len(active), out.shape[2], -1)
        linear(inputs, weight, None, active, all_rows, precision=mlp.precision, out=out)

    def _multiply_split(self, active: Tensor, out: Tensor) -> None:
        """The same products in halves. [n, R, H]"""
        first = self._mlp.split_first
        assert first is not None
        inputs = first.rows(self._rows)
        moves = torch.empty((len(active), 2, first.pieces.row_size), dtype=torch.float16, device=out.device)
        inverse = torch.empty((1, len(active)), dtype=torch.float32, device=out.device)
        self._materialize_halves(moves, inverse, first.pieces, first.largest, active, None)
        weight = moves.unflatten(2, (out.shape[2], inputs.parts.shape[3]))
        shared_linear(inputs, Halves(weight, inverse[0]), out)

    def _perturb(self, active: Tensor, radius: Tensor) -> tuple[Tensor, list[Halves]]:
        """All parameters but the first weight at center + radius x move: in float32 [A, row_size], and in halves."""
        mlp, end = self._mlp, self._mlp.split_end
        parameters = torch.empty((len(active), mlp.row_size), dtype=torch.float32, device=mlp.device)
        self._materialize(parameters, mlp.rest_pieces, active, radius)
        if end is None:
            return parameters, []
        rows, inverse = end.empty(len(active))
        self._materialize_halves(rows, inverse, end.pieces, end.largest, active, radius)
        return parameters, end.weights(rows, inverse)

    def _materialize(self, out: Tensor, pieces: Pieces, active: Tensor, radius: Tensor | None) -> None:
        materialize(out, pieces, self._mlp.scale, active, **self._vectors(radius))

    def _materialize_halves(
        self, out: Tensor, inverse: Tensor, pieces: Pieces, largest: Largest, active: Tensor, radius: Tensor | None
    ) -> None:
        materialize_halves(out, inverse, pieces, largest, self._mlp.scale, active, **self._vectors(radius))

    def _vectors(self, radius: Tensor | None) -> dict[str, Any]:
        """What kernels make parameters from: the directions, and the center where there is a radius."""
        mlp, directions = self._mlp, self._directions
        return {
            "directions": directions.index,
            "inverse_norm": directions.inverse_norm,
            "seed": mlp.problem.directions.seed,
            "center": None if radius is None else mlp.center,
            "radius": radius,
            "normals": directions.normals,
        }

    def _weight(self, layer: LinearLayer, parameters: Tensor) -> Tensor:
        """The weight of a layer for each active direction. [A, outputs, inputs]"""
        flat = self._parameter(layer.weight_name, layer.weight, parameters)
        return flat.view(len(parameters), *layer.weight.shape)

    def _bias(self, layer: LinearLayer, parameters: Tensor) -> Tensor | None:
        if layer.bias is None or layer.bias_name is None:
            return None
        return self._parameter(layer.bias_name, layer.bias, parameters)

    def _parameter(self, name: str, center: Tensor, parameters: Tensor) -> Tensor:
        """A tensor's values for each active direction; those of the center if it is not perturbed. [A, size]"""
        place = self._mlp.places.get(name)
        if place is None:
            fixed = center.detach().to(self._mlp.device, torch.float32).reshape(1, -1)
            return fixed.expand(len(parameters), -1)
        return parameters[:, place.at : place.at + place.size]

    def _blocks_at_once(self, count: int) -> int:
        """The number of blocks of rows whose activations between two layers fit into the scratch space."""
        mlp = self._mlp
        ends = 0 if mlp.split_end is None else len(mlp.split_end.layers)
        stored = mlp.layers[1 : len(mlp.layers) - ends]
        if ends and not stored:
            return len(self._blocks)
        width = max((len(layer.weight) for layer in stored), default=1)
        return max(1, mlp.scratch_bytes // (8 * count * width * BLOCK_ROWS))
