"""The loss of every example: of torch's losses by their own reduction, of others by the user's declaration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from .chunks import by_chunks
from .fields import Fields, Inputs
from .known_loss import KnownLoss, TracedCall, known_loss, traced_call

# Of each loss: torch's function, and the options that it takes.
_FUNCTIONS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "cross_entropy": (F.cross_entropy, ("weight", "ignore_index", "label_smoothing")),
    "nll_loss": (F.nll_loss, ("weight", "ignore_index")),
    "bce_with_logits": (F.binary_cross_entropy_with_logits, ("weight", "pos_weight")),
    "mse": (F.mse_loss, ()),
    "l1": (F.l1_loss, ()),
    "smooth_l1": (F.smooth_l1_loss, ("beta",)),
    "huber": (F.huber_loss, ("delta",)),
}
CLASS_LOSSES = ("cross_entropy", "nll_loss")
_NEVER_NEGATIVE = ("mse", "l1", "smooth_l1", "huber")
_LOG_PROBABILITY_TOLERANCE = 1e-3


class PerExampleLoss:
    """A loss that is declared example by example, which lets a backend order, share and stop sums of it.

    >>> import basinvol as bv
    >>> hinge = bv.PerExampleLoss(lambda o, t: (1 - o[:, 0] * t).clamp(min=0), nonnegative=True)
    >>> hinge(torch.tensor([[2.0], [0.5]]), torch.ones(2))
    tensor(0.2500)

    Args:
        function: function(outputs, targets) -> the loss of each example. [n]
        nonnegative: whether no example's loss can be negative, whatever the outputs: then a sum over some examples
            that is above the cutoff proves that the mean over all is.
    """

    def __init__(self, function: Callable[[Any, Any], Tensor], nonnegative: bool = False) -> None:
        if not callable(function):
            raise ValueError(
                f"`function` must be a function of outputs and targets, got a {type(function).__name__}: {function!r}."
            )
        self.function, self.nonnegative = function, bool(nonnegative)

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        losses = self.function(outputs, targets)
        if not isinstance(losses, Tensor) or losses.ndim != 1:
            got = f"shape {list(losses.shape)}" if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
            raise ValueError(
                f"the function of a PerExampleLoss must return one loss for each example, got {got}; use "
                'reduction="none".'
            )
        return losses.mean()


class RowLoss(Protocol):
    """A loss by example: the mean is the sum of `sums` over the sum of `weights`."""

    def sums(self, outputs: Any, targets: Any, count: int) -> tuple[Tensor, int]:
        """The summed loss of each of `count` examples [count] float64, and over how many terms each sum goes."""
        ...

    def weights(self, targets: Any, count: int) -> Tensor | None:
        """The weight of each of `count` examples; None where it is the number of terms. [count] float64"""
        ...

    def is_nonnegative(self, outputs: Any, targets: Any) -> bool:
        """Whether no example's loss can be negative, to judge by some outputs and all targets."""
        ...


def row_loss(loss_fn: Callable[..., Any]) -> RowLoss | None:
    """The loss of each example, if `loss_fn` is declared so or ends in one of torch's losses; None otherwise."""
    if isinstance(loss_fn, PerExampleLoss):
        return _Declared(loss_fn)
    direct = known_loss(loss_fn)
    if direct is not None:
        return TorchRowLoss(direct) if _has_rows(direct) else None
    traced = traced_call(loss_fn)
    return TorchRowLoss(traced.loss, traced) if traced is not None and _has_rows(traced.loss) else None


def row_weights(loss: RowLoss, targets: Inputs) -> Tensor | None:
    """The weight of every example, made of a few MiB of targets at a time; see `RowLoss.weights`. [N] float64"""
    return by_chunks(targets, lambda rows, n: loss.weights(dict(rows.values) if isinstance(rows, Fields) else rows, n))


