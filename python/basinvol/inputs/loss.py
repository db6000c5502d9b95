"""The user's loss function, and the weight of each example in its mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .fields import Inputs, loss_in_outputs
from .known_loss import KnownLoss, known_loss
from .row_loss import CLASS_LOSSES, row_loss, row_weights

LossFunction = Callable[[Any, Any], Tensor]

_IGNORED = -100  # torch's default for labels that do not count


def read_loss(loss_fn: object) -> LossFunction:
    """The loss function, once it is known that it can be called with outputs and targets; for None, the model's own.

    Raises:
        ValueError: it cannot be called so, or its own `reduction` says that it is not a mean.
    """
    if loss_fn is None:
        return loss_in_outputs
    if isinstance(loss_fn, type):
        raise ValueError(f"`loss_fn` is the class {loss_fn.__name__} and not an instance; pass {loss_fn.__name__}().")
    if not callable(loss_fn):
        raise ValueError(
            f"`loss_fn` must be a function loss_fn(outputs, targets) -> mean loss, got {loss_fn!r} of type "
            f"{type(loss_fn).__name__}; for example torch.nn.functional.cross_entropy."
        )
    _check_signature(loss_fn)
    known = known_loss(loss_fn)
    reduction = getattr(loss_fn, "reduction", "mean") if known is None else known.options["reduction"]
    if reduction == "sum":
        raise ValueError("the loss is not a mean over examples: `loss_fn` has reduction='sum'; use reduction='mean'.")
    return loss_fn


def is_class_loss(loss_fn: LossFunction) -> bool:
    """Whether the loss is torch's cross-entropy or negative log-likelihood, whose targets may be labels."""
    return _class_loss(loss_fn) is not None


def example_weights(loss_fn: LossFunction, targets: Inputs) -> Tensor | None:
    """The weight of each example in the mean of torch's class losses; None where all weigh the same. [N] float64

    It is a label's class weight, 0 for a label that is ignored, summed over the positions of an example: torch divides
    the mean of a batch by their sum, and so must the mean of several batches be.

    Args:
        loss_fn: the loss.
        targets: the targets. [N, ...]

    Raises:
        ValueError: no label counts.
    """
    by_row = row_loss(loss_fn)
    if by_row is None:
        return None
    try:
        weights = row_weights(by_row, targets)
    except Exception:  # noqa: BLE001  (targets that do not fit: the first call of the loss says so in a sentence)
        return None
    if weights is None:
        return None
    if not bool(weights.sum() > 0):
        ignored = ignored_label(loss_fn)
        raise ValueError(f"no target in `data` counts: all labels are ignored ({ignored}) or of classes of weight 0.")
    return None if bool((weights == weights[0]).all()) else weights


def ignored_label(loss_fn: LossFunction) -> int:
    """The label that torch's class losses ignore."""
    known = _class_loss(loss_fn)
    return _IGNORED if known is None else int(known.options["ignore_index"])


def _class_loss(loss_fn: LossFunction) -> KnownLoss | None:
    known = known_loss(loss_fn)
    return known if known is not None and known.name in CLASS_LOSSES else None


def _check_signature(loss_fn: Callable[..., Any]) -> None:
    target = loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # builtins do not say
        return
    try:
        signature.bind(None, None)
    except TypeError:
        wanted = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        raise ValueError(
            f"`loss_fn` must take (outputs, targets), and this one takes ({', '.join(wanted)}); bind the others, for "
            "example with functools.partial."
        ) from None
