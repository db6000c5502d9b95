"""What a program is made from: a model, its loss and its data, on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...inputs.fields import Inputs
from ...model.landscape import Landscape


class Source(Protocol):
    """The members of a landscape that lowering reads."""

    @property
    def model(self) -> nn.Module:
        """The module that is traced."""
        ...

    @property
    def loss_fn(self) -> Callable[..., Any]:
        """The function of outputs and targets."""
        ...

    @property
    def inputs(self) -> Inputs:
        """The inputs of all examples. [N, ...]"""
        ...

    @property
    def targets(self) -> Inputs:
        """The targets of all examples. [N, ...]"""
        ...

    @property
    def center(self) -> Mapping[str, Tensor]:
        """The parameters by name."""
        ...

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        ...


@dataclass(frozen=True)
class _Copy:
    """The members of a landscape, on another device."""

    model: nn.Module
    loss_fn: Callable[..., Any]
    inputs: Inputs
    targets: Inputs
    center: Mapping[str, Tensor]
    num_examples: int


def source_on_cpu(landscape: Landscape) -> Source:
    """The landscape itself, or a copy of what it holds on a device."""
    return landscape if landscape.device.type == "cpu" else copied_to_cpu(landscape)


def copied_to_cpu(landscape: Landscape) -> Source:
    """A copy of the model, its loss and its data.

    Tensors that are neither parameters nor buffers stay where they are, as those that a loss function holds do; where
    an operation meets them, it fails, and the network is refused as a program.
    """
    moved: dict[int, Any] = {}
    cpu = torch.device("cpu")
    loss_fn = landscape.loss_fn
    for module in (landscape.model, loss_fn):
        if isinstance(module, nn.Module):
            moved |= {id(p): nn.Parameter(p.detach().to("cpu", copy=True), False) for p in module.parameters()}
            moved |= {id(b): b.detach().to("cpu", copy=True) for b in module.buffers()}
    return _Copy(
        copy.deepcopy(landscape.model, moved),
        copy.deepcopy(loss_fn, moved) if isinstance(loss_fn, nn.Module) else loss_fn,
        landscape.inputs.to(cpu),
        landscape.targets.to(cpu),
        {name: p.detach().to(cpu) for name, p in landscape.center.items()},
        landscape.num_examples,
    )
