"""Losses, with which a program ends: the losses of examples, and their weights in the mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..builder import Builder
from ..program import Operand
from ..values import NotAView, Value, factors_of_example
from .registry import Call, rule

_MEAN = 1  # torch's number of the reduction
_KINDS = ("cross_entropy", "bce_with_logits", "mse", "l1", "huber")


@dataclass(frozen=True)
class LoweredLoss:
    """The loss of a program.

    Attributes:
        targets: the targets, which are data.
        weights: from the targets of all examples [N, ...], the weight of each in the mean [N] float64, and whether no
            example's loss can be negative.
    """

    targets: Value
    weights: Callable[[Tensor], tuple[Tensor, bool]]


@rule("cross_entropy_loss.default", "nll_loss.default", "nll_loss_nd.default", "nll_loss2d.default")
def _cross_entropy(b: Builder, call: Call) -> LoweredLoss:
    logits, targets = call.value(b, "self"), call["target"]
    call.expect(call["reduction"] == _MEAN, "is not a mean")
    call.expect(isinstance(targets, Value) and targets.is_data, "has targets that are not data")
    call.expect(not call.tensor("target").is_floating_point(), "has probabilities as targets")
    by_class = call["weight"]
    call.expect(by_class is None or isinstance(by_class, Tensor), "has class weights that are not constants")
    smoothing = float(call.given.get("label_smoothing", 0.0))
    call.expect(by_class is None or smoothing == 0.0, "has class weights and label smoothing together")
    if "nll" in call.name:
        logits = _of_log_softmax(b, call, logits)
    if len(logits.dims) > 2:  # classes come second, positions after them
        logits = logits.permute([0, *range(2, len(logits.dims)), 1])
    call.expect(len(logits.dims) >= 2, "has no dimension of classes")
    ignored = float(call["ignore_index"])
    terms = _terms(b, logits, 1)
    weights = None if by_class is None else Operand.of(b.constant(by_class))
    b.emit(
        "loss", [terms, _terms(b, targets, 0), weights], _nowhere(logits), [_KINDS.index("cross_entropy")],
        [ignored, smoothing],
    )  # fmt: skip

    def weigh(labels: Tensor) -> tuple[Tensor, bool]:
        counts = labels != ignored
        found = counts.double()
        if by_class is not None:
            found = found * by_class.double()[torch.where(counts, labels, 0).long()]
        call.expect(bool((labels[counts] >= 0).all()), "has labels below zero")
        call.expect(bool((labels[counts] < logits.shape[-1]).all()), "has labels beyond its classes")
        return found.reshape(len(labels), -1).sum(dim=1), by_class is None or bool((by_class >= 0).all())

    return LoweredLoss(targets, weigh)


def _of_log_softmax(b: Builder, call: Call, x: Value) -> Value:
    """What a log-softmax was taken of: with it, the negative log-likelihood is a cross-entropy."""
    made = [i for i in b.instructions if i.output.value.buffer is x.buffer]
    call.expect(len(made) == 1 and made[0].op == "softmax" and made[0].sizes == [1], "is not of a log-softmax")
    source = made[0].inputs[0]
    call.expect(source is not None and call.tensor("self").ndim == 2, "is not of a log-softmax of rows")
    return source.value if source is not None else x


@rule("mse_loss.default", "l1_loss.default", "huber_loss.default", "smooth_l1_loss.default")
def _distance(b: Builder, call: Call) -> LoweredLoss:
    kind = call.name.split(".")[1].removesuffix("_loss")
    numbers = []
    if kind == "huber":
        numbers = [float(call["delta"]), 1.0]
    elif kind == "smooth_l1":
        beta = float(call["beta"])
        kind, numbers = ("l1", []) if beta == 0.0 else ("huber", [beta, 1.0 / beta])
    return _elementwise(b, call, kind, numbers, lambda _: True)


@rule("binary_cross_entropy_with_logits.default")
def _binary_cross_entropy(b: Builder, call: Call) -> LoweredLoss:
    call.expect(call["weight"] is None and call["pos_weight"] is None, "has weights")
    return _elementwise(b, call, "bce_with_logits", [], lambda t: bool(((t >= 0) & (t <= 1)).all()))


def _elementwise(
    b: Builder, call: Call, kind: str, numbers: list[float], is_nonnegative: Callable[[Tensor], bool]
) -> LoweredLoss:
    outputs, targets = call.value(b, "self"), call["target"]
    call.expect(call["reduction"] == _MEAN, "is not a mean")
    call.expect(isinstance(targets, Value) and targets.is_data, "has targets that are not data")
    call.expect(outputs.shape == targets.shape, "has targets of another shape than the outputs")
    b.emit(
        "loss", [_terms(b, outputs, 0), _terms(b, targets, 0), None], _nowhere(outputs), [_KINDS.index(kind)], numbers
    )

    def weigh(wanted: Tensor) -> tuple[Tensor, bool]:
        each = wanted[0].numel() if len(wanted) else 1
        return torch.full((len(wanted),), float(each), dtype=torch.float64), is_nonnegative(wanted)

    return LoweredLoss(targets, weigh)


def _terms(b: Builder, value: Value, inner: int) -> Operand:
    """The terms of an example in one extent, and the classes, if there are any, side by side in another."""
    outer = len(value.dims) - inner
    first, last = factors_of_example(value.dims[:outer]), factors_of_example(value.dims[outer:])
    is_even = len(first) <= 1 and (not inner or not last or (len(last) == 1 and last[0][1] == 1))
    if not is_even:
        return _terms(b, b.copied(value), inner)
    return Operand(value, [first[0] if first else (1, 0), *([last[0] if last else (1, 1)] if inner else [])])


def _nowhere(outputs: Value) -> Operand:
    """The output of an instruction whose result is not a value: what it reads stands for when it is run."""
    if not outputs.has_examples:
        raise NotAView("a loss that does not depend on the examples")
    return Operand(outputs, [])
