"""Networks and their training as in the paper: one initialization per seed, and the weights of the last epoch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...model.landscape import LossFunction
from ..describe.description import Network, Training, Transformer
from .transformer import CharacterTransformer

_LOSSES: dict[str, Any] = {
    "cross_entropy": F.cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "mse": F.mse_loss,
}
# Examples evaluated at a time: convolutions of 60,000, or attention in 4,096 windows of text, would take gigabytes.
_CHUNK, _CHUNK_OF_TEXT = 4096, 64


def build_network(network: Network | Transformer, model_seed: int) -> nn.Module:
    """The network as it is initialized after manual_seed(model_seed), layer by layer.

    The initialization is torch's default, for transformers that of GPT-2.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model_seed)
        if isinstance(network, Transformer):
            return CharacterTransformer(network)
        layers: list[nn.Module] = []
        channels, *image = network.inputs
        for wanted in network.channels:
            layers += [nn.Conv2d(channels, wanted, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, image = wanted, [side // 2 for side in image]
        if network.channels:
            layers.append(nn.Flatten())
            channels *= image[0] * image[1]
        for inputs, outputs in itertools.pairwise((channels, *network.hidden, network.outputs)):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def loss_function(name: str) -> LossFunction:
    """The mean loss of this name: "cross_entropy", "bce_with_logits" or "mse"."""
    loss_fn: LossFunction = _LOSSES[name]
    return loss_fn


def train(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    training: Training,
    seed: int = 0,
    on_epoch: Callable[[int], object] = lambda _: None,
) -> None:
    """Trains `model` in place.

    Args:
        model: the network.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        inputs: training examples. [N, ...]
        targets: what the loss compares their outputs with. [N, ...]
        training: the optimizer's settings.
        seed: of the order of batches; a full batch is taken in the order of the data.
        on_epoch: called after every epoch with its number, from 1 on.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, betas=training.betas, weight_decay=training.weight_decay
    )
    shuffle = torch.Generator().manual_seed(seed)
    count = len(inputs)
    batch_size = min(training.batch_size or count, count)
    model.train()
    with torch_threads(training.num_threads):
        for epoch in range(1, training.epochs + 1):
            if batch_size == count:
                _step(model, loss_fn, inputs, targets, training, optimizer)
            else:
                for rows in torch.randperm(count, generator=shuffle).split(batch_size):
                    _step(model, loss_fn, inputs[rows], targets[rows], training, optimizer)
            on_epoch(epoch)
    model.eval()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Runs torch on this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _step(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    training: Training,
    optimizer: torch.optim.Optimizer,
) -> None:
    optimizer.zero_grad()
    loss_fn(model(inputs), targets).backward()
    if training.sam_radius:
        parameters = [p for p in model.parameters() if p.grad is not None]
        before = [p.detach().clone() for p in parameters]
        _ascend(parameters, training)
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old)
    optimizer.step()


@torch.no_grad()
def _ascend(parameters: list[nn.Parameter], training: Training) -> None:
    """Moves the parameters to where the loss is largest, to first order, within the radius (in units of |w| if
    adaptive)."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    scales = [p.abs() if training.is_adaptive else torch.ones_like(p) for p in parameters]
    norm = torch.stack([(scale * g).norm() for scale, g in zip(scales, gradients, strict=True)]).norm()
    for p, scale, gradient in zip(parameters, scales, gradients, strict=True):
        p.add_(scale**2 * gradient, alpha=training.sam_radius / (float(norm) + 1e-12))


def per_example_losses(model: nn.Module, loss: str, inputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of every example, a mean over its outputs. [N] float64

    Args:
        model: the network.
        loss: name of the loss.
        inputs: examples. [N, ...]
        targets: what the loss compares their outputs with. [N, ...]
    """
    with torch.no_grad():
        chunks = zip(inputs.split(_chunk(inputs)), targets.split(_chunk(inputs)), strict=True)
        losses = [_LOSSES[loss](model(x), y, reduction="none").double() for x, y in chunks]
    return torch.cat([chunk.flatten(1).mean(dim=1) if chunk.ndim > 1 else chunk for chunk in losses])


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """The share of labels at which the largest output is, or whose single logit has the right sign.

    Args:
        model: the network.
        inputs: examples. [N, ...]
        targets: classes [N], or of every position [N, T]; one-hot rows [N, C], or one column of 0 and 1 [N, 1].
    """
    with torch.no_grad():
        outputs = torch.cat([model(chunk) for chunk in inputs.split(_chunk(inputs))])
    if outputs.shape[1] == 1:
        is_right = (outputs > 0) == (targets > 0.5)
    else:
        labels = targets.argmax(dim=1) if targets.is_floating_point() else targets
        is_right = outputs.argmax(dim=1) == labels
    return float(is_right.double().mean())


def _chunk(inputs: Tensor) -> int:
    return _CHUNK if inputs.is_floating_point() else _CHUNK_OF_TEXT
