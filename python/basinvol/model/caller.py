"""The one place that calls the user's model and loss."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..inputs.fields import Fields, Inputs, call_model
from ..inputs.half import widened
from ..inputs.loss import LossFunction
from .default_device import users_default, with_default
from .full_precision import precise_products
from .guard import ModuleGuard

Result = TypeVar("Result")
ModelCall = Callable[[nn.Module, Inputs], Any]


class ModelCaller:
    """Calls a model with other parameters in it, and leaves it as it was.

    Every call gets the parameters that were asked for and buffers as they were when the caller was made; attributes
    that forward() sets, such as caches and counters, are put back after every call where the first call changed any.
    The parameters stay in place while the loss runs: a loss that reads `model.parameters()`, as weight decay inside the
    loss does, sees the perturbed ones.

    Args:
        model: the user's module, which is never copied and never changed.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        device: where the model is evaluated; parameters and buffers that are elsewhere, or in half precision, are
            copied once.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFunction, device: torch.device) -> None:
        self._model, self._loss_fn, self._device = model, loss_fn, device
        # Buffers are copied even on the same device: another use of the model may update its own in place.
        self._parameters = {name: widened(p.detach().to(device)) for name, p in model.named_parameters()}
        self._buffers = {name: widened(b.detach().to(device, copy=True)) for name, b in model.named_buffers()}
        self._places = _places(model)
        self._default_device = users_default()
        self._call_model: ModelCall = call_model
        # What the first call changes is put back after every call; where that is nothing, no other call is watched.
        self._changes: _Changes | None = None
        self._guard: ModuleGuard | None = None
        self._changes_tensors = False
        # Data are the user's, and a file that is mapped for reading cannot be written to at all.
        self._changes_inputs: bool | None = None

    def through(self, call: ModelCall) -> ModelCaller:
        """Returns a caller of the same model, with the same parameters and buffers, whose calls go through a function.

        Args:
            call: call(model, inputs) -> the model's outputs.
        """
        other = copy.copy(self)
        other._call_model = call
        other._changes, other._guard, other._changes_tensors = None, None, False
        return other

    @property
    def changes_tensors(self) -> bool:
        """Whether a call so far has changed a tensor in place that is an attribute, neither parameter nor buffer."""
        return self._changes_tensors

    def attribute_tensors(self) -> list[Tensor]:
        """The tensors that are attributes of the model's modules, neither parameters nor buffers."""
        return [value for part in self._model.modules() for value in vars(part).values() if isinstance(value, Tensor)]

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The model's own parameters by name, on the device."""
        return self._parameters

    def loss(self, named: Mapping[str, Tensor], inputs: Inputs, targets: Inputs) -> Any:
        """The loss with `named` in place of the parameters of these names, as the loss function returns it.

        Args:
            named: tensors in place of the parameters of these names.
            inputs: a batch of examples. [n, ...]
            targets: their targets. [n, ...]
        """
        return self.apply(named, inputs, lambda outputs: self._loss_fn(outputs, given_targets(targets)))

    def apply(self, named: Mapping[str, Tensor], inputs: Inputs, function: Callable[[Any], Result]) -> Result:
        """What a function makes of the model's outputs, while other parameters are in place.

        Args:
            named: tensors in place of the parameters of these names.
            inputs: a batch of examples. [n, ...]
            function: what to make of the outputs.
        """
        return self._call(named, lambda: function(self._called(inputs)))

    def _called(self, inputs: Inputs) -> Any:
        """Calls the model; on a copy of the inputs if it changes them in place, as the first call shows."""
        if self._changes_inputs is False:
            return self._call_model(self._model, inputs)
        given = inputs.clone()
        before = _versions(given)
        outputs = self._call_model(self._model, given)
        self._changes_inputs = self._changes_inputs or _versions(given) != before
        return outputs

    def outputs(self, named: Mapping[str, Tensor], inputs: Inputs) -> Any:
        """The model's outputs on inputs [n, ...], with `named` in place of the parameters of these names."""
        return self.apply(named, inputs, lambda outputs: outputs)

    def loss_of_outputs(self, named: Mapping[str, Tensor], outputs: Any, targets: Inputs) -> Any:
        """The loss of outputs that are already known, as the loss function returns it.

        Args:
            named: tensors in place of the parameters of these names, for a loss that reads the parameters.
            outputs: the model's outputs on a batch. [n, ...]
            targets: the targets of that batch. [n, ...]
        """
        return self._call(named, lambda: self._loss_fn(outputs, given_targets(targets)))

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Sets eval mode without gradients; flags, attributes and torch's random state are restored on the way out."""
        # fork_rng without a list would save the state of every GPU of the machine.
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self.evaluating():
            yield

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Does as `measuring`, but lets torch's random state alone, which belongs to all threads."""
        guard = ModuleGuard(self._model)
        with torch.no_grad(), precise_products(self._device):
            self._model.eval()
            if self._changes is None or self._changes.attributes:
                self._guard = ModuleGuard(self._model)
            try:
                yield
            finally:
                self._guard = None
                guard.restore()

    def _call(self, named: Mapping[str, Tensor], work: Callable[[], Result]) -> Result:
        known = self._changes
        # A clone inside the call is what lets buffers change in place under vmap and grad as well.
        buffers = {
            name: buffer.clone() if known is None or name in known.buffers else buffer
            for name, buffer in self._buffers.items()
        }
        # Recurrent layers on a CUDA device move their parameters into one block of memory. What they move is an alias.
        kept = {
            name: p if self._device.type == "cpu" else p.detach()
            for name, p in self._parameters.items()
            if name not in named
        }
        # A change in place raises torch's version counter: the first call shows which buffers are cloned from then on.
        versions = {name: buffer._version for name, buffer in buffers.items()} if known is None else {}
        has_changed = False
        try:
            with _replaced(self._places, {**buffers, **kept, **named}), with_default(self._default_device):
                result = work()
        finally:  # also after an error: the user may catch it and go on with the model
            if self._guard is not None:
                has_changed = self._guard.restore()
                self._changes_tensors |= self._guard.has_restored_tensors
        if known is None:
            moved = frozenset(name for name, version in versions.items() if buffers[name]._version > version)
            self._changes = _Changes(moved, has_changed)
        return result


