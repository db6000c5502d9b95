"""A perceptron and its data on a device: what is made once, whatever the rays."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from basin_triton import MAX_OUTPUTS, MAX_WIDTH, LayerTable, Pieces, RowBlocks, linear

from ..mlp import Mlp
from ..problem import RayProblem

_ALIGNMENT = 16  # floats: rows of parameters start where wide loads can


@dataclass(frozen=True)
class Place:
    """The place of a parameter tensor in the space, and in the buffer of perturbed parameters.

    Attributes:
        tensor: its index in the space.
        offset, size: its first element in the flat vector, and its number of elements.
        at: its first element in a row of the buffer.
    """

    tensor: int
    offset: int
    size: int
    at: int


class DeviceMlp:
    """The network and its examples, ready for any radius along any ray.

    Args:
        problem: the landscape, center and scale.
        mlp, loss: the perceptron and the name of the loss that were read from it.
        precision: precision of all products but those that only propose, see `basin_triton.linear`.
        levels: numbers of examples, scouts included. [L]
        scratch_bytes: see `memory.scratch_bytes`.
    """

    def __init__(
        self, problem: RayProblem, mlp: Mlp, loss: str, precision: str, levels: tuple[int, ...], scratch_bytes: int
    ) -> None:
        landscape = problem.landscape
        self.problem, self.layers, self.loss, self.precision = problem, mlp.layers, loss, precision
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
        self._place_parameters()
        self.fused = self._fuse()
        first = self.layers[0].weight.detach().to(self.device, torch.float32).contiguous()
        all_rows = torch.full((1,), len(self.inputs), dtype=torch.int32, device=self.device)
        only = torch.zeros(1, dtype=torch.int32, device=self.device)
        self.base = linear(self.inputs, first[None], None, only, all_rows, precision=precision)[0]

    def bytes_per_ray(self) -> int:
        """The bytes that a ray keeps on the device between evaluations."""
        return 4 * (self.base.numel() + self.row_size)

    def _fuse(self) -> LayerTable | None:
        """The layers after the first in the form that one fused kernel takes, or None if it does not take them."""
        first, *others = self.layers
        names = [name for layer in others for name in (layer.weight_name, layer.bias_name) if name is not None]
        is_small = all(layer.weight.shape[1] <= MAX_WIDTH for layer in others) and not self.has_separate_end
        is_plain = all(layer.activation == first.activation for layer in others[:-1])
        # With one layer left, the loss head is the whole rest.
        if len(others) < 2 or not is_small or not is_plain or any(name not in self.places for name in names):
            return None
        places = []
        for layer in others:
            bias_at = -1 if layer.bias_name is None else self.places[layer.bias_name].at
            outputs, inputs = layer.weight.shape
            places.append((self.places[layer.weight_name].at, bias_at, inputs, outputs))
        return LayerTable.of(places, first.activation, self.device)

    def _place_parameters(self) -> None:
        """Assigns each tensor but the first weight an aligned place in the row of perturbed parameters."""
        space = self.problem.directions.space
        where = {name: (i, space.offsets[i], space.sizes[i]) for i, name in enumerate(space.names)}
        first, *others = self.layers
        names = [first.bias_name] + [name for layer in others for name in (layer.weight_name, layer.bias_name)]
        self.places: dict[str, Place] = {}
        self.row_size = 0
        for name in names:
            if name in where and name not in self.places:
                tensor, offset, size = where[name]
                self.places[name] = Place(tensor, offset, size, self.row_size)
                self.row_size += -(-size // _ALIGNMENT) * _ALIGNMENT
        self.first_place = None
        if first.weight_name in where:
            self.first_place = Place(*where[first.weight_name], 0)
        self.first_pieces, self.rest_pieces, self.all_pieces = (
            Pieces.of([(place.tensor, place.offset, place.size, place.at) for place in some], self.device)
            for some in (
                [] if self.first_place is None else [self.first_place],
                self.places.values(),
                [Place(*part, 0) for part in where.values()],
            )
        )
