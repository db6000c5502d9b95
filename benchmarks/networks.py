"""Networks beyond perceptrons for the benchmarks, trained here on packaged data until their loss is small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basinvol.experiments.data.sources import read_source

LossFunction = Callable[[Any, Any], Tensor]
_CONTEXT = 64


@dataclass(frozen=True)
class Network:
    """One trained network with its loss and data.

    Attributes:
        title: How the table names it.
        model: The network, in eval mode.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        inputs, targets: The data. N examples
        num_directions: How many directions basinvol solves; times are reported for one.
    """

    title: str
    model: nn.Module
    loss_fn: LossFunction
    inputs: Tensor
    targets: Tensor
    num_directions: int


class Residual(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.short = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(y + self.short(x))


def resnet18() -> nn.Module:
    """Return a ResNet-18 for images of 32 x 32."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    width = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(width, outputs, stride), Residual(outputs, outputs, 1)]
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Block(nn.Module):
    """Causal attention and a perceptron, each after a layer norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        examples, positions, width = x.shape
        parts = self.attend(self.norms[0](x)).view(examples, positions, 3, self.heads, width // self.heads)
        mixed = F.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4), is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(examples, positions, width))
        return x + self.mlp(self.norms[1](x))


class Gpt(nn.Module):
    """A small GPT over characters."""

    def __init__(self, vocabulary: int, width: int = 128, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(_CONTEXT, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.token(tokens) + self.position(positions))))


class Recurrent(nn.Module):
    """A GRU over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(28, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


def next_character(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over all positions."""
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def mnist_cnn_layers() -> nn.Module:
    """Return a CNN for images of 28 x 28 with two convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def mnist_cnn() -> Network:
    inputs, targets = _digits(5000)
    return trained("MNIST CNN, 5,000 rows", mnist_cnn_layers, F.cross_entropy, inputs[:, None], targets, 200, 48)


def cifar_cnn() -> Network:
    """Return the CNN that the paper trains on CIFAR-10, on color images of its shape."""

    def layers() -> nn.Module:
        parts: list[nn.Module] = []
        for inputs, outputs in ((3, 32), (32, 64), (64, 128)):
            parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        parts += [nn.Flatten(), nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)]
        return nn.Sequential(*parts)

    found = read_source("photo-patches", None)
    images = torch.from_numpy(found.inputs[:2000]).float() / 255 - 0.5
    labels = torch.from_numpy(found.labels[:2000])
    return trained("CIFAR-10 CNN, 2,000 rows", layers, F.cross_entropy, images, labels, 800, 48)


def resnet() -> Network:
    inputs, targets = _digits(256)
    images = F.pad(inputs, (2, 2, 2, 2))[:, None].expand(-1, 3, -1, -1).contiguous()
    return trained("ResNet-18, 256 images of 32 x 32", resnet18, F.cross_entropy, images, targets, 100, 32)


def gpt() -> Network:
    text = Path(torch.__file__).read_text()
    letters = sorted(set(text))
    code = torch.tensor([letters.index(letter) for letter in text[: 512 * _CONTEXT + 1]])
    inputs, targets = code[:-1].view(512, _CONTEXT), code[1:].view(512, _CONTEXT)
    title = "GPT, 4 layers of 128, 512 sequences of 64"
    return trained(title, lambda: Gpt(len(letters)), next_character, inputs, targets, 200, 64)


def gru() -> Network:
    inputs, targets = _digits(5000)
    return trained("GRU, 5,000 rows", Recurrent, F.cross_entropy, inputs, targets, 400, 64)


NETWORKS: dict[str, Callable[[], Network]] = {
    "mnist-cnn": mnist_cnn,
    "cifar10-cnn": cifar_cnn,
    "resnet18": resnet,
    "gpt": gpt,
    "gru": gru,
}


def _digits(count: int) -> tuple[Tensor, Tensor]:
    """Some of the 5,000 packaged digits, in random order. [count, 28, 28] and [count]"""
    found = read_source("packaged-digits", None)
    chosen = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(0))[:count]
    images = torch.from_numpy(found.inputs)[chosen].float().view(-1, 28, 28) / 255
    return images, torch.from_numpy(found.labels)[chosen]


def trained(
    title: str,
    make: Callable[[], nn.Module],
    loss_fn: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    steps: int,
    num_directions: int,
) -> Network:
    """Return the network after some steps of Adam on batches of 64.

    Args:
        title: How the table names it.
        make: make() -> the network with its first parameters; they are the same every time.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        inputs, targets: The data. N examples
        steps: How many.
        num_directions: How many directions basinvol solves.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().to(targets.device)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(steps):
            chosen = torch.randint(len(inputs), (64,))
            optimizer.zero_grad()
            loss_fn(model.train()(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
    return Network(title, model.eval().requires_grad_(False), loss_fn, inputs, targets, num_directions)
