"""Common ways to find radii, written plainly in PyTorch.

Every function takes given directions and returns a bracket (inside, outside) for each, in units of the scaled unit
direction. The functions do not time themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

LossFunction = Callable[[Tensor, Tensor], Tensor]
Bracket = tuple[float, float]

LOSS_TOLERANCE = 0.01  # bisection stops when the loss is this close to the cutoff, relative to the cutoff


class Perturbed:
    """A model whose parameters are set in place to center + radius x move."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction, inputs: Tensor, targets: Tensor) -> None:
        self._model, self._loss_fn, self._inputs, self._targets = model, loss_fn, inputs, targets
        self._parameters = list(model.parameters())
        self._center = [p.detach().clone() for p in self._parameters]

    def loss(self, move: list[Tensor], radius: float) -> float:
        """Return the mean loss on all the data at center + radius x move."""
        for parameter, center, part in zip(self._parameters, self._center, move, strict=True):
            parameter.copy_(center + radius * part)
        return float(self._loss_fn(self._model(self._inputs), self._targets))

    def restore(self) -> None:
        """Set the parameters back to the center."""
        for parameter, center in zip(self._parameters, self._center, strict=True):
            parameter.copy_(center)


@torch.no_grad()
def paper_grid(perturbed: Perturbed, moves: list[list[Tensor]], cutoff: float, norms: list[float]) -> list[Bracket]:
    """Return brackets from the paper's pipeline: the full data at each of 100 coefficients linspace(0, 1)^2.

    Directions are solved one at a time. A direction that never crosses has an infinite bracket.

    Args:
        perturbed: The model with its data.
        moves: scale x direction for every direction, as tensors shaped like the parameters.
        cutoff: The loss that bounds the basin.
        norms: The norm of the Gaussian vector of each direction, which the coefficients multiply.
    """
    coefficients = torch.linspace(0, 1, 100, dtype=torch.float64) ** 2
    brackets = []
    for move, norm in zip(moves, norms, strict=True):
        losses = [perturbed.loss(move, float(c) * norm) for c in coefficients]
        outside = [k for k, loss in enumerate(losses) if loss > cutoff]
        k = outside[0] if outside else None
        brackets.append(
            (math.inf, math.inf) if k is None else (float(coefficients[k - 1]) * norm, float(coefficients[k]) * norm)
        )
    perturbed.restore()
    return brackets


@torch.no_grad()
def bisection(perturbed: Perturbed, moves: list[list[Tensor]], cutoff: float, start: float) -> list[Bracket]:
    """Return brackets from doubling, then bisection until the loss is within 1 % of the cutoff.

    Directions are solved one at a time.

    Args:
        perturbed: The model with its data.
        moves: scale x direction for every direction, as tensors shaped like the parameters.
        cutoff: The loss that bounds the basin.
        start: The radius at which doubling begins.
    """
    brackets = []
    for move in moves:
        lower, upper = 0.0, start
        while perturbed.loss(move, upper) <= cutoff:
            lower, upper = upper, 2 * upper
        while True:
            middle = 0.5 * (lower + upper)
            loss = perturbed.loss(move, middle)
            lower, upper = (middle, upper) if loss <= cutoff else (lower, middle)
            if abs(loss - cutoff) <= LOSS_TOLERANCE * cutoff:
                break
        brackets.append((lower, upper))
    perturbed.restore()
    return brackets


@torch.no_grad()
def batched_bisection(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    moves: list[list[Tensor]],
    cutoff: float,
    start: float,
    compiles: bool = False,
) -> list[Bracket]:
    """Return brackets from bisection of all directions at once under torch.func.vmap.

    Doubling and bisection go in step until the last direction is done.

    Args:
        model: The network at the center.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        inputs, targets: The data. N examples
        moves: scale x direction for every direction, as tensors shaped like the parameters.
        cutoff: The loss that bounds the basin.
        start: The radius at which doubling begins.
        compiles: Whether to use torch.compile. Its compilation counts too, unless the same shapes were compiled before.
    """
    names = [name for name, _ in model.named_parameters()]
    center = {name: p.detach() for name, p in model.named_parameters()}
    stacked = {name: torch.stack([move[i] for move in moves]) for i, name in enumerate(names)}

    def loss_at(move: dict[str, Tensor], radius: Tensor) -> Tensor:
        parameters = {name: center[name] + radius * move[name] for name in names}
        return loss_fn(functional_call(model, parameters, (inputs,)), targets)

    losses_at = torch.compile(vmap(loss_at)) if compiles else vmap(loss_at)
    lower, upper = torch.zeros(len(moves), device=inputs.device), torch.full((len(moves),), start, device=inputs.device)
    while (inside := losses_at(stacked, upper) <= cutoff).any():
        lower, upper = torch.where(inside, upper, lower), torch.where(inside, 2 * upper, upper)
    done = torch.zeros(len(moves), dtype=torch.bool, device=inputs.device)
    while not done.all():
        middle = 0.5 * (lower + upper)
        losses = losses_at(stacked, middle)
        inside = losses <= cutoff
        lower = torch.where(inside & ~done, middle, lower)
        upper = torch.where(~inside & ~done, middle, upper)
        done |= (losses - cutoff).abs() <= LOSS_TOLERANCE * cutoff
    return list(zip(lower.tolist(), upper.tolist(), strict=True))