def _versions(inputs: Inputs) -> list[int]:
    """Numbers that a change in place raises; torch keeps none of what is made in inference mode."""
    parts = inputs.values.values() if isinstance(inputs, Fields) else [inputs]
    return [part._version for part in parts if not part.is_inference()]


def given_targets(targets: Inputs) -> Any:
    """The targets as the user's loss takes them: a batch of fields is the dictionary that the user passed."""
    return dict(targets.values) if isinstance(targets, Fields) else targets


@dataclass(frozen=True)
class _Changes:
    """What a call of the model changes: buffers in place, by name, and whether any attribute of its modules."""

    buffers: frozenset[str]
    attributes: bool


@dataclass(frozen=True)
class _Place:
    """Where one tensor is held: a module's dictionary of parameters or buffers, and its key there."""

    holder: dict[str, Tensor | None]
    key: str
    name: str


def _places(model: nn.Module) -> list[_Place]:
    """Every place of every parameter and buffer; tied ones have several, under the first of their names."""
    first_names: dict[int, str] = {}
    places = []
    for prefix, module in model.named_modules():
        for holder in (module._parameters, module._buffers):
            for key, tensor in holder.items():
                if tensor is not None:
                    name = first_names.setdefault(id(tensor), f"{prefix}.{key}" if prefix else key)
                    places.append(_Place(holder, key, name))
    return places


@contextlib.contextmanager
def _replaced(places: list[_Place], tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Other tensors in all places; the module's own are back at the end, whatever happened.

    torch.func.functional_call does the same, and looks every name up in the tree of modules again: for a small network
    that takes longer than its forward pass.
    """
    own = [place.holder[place.key] for place in places]
    try:
        for place in places:
            place.holder[place.key] = tensors[place.name]
        yield
    finally:
        for place, tensor in zip(places, own, strict=True):
            place.holder[place.key] = tensor
