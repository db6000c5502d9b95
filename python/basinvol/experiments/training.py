"""Training as in the paper: one initialization per seed, full batches, the weights of the last epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .description import Training


def build_perceptron(widths: Sequence[int], model_seed: int) -> nn.Sequential:
    """Linear layers with ReLU between, in torch's default initialization after manual_seed(model_seed)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model_seed)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    training: Training,
    on_epoch: Callable[[], object] = lambda: None,
) -> None:
    """Trains `model` in place, full batch in the given order; no randomness is used."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    model.train()
    for _ in range(training.epochs):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        on_epoch()
    model.eval()


def per_example_losses(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of every example. [N] float64"""
    with torch.no_grad():
        return F.cross_entropy(model(inputs), targets, reduction="none").double()


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Share of examples whose largest output is their label."""
    with torch.no_grad():
        return float((model(inputs).argmax(dim=1) == targets).double().mean())
