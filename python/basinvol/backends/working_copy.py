"""Parameters that are perturbed in place: two vectors of P numbers, however many directions there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from ..model.directions import Directions
from ..model.landscape import Landscape
from ..model.scale import Scale
from .unit_vector import unit_vector_into

_TRIED = 2  # examples with which a layout is tried
_SAME = 1e-4  # by how much it may change the loss, relatively


class WorkingCopy:
    """Perturbed parameters at one radius along one direction.

    Args:
        landscape: whose parameters.
        directions: the directions.
        scale: the positive factor of each parameter.
        channels_last: names of parameters that are laid out so, see `channels_last_weights`.
    """

    def __init__(
        self, landscape: Landscape, directions: Directions, scale: Scale, channels_last: Collection[str] = ()
    ) -> None:
        space, center = directions.space, landscape.center
        self._is_on_cpu = landscape.device.type == "cpu"
        self._move = torch.empty(space.dim, dtype=space.dtype, device=landscape.device)
        self._turn = unit_vector_into(self._move, directions)
        pieces = torch.split(self._move, list(space.sizes))
        moves = [piece.view(shape) for piece, shape in zip(pieces, space.shapes, strict=True)]
        self._named = {
            name: torch.empty_like(
                center[name],
                memory_format=torch.channels_last if name in channels_last else torch.contiguous_format,
            )
            for name in space.names
        }
        # Most tensors of a network are vectors, and have the factor one.
        self._scaled = [pair for pair in zip(moves, scale.factors, strict=True) if not _is_one(pair[1])]
        places = [(center[name], move, self._named[name]) for name, move in zip(space.names, moves, strict=True)]
        self._together = Together([place for place in places if not self._is_on_cpu and _is_plain(*place)])
        self._one_by_one = [place for place in places if self._is_on_cpu or not _is_plain(*place)]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._move.device

    @property
    def dim(self) -> int:
        """P, the number of parameters."""
        return len(self._move)

    @property
    def named(self) -> Mapping[str, Tensor]:
        """The perturbed parameters by name, in the same memory at every radius.

        Recurrent layers on a device move the parameters that they are given into one block of memory. So a device gives
        aliases, anew each time: what is moved is the alias, and the parameters stay where they are.
        """
        return self._named if self._is_on_cpu else {name: p.detach() for name, p in self._named.items()}

    def aim(self, index: int) -> float:
        """Turns to a direction; returns the norm of its Gaussian vector."""
        norm = self._turn(index)
        for move, factor in self._scaled:
            move.mul_(factor)
        return norm

    def place(self, radius: float) -> None:
        """Puts the parameters at a radius along the direction; at 0 they are those of the center, to the bit."""
        self._together.place(radius)
        for center, move, perturbed in self._one_by_one:
            if radius == 0.0:
                perturbed.copy_(center)
            elif move.dtype == perturbed.dtype:
                torch.add(center, move, alpha=radius, out=perturbed)
            else:  # a parameter in a shorter type than the vector of moves
                perturbed.copy_(center + radius * move)


class Together:
    """Parameters that are perturbed in a few launches, however many they are.

    Args:
        places: center, move and perturbed parameter of each, which have one type and one layout.
    """

    def __init__(self, places: Collection[tuple[Tensor, Tensor, Tensor]]) -> None:
        self._centers = [center for center, _, _ in places]
        self._moves = [move for _, move, _ in places]
        self._perturbed = [perturbed for _, _, perturbed in places]

    def place(self, radius: float) -> None:
        """See `WorkingCopy.place`."""
        if not self._perturbed:
            return
        torch._foreach_copy_(self._perturbed, self._centers)
        if radius != 0.0:
            torch._foreach_add_(self._perturbed, self._moves, alpha=radius)


def _is_one(factor: Tensor) -> bool:
    return factor.numel() == 1 and float(factor) == 1.0


def _is_plain(center: Tensor, move: Tensor, perturbed: Tensor) -> bool:
    """Whether torch takes these tensors together with others; one that it cannot take would slow down all."""
    return center.dtype == move.dtype and center.is_contiguous() and perturbed.is_contiguous()


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
