"""Training as in the paper: one initialization per seed, full batches, the weights of the last epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..landscape import LossFunction
from .description import Training

_LOSSES: dict[str, Any] = {
    "cross_entropy": F.cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}


def build_perceptron(widths: Sequence[int], model_seed: int) -> nn.Sequential:
    """Linear layers with ReLU between, in torch's default initialization after manual_seed(model_seed)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model_seed)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def loss_function(name: str) -> LossFunction:
    """The mean loss of this name."""
    loss_fn: LossFunction = _LOSSES[name]
    return loss_fn


def train(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    training: Training,
    on_epoch: Callable[[], object] = lambda: None,
) -> None:
    """Trains `model` in place, full batch in the given order; no randomness is used."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    model.train()
    threads = torch.get_num_threads()
    torch.set_num_threads(training.num_threads or threads)
    try:
        for _ in range(training.epochs):
            optimizer.zero_grad()
            loss_fn(model(inputs), targets).backward()
            optimizer.step()
            on_epoch()
    finally:
        torch.set_num_threads(threads)
    model.eval()


def per_example_losses(model: nn.Module, loss: str, inputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of every example. [N] float64"""
    with torch.no_grad():
        losses: Tensor = _LOSSES[loss](model(inputs), targets, reduction="none")
    return losses.double().flatten()


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Share of examples whose largest output is their label, or whose one logit has the sign of it."""
    with torch.no_grad():
        outputs = model(inputs)
    is_right = (outputs > 0) == (targets > 0.5) if outputs.shape[1] == 1 else outputs.argmax(dim=1) == targets
    return float(is_right.double().mean())