class _Declared:
    def __init__(self, loss: PerExampleLoss) -> None:
        self._loss = loss

    def sums(self, outputs: Any, targets: Any, count: int) -> tuple[Tensor, int]:
        return self._loss.function(outputs, targets).double().reshape(count), 1

    def weights(self, targets: Any, count: int) -> Tensor | None:
        return None

    def is_nonnegative(self, outputs: Any, targets: Any) -> bool:
        return self._loss.nonnegative


class TorchRowLoss:
    """One of torch's losses without its reduction, after whatever the user's function does to outputs and targets.

    Args:
        loss: which loss, with its options.
        call: the user's function, if it does more than call the loss.
    """

    def __init__(self, loss: KnownLoss, call: TracedCall | None = None) -> None:
        self.loss = loss
        self._function, names = _FUNCTIONS[loss.name]
        self._options = {name: loss.options[name] for name in names if loss.options[name] is not None}
        self._of_outputs = None if call is None else _computation(call, call.outputs_node)
        self._of_targets = None if call is None else _computation(call, call.targets_node)
        self._uses_outputs = call is not None and call.placeholders[0] in _ancestors(call.targets_node)

    def sums(self, outputs: Any, targets: Any, count: int) -> tuple[Tensor, int]:
        """See `RowLoss`."""
        given, wanted = self._prepared(outputs, targets)
        losses = self._function(given, wanted, **self._options, reduction="none").double().reshape(count, -1)
        return losses.sum(dim=1), losses.shape[1]

    def weights(self, targets: Any, count: int) -> Tensor | None:
        """See `RowLoss`. For labels it is their class weight, 0 where they are ignored, summed over an example."""
        if self._uses_outputs or self.loss.name not in CLASS_LOSSES:
            return None
        labels: Tensor = targets if self._of_targets is None else self._of_targets(None, targets)
        if labels.is_floating_point():
            return None
        counts = labels != self.loss.options["ignore_index"]
        weights, by_class = counts.double(), self.loss.options["weight"]
        if by_class is not None:
            # Labels out of range are refused elsewhere, in a sentence; here they only must not break the indexing.
            known = torch.where(counts, labels, 0).clamp(0, len(by_class) - 1)
            weights = weights * by_class.detach().double().to(labels.device)[known]
        by_example: Tensor = weights.reshape(count, -1).sum(dim=1)
        return by_example

    def is_nonnegative(self, outputs: Any, targets: Any) -> bool:
        """See `RowLoss`."""
        given, wanted = self._prepared(outputs, targets)
        name = self.loss.name
        if name == "bce_with_logits":
            return bool(((wanted >= 0) & (wanted <= 1)).all())
        if name == "cross_entropy":
            return not wanted.is_floating_point() or bool((wanted >= 0).all())
        if name == "nll_loss":  # of anything but log-probabilities it may have any sign
            sums = given.exp().sum(dim=min(1, given.ndim - 1))
            return bool(((sums - 1.0).abs() <= _LOG_PROBABILITY_TOLERANCE).all())
        return name in _NEVER_NEGATIVE

    def _prepared(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
        given = outputs if self._of_outputs is None else self._of_outputs(outputs, targets)
        return given, targets if self._of_targets is None else self._of_targets(outputs, targets)


def _has_rows(loss: KnownLoss) -> bool:
    options = loss.options
    return options["reduction"] == "mean" and options["size_average"] is None and options["reduce"] is None


def _ancestors(node: fx.Node) -> set[fx.Node]:
    """A node, and all from which it is computed."""
    found, waiting = set(), [node]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(current.all_input_nodes)
    return found


def _computation(call: TracedCall, wanted: fx.Node) -> Callable[[Any, Any], Tensor]:
    """The part of a traced function that computes one node, as a function of outputs and targets."""
    graph, needed = fx.Graph(), _ancestors(wanted)
    copies = {node: graph.placeholder(node.name) for node in call.placeholders}
    for node in wanted.graph.nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[wanted])
    return fx.GraphModule(call.root, graph)
