"""What a loss function computes, found by tracing it: a lambda around torch's cross-entropy is just that."""

from __future__ import annotations

import copy
import functools
import inspect
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

# The losses of torch that are looked for, as a function and as a module, by their common name.
KNOWN_LOSSES: dict[Any, str] = {
    F.cross_entropy: "cross_entropy",
    nn.CrossEntropyLoss: "cross_entropy",
    F.nll_loss: "nll_loss",
    nn.NLLLoss: "nll_loss",
    F.binary_cross_entropy_with_logits: "bce_with_logits",
    nn.BCEWithLogitsLoss: "bce_with_logits",
    F.mse_loss: "mse",
    nn.MSELoss: "mse",
    F.l1_loss: "l1",
    nn.L1Loss: "l1",
    F.smooth_l1_loss: "smooth_l1",
    nn.SmoothL1Loss: "smooth_l1",
    F.huber_loss: "huber",
    nn.HuberLoss: "huber",
}
# Options that change what a loss computes, with the values at which they do not.
_DEFAULTS = {
    "weight": None,
    "pos_weight": None,
    "label_smoothing": 0.0,
    "reduction": "mean",
    "ignore_index": -100,
    "beta": 1.0,
    "delta": 1.0,
    "size_average": None,
    "reduce": None,
}


class KnownLoss:
    """One of torch's losses, with its options.

    Attributes:
        name: a value of `KNOWN_LOSSES`.
        options: the options by name, those that were not given included.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self.options = {**_DEFAULTS, **options}

    @property
    def changed(self) -> list[str]:
        """The names of options that are not at their defaults."""
        return [
            name
            for name, default in _DEFAULTS.items()
            if self.options[name] is not default
            and (isinstance(self.options[name], torch.Tensor) or self.options[name] != default)
        ]


def known_loss(loss_fn: Callable[..., Any]) -> KnownLoss | None:
    """The loss of torch that `loss_fn` is, or calls and does nothing else; None for every other function.

    A function, method or module of the user is traced with symbols in place of outputs and targets.
    """
    if isinstance(loss_fn, functools.partial) and not loss_fn.args:
        inner = known_loss(loss_fn.func)
        return None if inner is None or set(loss_fn.keywords) - set(_DEFAULTS) else _with(inner, loss_fn.keywords)
    try:
        name = KNOWN_LOSSES.get(type(loss_fn) if isinstance(loss_fn, nn.Module) else loss_fn)
    except TypeError:  # not hashable
        return None
    if name is None:
        return _traced_once(loss_fn)
    return KnownLoss(name, _options_of(loss_fn) if isinstance(loss_fn, nn.Module) else {})


def _options_of(loss: nn.Module) -> dict[str, Any]:
    return {name: getattr(loss, name) for name in _DEFAULTS if hasattr(loss, name)}


def _with(loss: KnownLoss, options: dict[str, Any]) -> KnownLoss:
    return KnownLoss(loss.name, {**loss.options, **options})


# By function: tracing calls the user's code, which may be seen, and need not be seen again.
_seen: weakref.WeakKeyDictionary[Callable[..., Any], KnownLoss | None] = weakref.WeakKeyDictionary()


def _traced_once(loss_fn: Callable[..., Any]) -> KnownLoss | None:
    if isinstance(loss_fn, nn.Module):  # whose options may be set anew
        return _traced(loss_fn)
    try:
        if loss_fn not in _seen:
            _seen[loss_fn] = _traced(loss_fn)
        return _seen[loss_fn]
    except TypeError:  # cannot be a key
        return _traced(loss_fn)


def _traced(loss_fn: Callable[..., Any]) -> KnownLoss | None:
    """The loss that the function is a call of, with its two arguments as they are and in this order."""
    call = traced_call(loss_fn)
    if call is None or call.outputs_node is not call.placeholders[0] or call.targets_node is not call.placeholders[1]:
        return None
    return call.loss


@dataclass(frozen=True)
class TracedCall:
    """A function that ends in a call of one of torch's losses.

    Attributes:
        loss: that loss.
        root: the module that holds what the graph refers to.
        placeholders: the function's outputs and targets.
        outputs_node, targets_node: what it calls the loss with, computed from the placeholders.
    """

    loss: KnownLoss
    root: nn.Module
    placeholders: tuple[fx.Node, fx.Node]
    outputs_node: fx.Node
    targets_node: fx.Node


def traced_call(loss_fn: Callable[..., Any]) -> TracedCall | None:
    """The loss of torch with whose value the function ends, found by calling it with symbols; None if there is none."""
    tracer = fx.Tracer()
    try:
        # The user's code runs: on a copy of what may have a state, and with random numbers of its own.
        with torch.random.fork_rng(devices=[]):
            graph = tracer.trace(copy.deepcopy(loss_fn) if isinstance(loss_fn, nn.Module) else loss_fn)
    except Exception:  # noqa: BLE001  (fx lets through whatever the user's function raises on symbols)
        return None
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    call = next(node for node in graph.nodes if node.op == "output").args[0]
    if len(placeholders) != 2 or not isinstance(call, fx.Node):
        return None
    if call.op == "call_module":
        loss = known_loss(tracer.root.get_submodule(str(call.target)))
        given = dict(zip(("input", "target"), call.args, strict=False)) | dict(call.kwargs)
    elif callable(call.target) and call.target in KNOWN_LOSSES:
        loss = KnownLoss(KNOWN_LOSSES[call.target], {})
        given = dict(inspect.signature(call.target).bind(*call.args, **call.kwargs).arguments)
    else:
        return None
    outputs, targets = given.pop("input", None), given.pop("target", None)
    if loss is None or not isinstance(outputs, fx.Node) or not isinstance(targets, fx.Node):
        return None
    try:
        options = {name: _constant(tracer.root, value) for name, value in given.items()}
    except ValueError:
        return None
    first, second = placeholders
    return TracedCall(_with(loss, options), tracer.root, (first, second), outputs, targets)


def _constant(root: nn.Module, value: Any) -> Any:
    """What an argument of the call is, if it does not depend on outputs or targets."""
    if not isinstance(value, fx.Node):
        return value
    if value.op != "get_attr":
        raise ValueError("not a constant")
    return functools.reduce(getattr, str(value.target).split("."), root)
