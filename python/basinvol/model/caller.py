"""The one place that calls the user's model and loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..inputs.loss import LossFunction
from .guard import ModuleGuard

_PREFIX = "model."


class _Objective(nn.Module):
    """The model, and what is done with its outputs, as one module: replaced parameters are in place during both.

    A loss that reads `model.parameters()`, as weight decay inside the loss does, then sees the perturbed values.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self._loss_fn = (loss_fn,)  # in a tuple, so that a loss that is a module is no submodule

    def forward(self, inputs: Any, targets: Any, outputs: Any = None, wants_outputs: bool = False) -> Any:
        if outputs is None:
            outputs = self.model(inputs)
        return outputs if wants_outputs else self._loss_fn[0](outputs, targets)


class ModelCaller:
    """Calls a model with other parameters in it, and leaves it as it was.

    Every call gets the parameters that were asked for and buffers as they were when the caller was made; attributes
    that forward() sets, such as caches and counters, are put back after every call where the first call changed any.

    Args:
        model: the user's module, which is never copied and never changed.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        device: where the model is evaluated; parameters and buffers that are elsewhere are copied there once.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFunction, device: torch.device) -> None:
        self._model, self._device = model, device
        self._objective = _Objective(model, loss_fn)
        # Buffers are copied even on the same device: another use of the model may update its own in place.
        self._parameters = {name: p.detach().to(device) for name, p in model.named_parameters()}
        self._buffers = {name: b.detach().to(device, copy=True) for name, b in model.named_buffers()}
        # What the first call changes is put back after every call; where that is nothing, no other call is watched.
        self._changes: _Changes | None = None
        self._guard: ModuleGuard | None = None

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The model's own parameters by name, on the device."""
        return self._parameters

    def loss(self, named: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Any:
        """The loss with `named` in place of the parameters of these names, as the loss function returns it.

        Args:
            named: tensors in place of the parameters of these names.
            inputs: a batch of examples. [n, ...]
            targets: their targets. [n, ...]
        """
        return self._call(named, inputs, targets)

    def outputs(self, named: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Any:
        """The model's outputs with `named` in place of the parameters of these names, without the loss.

        Args:
            named: tensors in place of the parameters of these names.
            inputs: a batch of examples. [n, ...]
            targets: their targets, which are passed along and not read. [n, ...]
        """
        return self._call(named, inputs, targets, wants_outputs=True)

    def loss_of_outputs(self, named: Mapping[str, Tensor], outputs: Tensor, targets: Tensor) -> Any:
        """The loss of outputs that are already known, as the loss function returns it.

        Args:
            named: tensors in place of the parameters of these names, for a loss that reads the parameters.
            outputs: the model's outputs on a batch. [n, ...]
            targets: the targets of that batch. [n, ...]
        """
        return self._call(named, None, targets, outputs=outputs)

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Sets eval mode without gradients; flags, attributes and torch's random state are restored on the way out."""
        # fork_rng without a list would save the state of every GPU of the machine.
        devices = [self._device] if self._device.type == "cuda" else []
        guard = ModuleGuard(self._model)
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            self._model.eval()
            if self._changes is None or self._changes.attributes:
                self._guard = ModuleGuard(self._model)
            try:
                yield
            finally:
                self._guard = None
                guard.restore()

    def _call(self, named: Mapping[str, Tensor], inputs: Any, targets: Any, **how: Any) -> Any:
        known = self._changes
        # A clone inside the call is what lets buffers change in place under vmap and grad as well.
        buffers = {
            name: buffer.clone() if known is None or name in known.buffers else buffer
            for name, buffer in self._buffers.items()
        }
        # A change in place raises torch's version counter: the first call shows which buffers are cloned from then on.
        versions = {name: buffer._version for name, buffer in buffers.items()} if known is None else {}
        replaced = {_PREFIX + name: tensor for name, tensor in {**buffers, **self._parameters, **named}.items()}
        has_changed = False
        try:
            result = functional_call(self._objective, replaced, (inputs, targets), how)
        finally:  # also after an error: the user may catch it and go on with the model
            if self._guard is not None:
                has_changed = self._guard.restore()
        if known is None:
            moved = frozenset(name for name, version in versions.items() if buffers[name]._version > version)
            self._changes = _Changes(moved, has_changed)
        return result


@dataclass(frozen=True)
class _Changes:
    """What a call of the model changes: buffers in place, by name, and whether any attribute of its modules."""

    buffers: frozenset[str]
    attributes: bool
