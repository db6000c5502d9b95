"""A perceptron and its data on a device: what is made once, whatever the rays."""

from __future__ import annotations

import torch
from torch import Tensor

from basin_triton import (
    MAX_OUTPUTS,
    MAX_WIDTH,
    LayerTable,
    Pieces,
    RowBlocks,
    linear,
    shared_linear,
    split,
)

from ..mlp import Mlp
from ..problem import RayProblem
from .place import ALIGNMENT, Place
from .split_layers import SplitEnd, SplitFirst


class DeviceMlp:
    """The network and its examples, ready for any radius along any ray.

    Args:
        problem: the landscape, center and scale.
        mlp, loss: the perceptron and the name of the loss that were read from it.
        precision: precision of all products but those that only propose: one of `basin_triton.linear`, or "fp16x3", for
            which layers whose sizes do not fit are multiplied in tf32x3.
        levels: numbers of examples, scouts included. [L]
        scratch_bytes: see `memory.scratch_bytes`.
    """

    def __init__(
        self, problem: RayProblem, mlp: Mlp, loss: str, precision: str, levels: tuple[int, ...], scratch_bytes: int
    ) -> None:
        landscape = problem.landscape
        self.problem, self.layers, self.loss = problem, mlp.layers, loss
        self.precision = "tf32x3" if precision == "fp16x3" else precision
        self.device = landscape.device
        self.levels, self.scratch_bytes = levels, scratch_bytes
        inputs, targets = landscape.tensors
        self.inputs, self.targets = inputs.flatten(1).contiguous(), targets.contiguous()
        # The outputs of a last layer that the loss head does not compute are stored, and read as logits.
        is_head = mlp.num_outputs <= MAX_OUTPUTS and self.layers[-1].activation == "identity"
        self.has_separate_end = len(self.layers) > 1 and not is_head
        self.terms = 1 if loss == "cross_entropy" else mlp.num_outputs
        self.center = problem.center.float()
        self.scale = problem.scale.vector().float()
        self.blocks = RowBlocks.between(self.levels, self.device)
        self.num_blocks = [int((self.blocks.level <= level).sum()) for level in range(len(self.levels))]
        self.block_ends = torch.tensor(self.num_blocks, dtype=torch.int32, device=self.device)
        self.level_rows = torch.tensor(self.levels, dtype=torch.int32, device=self.device)
        self.level_terms = self.level_rows.double() * self.terms
        space = problem.directions.space
        where = {name: Place(i, space.offsets[i], space.sizes[i], 0) for i, name in enumerate(space.names)}
        first = self.layers[0].weight.detach().to(self.device, torch.float32).contiguous()
        self.first_place = where.get(self.layers[0].weight_name)
        self.split_first, self.split_end = None, None
        is_split = precision == "fp16x3"
        if is_split:
            self.split_first = SplitFirst.of(self.inputs, first, self.first_place, self.scale, self.center)
        if is_split and not self._is_narrow() and self.first_place is not None:
            self.split_end = SplitEnd.of(self.layers, loss, where, self.scale, self.center)
        self._place_parameters(where)
        self.fused = self._fuse()
        self.base = self._multiply_at_center(first)

    def _multiply_at_center(self, first: Tensor) -> Tensor:
        """The inputs times the first weight at the center, in the arithmetic of the moves. [R, H]"""
        if self.split_first is not None:
            out = torch.empty((1, len(self.inputs), len(first)), dtype=torch.float32, device=self.device)
            shared_linear(self.split_first.inputs, split(first), out)
            return out[0]
        all_rows = torch.full((1,), len(self.inputs), dtype=torch.int32, device=self.device)
        only = torch.zeros(1, dtype=torch.int32, device=self.device)
        return linear(self.inputs, first[None], None, only, all_rows, precision=self.precision)[0]

    def bytes_per_ray(self) -> int:
        """The bytes that a ray keeps on the device between evaluations."""
        halves = 0 if self.split_end is None else self.split_end.row_size
        return 4 * (self.base.numel() + self.row_size + halves)

    def _is_narrow(self) -> bool:
        """Whether one fused kernel takes all layers after the first."""
        first, *others = self.layers
        is_small = all(layer.weight.shape[1] <= MAX_WIDTH for layer in others) and not self.has_separate_end
        is_plain = all(layer.activation == first.activation for layer in others[:-1])
        # With one layer left, the loss head is the whole rest.
        return len(others) >= 2 and is_small and is_plain

    def _fuse(self) -> LayerTable | None:
        """The layers after the first in the form that one fused kernel takes, or None if it does not take them."""
        first, *others = self.layers
        names = [name for layer in others for name in (layer.weight_name, layer.bias_name) if name is not None]
        if not self._is_narrow() or any(name not in self.places for name in names):
            return None
        places = []
        for layer in others:
            bias_at = -1 if layer.bias_name is None else self.places[layer.bias_name].at
            outputs, inputs = layer.weight.shape
            places.append((self.places[layer.weight_name].at, bias_at, inputs, outputs))
        return LayerTable.of(places, first.activation, self.device)

    def _place_parameters(self, where: dict[str, Place]) -> None:
        """Assigns each tensor that is kept in float32 an aligned place in the row of perturbed parameters."""
        first, *others = self.layers
        ends = 0 if self.split_end is None else len(self.split_end.layers)
        # Weights of the last layers are kept in halves; another layer that shares one needs it in float32 as well.
        kept = {layer.weight_name for layer in others[: len(others) - ends]}
        skipped = {layer.weight_name for layer in others[len(others) - ends :]} - kept if ends else set()
        names = [first.bias_name] + [name for layer in others for name in (layer.weight_name, layer.bias_name)]
        self.places: dict[str, Place] = {}
        self.row_size = 0
        for name in names:
            if name in where and name not in self.places and name not in skipped:
                of_tensor = where[name]
                self.places[name] = Place(of_tensor.tensor, of_tensor.offset, of_tensor.size, self.row_size)
                self.row_size += -(-of_tensor.size // ALIGNMENT) * ALIGNMENT
        self.first_pieces, self.rest_pieces, self.all_pieces = (
            Pieces.of([place.row(place.at) for place in some], self.device)
            for some in (
                [] if self.first_place is None else [self.first_place],
                self.places.values(),
                where.values(),
            )
        )
