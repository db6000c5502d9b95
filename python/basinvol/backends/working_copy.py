"""Parameters that are perturbed in place: two vectors of P numbers, however many directions there are."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from ..model.directions import Directions
from ..model.landscape import Landscape
from ..model.scale import Scale
from .extension import compiled_extension

_TRIED = 2  # examples with which a layout is tried
_SAME = 1e-4  # by how much it may change the loss, relatively


class WorkingCopy:
    """Perturbed parameters at one radius along one direction.

    Args:
        landscape: whose parameters.
        directions: the directions.
        scale: the positive factor of each parameter.
        channels_last: names of parameters that are laid out so, see `channels_last_weights`.

    Attributes:
        named: the perturbed parameters by name, the same tensors at every radius.
    """

    def __init__(
        self, landscape: Landscape, directions: Directions, scale: Scale, channels_last: Collection[str] = ()
    ) -> None:
        space, center = directions.space, landscape.center
        self._directions = directions
        device = landscape.device
        self._move = torch.empty(space.dim, dtype=space.dtype, device=device)
        moves = torch.split(self._move, list(space.sizes))
        shaped = [move.view(shape) for move, shape in zip(moves, space.shapes, strict=True)]
        self.named = {
            name: torch.empty_like(
                center[name],
                memory_format=torch.channels_last if name in channels_last else torch.contiguous_format,
            )
            for name in space.names
        }
        self._scaled = list(zip(shaped, scale.factors, strict=True))
        self._places = [
            (center[name], move, perturbed, move.dtype == perturbed.dtype)
            for move, (name, perturbed) in zip(shaped, self.named.items(), strict=True)
        ]
        # The generator of the extension writes into the vector; other directions come as vectors of their own.
        is_ours = self._directions.kind == "philox" and space.dtype == torch.float32 and device.type == "cpu"
        self._fill = compiled_extension().fill_direction if is_ours else None

    def aim(self, index: int) -> float:
        """Turns to a direction; returns the norm of its Gaussian vector."""
        directions = self._directions
        if self._fill is not None:
            norm = float(self._fill(directions.seed, index, directions.space.sizes, self._move.numpy()))
        else:
            norm = float(directions.norms([index])[0])
            self._move.copy_(directions.materialize([index], self._move.dtype, self._move.device)[0])
        for move, factor in self._scaled:
            move.mul_(factor)
        return norm

    def place(self, radius: float) -> None:
        """Puts the parameters at a radius along the direction; at 0 they are those of the center, to the bit."""
        for center, move, perturbed, is_exact in self._places:
            if radius == 0.0:
                perturbed.copy_(center)
            elif is_exact:
                torch.add(center, move, alpha=radius, out=perturbed)
            else:  # a parameter in a shorter type than the vector of moves
                perturbed.copy_(center + radius * move)


def channels_last_weights(landscape: Landscape, names: Collection[str]) -> frozenset[str]:
    """Weights of convolutions whose layout makes torch compute with channels last, twice as fast on a CPU or more.

    There are none where the model takes no such activations: where forward() calls view() on them, it fails.

    Args:
        landscape: the model and its data.
        names: the parameters that may be laid out so.
    """
    first = {id(p): name for name, p in reversed(list(landscape.model.named_parameters()))}
    convolutions = [part for part in landscape.model.modules() if isinstance(part, nn.Conv2d)]
    found = frozenset(first.get(id(part.weight), "") for part in convolutions) & frozenset(names)
    if not found or landscape.device.type != "cpu":
        return frozenset()
    laid_out = {name: landscape.center[name].contiguous(memory_format=torch.channels_last) for name in found}
    last = min(_TRIED, landscape.num_examples)
    try:
        with landscape.measuring():
            expected, changed = landscape.loss_at({}, 0, last), landscape.loss_at(laid_out, 0, last)
    except RuntimeError:
        return frozenset()
    return found if torch.allclose(changed, expected, rtol=_SAME, equal_nan=True) else frozenset()
