"""What must hold of a model, its loss and its data before anything is measured, looked at once at the center."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..inputs.chunks import chunks
from ..inputs.fields import Fields, Inputs, token_weights
from ..inputs.half import HALF
from ..inputs.loss import LossFunction, ignored_label, is_class_loss

# Two evaluations at the same parameters may differ by this much, relatively: the order of float32 sums on a GPU.
_DETERMINISM_RTOL = 1e-6
# How far a mean over examples may be from the weighted mean of its halves: float32 rounding, with room.
_MEAN_RTOL = 1e-4
# Rounding of a loss, in units of the last place of its outputs: a network that fits exactly has no other loss.
_ROUNDING = 8.0
_MOST_ROWS = 512  # examples that are used by the checks on a part of the data
_SHRINKING = 0.7  # factor on the weights that gives a network that fits exactly a loss again
_SEED = 0


class Checked(Protocol):
    """The part of a `Landscape` that the checks use, before it is handed to the user."""

    model: nn.Module
    loss_fn: LossFunction
    inputs: Inputs
    targets: Inputs
    levels: tuple[int, ...]
    batch_size: int

    @property
    def center(self) -> Mapping[str, Tensor]: ...

    def measuring(self) -> AbstractContextManager[None]: ...

    def evaluate(self) -> Tensor: ...

    def loss_at(self, named: Mapping[str, Tensor], first: int, last: int) -> Tensor: ...

    def outputs_at(self, named: Mapping[str, Tensor], first: int, last: int) -> Any: ...

    def loss_of_outputs(self, named: Mapping[str, Tensor], outputs: Tensor, first: int, last: int) -> Tensor: ...

    def weight(self, first: int, last: int) -> float: ...

    def weigh(self, weights: Tensor | None) -> None: ...


def check_center(landscape: Checked) -> None:
    """Refuses a model, loss or data that cannot be measured.

    Raises:
        ValueError: the parameters hold NaN, the model or loss fails on the data, torch would broadcast the shapes,
            labels are not classes, or the loss is random or not a mean over examples.
    """
    for name, p in landscape.center.items():
        if p.is_floating_point() and not bool(torch.isfinite(p).all()):
            raise ValueError(
                f"parameter {name!r} holds NaN or infinity: a diverged network has no basin; "
                "train again or load an earlier checkpoint."
            )
    num_examples = landscape.levels[-1]
    count = min(num_examples, landscape.batch_size, _MOST_ROWS)
    with landscape.measuring():
        outputs = _outputs(landscape, count)
        if isinstance(outputs, Tensor):
            _check_labels(landscape, outputs)
        loss = _check_loss(landscape, outputs, count)
        floor = _floor(outputs)
        # Where one pass sees all of the data, this loss is the first of the two evaluations that are compared.
        is_whole = landscape.levels == (count,)
        _find_weights(landscape, floor)
        _check_determinism(landscape, loss.double().reshape(1) if is_whole else landscape.evaluate(), floor)
        if count > 1:
            _check_mean(landscape, float(loss), count, floor)


def _outputs(landscape: Checked, count: int) -> Any:
    """The outputs on the first examples, or one sentence that says why there are none."""
    try:
        return landscape.outputs_at({}, 0, count)
    except Exception as error:
        inputs = landscape.inputs
        if isinstance(inputs, Fields):
            raise ValueError(
                f"`model` fails on the inputs in `data`, {inputs.describe()}: {_first_line(error)}{_half(landscape)}"
            ) from error
        first = next((p for p in landscape.center.values() if p.is_floating_point()), None)
        kind = "" if first is None or first.dtype == inputs.dtype else f" and the parameters are {first.dtype}"
        advice = ""
        if first is not None and first.dtype != inputs.dtype and not inputs.is_complex():
            advice = f"; if the model does not embed its inputs, pass them as {first.dtype}"
        raise ValueError(
            f"`model` fails on the inputs in `data`, which are {inputs.dtype} of shape {list(inputs.shape)}{kind}"
            f"{advice}: {_first_line(error)}{_half(landscape)}"
        ) from error


def _half(landscape: Checked) -> str:
    """What may be the reason why a model in half precision fails."""
    if not any(p.dtype in HALF for p in landscape.model.parameters()):
        return ""
    return (
        " The model is in half precision and is measured in float32, which fails where forward() converts to a type of "
        "its own; pass model.float() with that conversion left out."
    )


def _check_loss(landscape: Checked, outputs: Any, count: int) -> Tensor:
    """One evaluation of the loss, whose failures and warnings are put into one sentence."""
    targets = landscape.targets
    got = f"outputs {_shown(outputs)} and "
    if isinstance(targets, Fields):
        got += targets[:count].describe()
    else:
        got += f"targets {targets.dtype} of shape {list(targets[:count].shape)}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            loss = landscape.loss_of_outputs({}, outputs, 0, count)
        except ValueError as error:
            # The landscape's own refusal already says what to do.
            if str(error).startswith(("`loss_fn` must return", "`loss_fn` is None")):
                raise
            raise ValueError(f"`loss_fn` fails on {got}{_loss_advice(landscape, outputs)}: {error}") from error
        except Exception as error:
            raise ValueError(
                f"`loss_fn` fails on {got}{_loss_advice(landscape, outputs)}: {_first_line(error)}"
            ) from error
    broadcasts = any("target size" in str(warning.message) for warning in caught)
    if broadcasts or _broadcasts(landscape, outputs, loss, count):
        raise ValueError(
            f"`loss_fn` compares every output with every target: {got} are broadcast against each other; give both the "
            "same shape, for example with targets[:, None] or a model that ends in squeeze(-1)."
        )
    for warning in caught:  # all others are the user's
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return loss


def _broadcasts(landscape: Checked, outputs: Any, loss: Tensor, count: int) -> bool:
    """Whether outputs [n, 1] and targets [n] are compared all with all: the loss changes if the 1 is dropped."""
    targets = landscape.targets[:count]
    if isinstance(targets, Fields) or not isinstance(outputs, Tensor):
        return False
    if count < 2 or not targets.is_floating_point():
        return False
    if targets.ndim != 1 or outputs.ndim != 2 or outputs.shape[1] != 1:
        return False
    try:
        squeezed = landscape.loss_of_outputs({}, outputs[:, 0], 0, count)
    except Exception:  # noqa: BLE001  (a loss that wants [n, 1] knows what it does)
        return False
    return not torch.allclose(squeezed, loss, rtol=_MEAN_RTOL, atol=0.0, equal_nan=True)


def _loss_advice(landscape: Checked, outputs: Any) -> str:
    targets = landscape.targets
    if isinstance(targets, Fields):
        return ""
    if isinstance(outputs, (tuple, list, dict)):
        return f" because forward() returns a {type(outputs).__name__}; let it return the outputs alone"
    if not is_class_loss(landscape.loss_fn) or not isinstance(outputs, Tensor):
        return ""
    if targets.is_floating_point() and targets.shape != outputs.shape:
        return "; class labels must be int64, pass targets.long()"
    if not targets.is_floating_point() and targets.dtype != torch.int64:
        return "; class labels must be int64, pass targets.long()"
    if outputs.ndim > 2 and targets.shape[1:] == outputs.shape[1:-1]:
        return (
            "; the classes of cross-entropy are the second dimension of the outputs, so flatten them to "
            "outputs.flatten(0, -2) and targets.flatten(), or use outputs.movedim(-1, 1)"
        )
    return ""


def _check_labels(landscape: Checked, outputs: Tensor) -> None:
    targets = landscape.targets
    if isinstance(targets, Fields) or not is_class_loss(landscape.loss_fn) or targets.is_floating_point():
        return
    if outputs.ndim > 2 and targets.shape[1:] != outputs.shape[2:]:
        return  # the loss itself says so
    least, most = _label_range(targets, ignored_label(landscape.loss_fn))
    num_classes = outputs.shape[1] if outputs.ndim > 1 else outputs.shape[0]
    if least < 0 or most >= num_classes:
        raise ValueError(
            f"the targets in `data` must be labels between 0 and {num_classes - 1}, the model's outputs, got "
            f"labels from {least} to {most}."
        )


def _label_range(targets: Tensor, ignored: int) -> tuple[int, int]:
    """The least and the largest label that counts; (0, 0) where none does."""
    seen = []
    for first, last in chunks(targets):
        labels = targets[first:last]
        labels = labels[labels != ignored]
        if labels.numel():
            seen += [int(labels.min()), int(labels.max())]
    return min(seen, default=0), max(seen, default=0)


def _check_determinism(landscape: Checked, first: Tensor, floor: float) -> None:
    second = landscape.evaluate()
    if _is_same(first, second, floor):
        return
    seeded = []
    for _ in range(2):
        torch.manual_seed(_SEED)  # inside measuring(), which restores the state
        seeded.append(landscape.evaluate())
    if _is_same(seeded[0], seeded[1], floor):
        cause = "forward() or the loss draws random numbers in eval mode"
    else:
        cause = "forward() or the loss depends on more than its arguments"
    raise ValueError(
        f"the loss is not deterministic: two evaluations at the center gave {float(first[-1]):.9g} and "
        f"{float(second[-1]):.9g} in eval mode, so {cause}. {_suspects(landscape.model)}"
    )


def _is_same(first: Tensor, second: Tensor, floor: float) -> bool:
    """Whether two evaluations agree; sums in another order, on a GPU, move a loss of 0 as well."""
    return torch.allclose(first, second, rtol=_DETERMINISM_RTOL, atol=1e-3 * floor, equal_nan=True)


def _find_weights(landscape: Checked, floor: float) -> None:
    """Finds the weights of examples whose loss may be a mean over tokens: those with which two examples add up."""
    fields = landscape.targets
    kinds = token_weights(fields, ignored_label(landscape.loss_fn)) if isinstance(fields, Fields) else []
    if not kinds or landscape.levels[-1] < 2:
        return
    # The neighbors that differ most; where all weigh the same, so do all examples.
    ratio = (kinds[-1][1:] / kinds[-1][:-1]).log().abs().nan_to_num(nan=0.0, posinf=0.0)
    at = int(ratio.argmax())
    if not float(ratio[at]) > 0.0:
        return
    whole, left, right = (
        float(landscape.loss_at({}, first, last)) for first, last in ((at, at + 2), (at, at + 1), (at + 1, at + 2))
    )

    def error(weights: Tensor | None) -> float:
        first, second = (1.0, 1.0) if weights is None else weights[at : at + 2].tolist()
        return abs(whole - (left * first + right * second) / (first + second))

    plain = error(None)
    if not plain <= 1e-2 * _MEAN_RTOL * abs(whole) + floor:
        landscape.weigh(min((None, *kinds), key=error))


def _check_mean(landscape: Checked, at_center: float, count: int, floor: float) -> None:
    """Refuses a loss that is not a mean over examples, because levels and batches are averaged as if it were.

    A network that fits its data has a loss of 0, which tells nothing: the check is then repeated with smaller weights.
    """
    half = (count + 1) // 2
    weights = [landscape.weight(0, half), landscape.weight(half, count)]
    if not all(weight > 0 for weight in weights):  # every target of a half is ignored: that half has no mean
        return

    def compare(named: Mapping[str, Tensor], whole: float) -> bool:
        """Compares the whole with its halves, and returns whether the losses were large enough to tell."""
        left, right = (float(landscape.loss_at(named, first, last)) for first, last in ((0, half), (half, count)))
        summed = (left * weights[0] + right * weights[1]) / sum(weights)
        largest = max(abs(whole), abs(left), abs(right))
        if abs(whole - summed) > _MEAN_RTOL * largest + floor:
            raise ValueError(
                f"the loss is not a mean over examples: {count} examples give {whole:.6g}, their two halves average "
                f'to {summed:.6g}. Use reduction="mean", and class weights through torch.nn.CrossEntropyLoss(weight=), '
                f"which are taken into account. {_suspects(landscape.model)}"
            )
        return largest > 100.0 * floor

    if not compare({}, at_center):
        shrunk = {name: _SHRINKING * p for name, p in landscape.center.items() if p.is_floating_point()}
        compare(shrunk, float(landscape.loss_at(shrunk, 0, count)))


def _floor(outputs: Any) -> float:
    """By how much rounding of the outputs alone may move a loss."""
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or outputs.numel() == 0:
        return _ROUNDING * torch.finfo(torch.float32).eps
    largest = float(outputs.abs().nan_to_num(nan=0.0, posinf=0.0).max())
    return _ROUNDING * torch.finfo(outputs.dtype).eps * max(1.0, largest)


def _suspects(model: nn.Module) -> str:
    """Names layers that draw random numbers or mix examples in eval mode too; torch's own dropout does not."""
    modules = list(model.named_modules())
    dropout = [
        name
        for name, module in modules
        if isinstance(module, nn.modules.dropout._DropoutNd) and not type(module).__module__.startswith("torch.nn.")
    ]
    batch = [
        name
        for name, module in modules
        if isinstance(module, nn.modules.batchnorm._NormBase) and not module.track_running_stats
    ]
    found = [f"dropout in {name!r}" for name in dropout] + [f"batch statistics in {name!r}" for name in batch]
    if found:
        return f"Suspects: {', '.join(found)}."
    return "Look for functional dropout (training=True), sampling, or batch statistics in forward()."


def _shown(outputs: Any) -> str:
    if isinstance(outputs, Tensor):
        return f"{outputs.dtype} of shape {list(outputs.shape)}"
    if isinstance(outputs, (tuple, list)):
        return f"a {type(outputs).__name__} of ({', '.join(type(part).__name__ for part in outputs)})"
    return f"a {type(outputs).__name__}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
