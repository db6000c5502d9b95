"""A loss is recognized by what it computes, and everything else about it is left alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.inputs.known_loss import known_loss

WEIGHT = torch.tensor([1.0, 2.0, 3.0])


def cross_entropy_with_a_name(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.CrossEntropyLoss(weight=WEIGHT)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.inner(outputs, targets)


class Derived(nn.CrossEntropyLoss):
    pass


RECOGNIZED: list[tuple[Callable[..., Any], str, list[str]]] = [
    (F.cross_entropy, "cross_entropy", []),
    (nn.MSELoss(), "mse", []),
    (lambda o, t: F.cross_entropy(o, t), "cross_entropy", []),
    (lambda o, t: F.cross_entropy(input=o, target=t, reduction="mean"), "cross_entropy", []),
    (lambda o, t: nn.functional.mse_loss(o, t), "mse", []),
    (lambda o, t: F.binary_cross_entropy_with_logits(o, t), "bce_with_logits", []),
    (cross_entropy_with_a_name, "cross_entropy", []),
    (functools.partial(cross_entropy_with_a_name), "cross_entropy", []),
    (functools.partial(F.cross_entropy, ignore_index=-1), "cross_entropy", ["ignore_index"]),
    (lambda o, t: F.cross_entropy(o, t, label_smoothing=0.1), "cross_entropy", ["label_smoothing"]),
    (lambda o, t: F.cross_entropy(o, t, WEIGHT), "cross_entropy", ["weight"]),
    (Wrapped(), "cross_entropy", ["weight"]),
    (Derived(), "cross_entropy", []),
]


@pytest.mark.parametrize(("loss_fn", "name", "changed"), RECOGNIZED)
def test_a_function_that_only_calls_a_known_loss_is_that_loss(
    loss_fn: Callable[..., Any], name: str, changed: list[str]
) -> None:
    found = known_loss(loss_fn)
    assert found is not None
    assert (found.name, found.changed) == (name, changed)


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda o, t: 2.0 * F.cross_entropy(o, t),
        lambda o, t: F.mse_loss(t, o),
        lambda o, t: F.mse_loss(o.tanh(), t),
        lambda o, t: F.mse_loss(o, t) if o.sum() > 0 else F.l1_loss(o, t),
        lambda o, t: F.cross_entropy(o, t, weight=t.float()),
        lambda o, t, extra=1.0: F.mse_loss(o, t),
        F.poisson_nll_loss,
        functools.partial(F.mse_loss, torch.zeros(3)),
    ],
)
def test_everything_else_is_not_known(loss_fn: Callable[..., Any]) -> None:
    assert known_loss(loss_fn) is None


def test_tracing_leaves_states_as_they_are() -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            self.calls += 1
            return F.mse_loss(outputs + torch.rand(()), targets)

    loss, state = Counting(), torch.get_rng_state()
    assert known_loss(loss) is None
    assert loss.calls == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_lambda_is_as_fast_and_as_exact_as_the_function(trained: nn.Module, blobs: tuple[Tensor, Tensor]) -> None:
    plain = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.5, 20)
    wrapped = bv.estimate_volume(trained, lambda o, t: F.cross_entropy(o, t), blobs, 0.5, 20)
    assert wrapped.backend == plain.backend == "native"
    assert wrapped.log_volume == plain.log_volume


def test_class_weights_inside_a_lambda_count_as_those_of_the_loss(
    trained: nn.Module, blobs: tuple[Tensor, Tensor]
) -> None:
    """Batches of a weighted mean are weighted by their classes, whoever passes the weights."""
    losses = [
        bv.Landscape(trained, loss_fn, blobs, batch_size=7).losses()
        for loss_fn in (nn.CrossEntropyLoss(weight=WEIGHT), lambda o, t: F.cross_entropy(o, t, weight=WEIGHT))
    ]
    assert torch.equal(*losses)
