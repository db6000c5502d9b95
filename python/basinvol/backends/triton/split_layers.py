"""Which layers of a perceptron are multiplied in halves, and what of them is made once, whatever the rays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from basin_triton import Halves, Largest, Pieces, split
from basin_triton.last_layers import fitting
from basin_triton.shared_linear import MULTIPLE

from ..mlp import LinearLayer
from .place import ALIGNMENT, Place


@dataclass(frozen=True)
class SplitFirst:
    """The first layer, whose inputs are the data.

    Attributes:
        inputs: the data. [1, 2, R, K]
        pieces, largest: the move of the weight, in halves, and the largest values that it can take.
    """

    inputs: Halves
    pieces: Pieces
    largest: Largest

    @classmethod
    def of(
        cls, inputs: Tensor, weight: Tensor, place: Place | None, scale: Tensor, center: Tensor
    ) -> SplitFirst | None:
        """The first layer, or None where its sizes do not fit the kernel or its weight does not move.

        Args:
            inputs: the data. [R, K] float32
            weight: the weight at the center. [J, K]
            place: of the weight in the space, or None.
            scale, center: the scale and the center of all parameters. [P]
        """
        if place is None or any(size % MULTIPLE for size in weight.shape):
            return None
        tensors = [place.row(0)]
        return cls(split(inputs), Pieces.of(tensors, inputs.device), Largest.of(tensors, center, scale))

    def rows(self, chosen: Tensor | None) -> Halves:
        """The inputs of some rows, in this order, or of all. [1, 2, n, K]"""
        inputs = self.inputs
        return inputs if chosen is None else Halves(inputs.parts[:, :, chosen], inputs.inverse)


@dataclass(frozen=True)
class SplitEnd:
    """The last layers, which one kernel computes together with the loss.

    Attributes:
        layers: one or two of them, the last of the network.
        places: the place of each weight in a row of halves.
        pieces, largest: these weights, and the largest values at the center and of the scale.
        row_size: halves of a row.
    """

    layers: tuple[LinearLayer, ...]
    places: tuple[Place, ...]
    pieces: Pieces
    largest: Largest
    row_size: int

    @classmethod
    def of(
        cls, layers: tuple[LinearLayer, ...], loss: str, where: dict[str, Place], scale: Tensor, center: Tensor
    ) -> SplitEnd | None:
        """The last layers, or None where their sizes do not fit the kernel or one of their weights does not move.

        Args:
            layers: all layers of the network.
            loss: the name of the loss.
            where: the place of each parameter in the space.
            scale, center: the scale and the center of all parameters. [P]
        """
        ends = fitting([layer.weight.shape for layer in layers[1:]], layers[-1].activation, loss)
        chosen = layers[len(layers) - ends :]
        if ends == 0 or any(layer.weight_name not in where for layer in chosen):
            return None
        places, row_size = [], 0
        for layer in chosen:
            of_tensor = where[layer.weight_name]
            places.append(Place(of_tensor.tensor, of_tensor.offset, of_tensor.size, row_size))
            row_size += -(-of_tensor.size // ALIGNMENT) * ALIGNMENT
        tensors = [place.row(place.at) for place in places]
        largest = Largest.of(tensors, center, scale)
        return cls(chosen, tuple(places), Pieces.of(tensors, scale.device), largest, row_size)

    def weights(self, rows: Tensor, inverse: Tensor) -> list[Halves]:
        """The weight of each layer for every active direction. [A, 2, outputs, inputs] each

        Args:
            rows: the rows of halves. [A, 2, row_size]
            inverse: the inverse factors by layer. [layers, A]
        """
        return [
            Halves(
                rows[:, :, place.at : place.at + place.size].unflatten(2, tuple(layer.weight.shape)), inverse[position]
            )
            for position, (layer, place) in enumerate(zip(self.layers, self.places, strict=True))
        ]

    def empty(self, count: int) -> tuple[Tensor, Tensor]:
        """Room for the rows of so many directions, and for their inverse factors."""
        rows = torch.empty((count, 2, self.row_size), dtype=torch.float16, device=self.largest.scale.device)
        return rows, torch.empty((len(self.layers), count), dtype=torch.float32, device=rows.device)
