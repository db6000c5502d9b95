"""Reads a module as a multilayer perceptron, or names the layer that is not part of one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..inputs.fields import Fields, Inputs
from ..inputs.half import measured_dtype, widened
from ..inputs.known_loss import known_loss

# In eval mode dropout is the identity; functional dropout, whose flag fx would freeze, is not accepted.
_IDENTITIES = (nn.Identity, nn.Dropout, nn.AlphaDropout)
_ACTIVATION_MODULES: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.GELU: "gelu"}
_ACTIVATION_FUNCTIONS: dict[Any, str] = {
    torch.relu: "relu",
    F.relu: "relu",
    torch.tanh: "tanh",
    F.tanh: "tanh",
    F.gelu: "gelu",
    "relu": "relu",
    "tanh": "tanh",
}
_LOSSES = ("cross_entropy", "bce_with_logits", "mse")


class Unsupported(ValueError):
    """A model, loss or data that the backend does not compute; the message names the part."""


@dataclass(frozen=True)
class LinearLayer:
    """The map x -> activation(weight x + bias).

    Attributes:
        weight: the weight matrix. [outputs, inputs] float32
        bias: the bias, or None. [outputs] float32
        weight_name, bias_name: names in `named_parameters`, where tied weights have the first of their names.
        activation: "identity", "relu", "tanh" or "gelu".
    """

    weight: Tensor
    bias: Tensor | None
    weight_name: str
    bias_name: str | None
    activation: str


@dataclass(frozen=True)
class Mlp:
    """A perceptron: linear layers with activations, on flat inputs.

    Attributes:
        layers: the layers, from the first to the last.
        squeezes: whether the output drops a last dimension of one.
    """

    layers: tuple[LinearLayer, ...]
    squeezes: bool

    @property
    def num_outputs(self) -> int:
        """The width of the last layer."""
        return int(self.layers[-1].weight.shape[0])


def read_mlp(model: nn.Module, inputs: Inputs) -> Mlp:
    """The perceptron that `model` computes in eval mode, for inputs of this shape and type.

    Raises:
        Unsupported: the model is not a perceptron.
    """
    if isinstance(inputs, Fields):
        raise Unsupported(f"the model takes {'a dictionary' if inputs.is_named else 'several inputs'}")
    if model._forward_hooks or model._forward_pre_hooks:
        raise Unsupported("the model has a forward hook")
    try:
        # Tracing runs the user's forward: on a copy, in the mode that is measured, with random numbers of its own.
        with torch.random.fork_rng(devices=[]):
            traced = copy.deepcopy(model).eval()
            graph = fx.Tracer().trace(traced)
    except Exception as error:  # noqa: BLE001  (fx lets through whatever the user's forward raises on proxies)
        raise Unsupported(
            f"the forward pass cannot be traced ({type(error).__name__}: {error})".split("\n")[0]
        ) from None
    reader = _Reader(model, traced, inputs)
    for node in graph.nodes:
        reader.take(node)
    return reader.finish()


def read_loss(loss_fn: Callable[[Tensor, Tensor], Tensor], targets: Inputs, mlp: Mlp) -> str:
    """The name of the loss: "cross_entropy", "bce_with_logits" or "mse".

    Args:
        loss_fn: the user's loss.
        targets: the targets of all examples. [N, ...]
        mlp: the perceptron whose outputs it takes.

    Raises:
        Unsupported: the loss is another one, or has options or targets that change what it computes.
    """
    if isinstance(targets, Fields):
        raise Unsupported("the targets are in a dictionary")
    known = known_loss(loss_fn)
    described = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    if known is None or known.name not in _LOSSES:
        raise Unsupported(f"the loss {described!r} is not cross_entropy, binary_cross_entropy_with_logits or mse_loss")
    if known.changed:
        raise Unsupported(f"the loss {described} has the option {known.changed[0]!r} set")
    name = known.name
    if name == "cross_entropy":
        if targets.dtype != torch.int64 or targets.ndim != 1:
            raise Unsupported(
                f"cross-entropy targets must be int64 labels [N], got {targets.dtype} {list(targets.shape)}"
            )
        if int(targets.min()) < 0 or int(targets.max()) >= mlp.num_outputs:
            raise Unsupported("some labels are not classes of the model (ignored examples are not supported)")
        return name
    expected = (len(targets),) if mlp.squeezes else (len(targets), mlp.num_outputs)
    if targets.dtype != torch.float32 or tuple(targets.shape) != expected:
        raise Unsupported(
            f"targets must be float32 {list(expected)} as the outputs, got {targets.dtype} {list(targets.shape)}"
        )
    if name == "bce_with_logits" and (float(targets.min()) < 0.0 or float(targets.max()) > 1.0):
        raise Unsupported("some targets are not between 0 and 1, so that losses may be negative")
    return name


class _Reader:
    """Walks the traced operations, which must form one chain from input to output."""

    def __init__(self, model: nn.Module, traced: nn.Module, inputs: Tensor) -> None:
        # Tracing may add modules to the copy; those of the model are the ones that hold the weights.
        self._modules = {**dict(traced.named_modules()), **dict(model.named_modules())}
        self._names = {id(p): name for name, p in model.named_parameters()}
        self._inputs = inputs
        self._layers: list[LinearLayer] = []
        self._head: fx.Node | None = None  # what the chain has computed so far
        self._is_flat = inputs.ndim == 2
        self._squeezes = False

    def take(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if self._head is not None:
                raise Unsupported(f"forward() takes more than one argument ({node.target})")
            self._head = node
        elif node.op == "output":
            if node.args[0] is not self._head:
                raise Unsupported("forward() returns something other than the last layer's output")
        elif node.op == "call_module":
            self._expect_chain(node)
            self._take_module(node, self._modules[str(node.target)])
        elif not _is_shape_query(node):
            self._expect_chain(node)
            self._take_call(node)

    def finish(self) -> Mlp:
        if not self._layers:
            raise Unsupported("the model has no Linear layer")
        if self._inputs.dtype != torch.float32:
            raise Unsupported(f"the inputs are {self._inputs.dtype}, and it computes in float32")
        features = self._inputs.flatten(1).shape[1]
        if features != self._layers[0].weight.shape[1]:
            raise Unsupported(f"the inputs have {features} features, the first layer {self._layers[0].weight.shape[1]}")
        return Mlp(tuple(self._layers), self._squeezes)

    def _take_module(self, node: fx.Node, module: nn.Module) -> None:
        kind = type(module)
        described = f"layer {str(node.target)!r} ({kind.__name__})"
        if module._forward_hooks or module._forward_pre_hooks:
            raise Unsupported(f"{described} has a forward hook")
        if isinstance(module, nn.Linear) and kind is nn.Linear:
            self._add_linear(described, module)
        elif isinstance(module, nn.Flatten) and module.start_dim == 1 and module.end_dim == -1:
            self._flatten(described)
        elif kind in _ACTIVATION_MODULES:
            if getattr(module, "approximate", "none") != "none":
                raise Unsupported(f"{described} is approximate; only the exact form is supported")
            self._activate(described, _ACTIVATION_MODULES[kind])
        elif kind not in _IDENTITIES:
            raise Unsupported(f"{described} is not Linear, Flatten, ReLU, Tanh, GELU or Identity")
        self._head = node

    def _take_call(self, node: fx.Node) -> None:
        target, arguments = node.target, node.args[1:]
        described = f"operation {getattr(target, '__name__', target)!r}"
        if target in _ACTIVATION_FUNCTIONS and not arguments and set(node.kwargs) <= {"inplace"}:
            self._activate(described, _ACTIVATION_FUNCTIONS[target])
        elif _is_flatten(target, arguments) and not node.kwargs:
            self._flatten(described)
        elif target in (torch.squeeze, "squeeze") and arguments in ((-1,), (1,)) and self._layers:
            self._squeeze(described)
        else:
            raise Unsupported(f"{described} is not one that it computes")
        self._head = node

    def _expect_chain(self, node: fx.Node) -> None:
        if self._squeezes or not node.args or node.args[0] is not self._head:
            raise Unsupported(f"{node.name!r} does not continue a single chain of layers")

    def _add_linear(self, described: str, module: nn.Linear) -> None:
        if not self._is_flat:
            raise Unsupported(f"{described} acts on inputs of shape {list(self._inputs.shape)} that are not flattened")
        for parameter in module.parameters():
            if measured_dtype(parameter.dtype) != torch.float32:
                raise Unsupported(f"{described} is {parameter.dtype}, and it computes in float32")
        bias: Tensor | None = module.bias
        self._layers.append(
            LinearLayer(
                weight=widened(module.weight),
                bias=None if bias is None else widened(bias),
                weight_name=self._names[id(module.weight)],
                bias_name=None if bias is None else self._names[id(bias)],
                activation="identity",
            )
        )

    def _activate(self, described: str, activation: str) -> None:
        if not self._layers:
            raise Unsupported(f"{described} comes before the first Linear layer")
        last = self._layers[-1]
        if last.activation != "identity":
            raise Unsupported(f"{described} follows another activation")
        self._layers[-1] = LinearLayer(last.weight, last.bias, last.weight_name, last.bias_name, activation)

    def _flatten(self, described: str) -> None:
        if self._layers:
            raise Unsupported(f"{described} comes after a Linear layer")
        self._is_flat = True

    def _squeeze(self, described: str) -> None:
        if self._layers[-1].weight.shape[0] != 1:
            raise Unsupported(f"{described} acts on more than one output")
        self._squeezes = True


def _is_flatten(target: Any, arguments: tuple[Any, ...]) -> bool:
    if target in (torch.flatten, "flatten"):
        return arguments == (1,)
    return target in ("view", "reshape") and len(arguments) == 2 and not isinstance(arguments[0], tuple)


def _is_shape_query(node: fx.Node) -> bool:
    """Whether a node is x.size(0), len(x) or x.shape[0], the argument of a view and not part of the chain."""
    name = getattr(node.target, "__name__", node.target)
    return name in ("size", "getattr", "getitem", "len")
