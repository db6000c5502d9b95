"""The loss of a model on fixed data, as a function of its parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..inputs.arguments import whole_number
from ..inputs.data import read_data
from ..inputs.fields import Fields
from ..inputs.half import widened_inputs
from ..inputs.loss import LossFunction, example_weights, read_loss
from ..inputs.module import read_model
from .batch_size import examples_at_once
from .caller import ModelCaller
from .checks import check_center
from .deadline import Deadline
from .default_device import cpu_by_default

__all__ = ["GRADIENT_COST", "Landscape", "LossFunction"]

GRADIENT_COST = 3  # evaluations of the loss that a gradient counts as


class Landscape:
    """Mean loss over nested prefixes ("levels") of one ordered data set.

    Every call of the model goes through `loss_at` and `outputs_at`. The model is called in eval mode with other tensors
    in place of its parameters and buffers, also while the loss runs, so that a loss may read the parameters.
    Parameters, buffers, attributes that forward() sets, training flags and torch's random state are left as they were.
    Models and data in half precision are measured in float32, see `inputs/half.py`.

    >>> inputs, targets = torch.eye(3), torch.tensor([[1.0], [2.0], [3.0]])
    >>> model = nn.Linear(3, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> landscape = Landscape(model, nn.functional.mse_loss, (inputs, targets), levels=[1, 2])
    >>> landscape.losses().tolist()  # on the first example, and on the first two
    [1.0, 2.5]

    Args:
        model: any module that maps a batch of inputs [n, ...] to outputs [n, ...]. Of a model inside DataParallel or
            torch.compile, the wrapped module is measured.
        loss_fn: loss_fn(outputs, targets) -> mean loss over the batch, a scalar. Class weights and ignored labels of
            torch's class losses are taken into account when batches are averaged. With dictionaries, None for the
            loss in the model's outputs, or loss_fn(outputs, batch); a mean over the positions of `labels` that are
            not -100 is recognized, and batches are weighted by their positions.
        data: (inputs [N, ...], targets [N, ...]) as tensors or NumPy arrays, where inputs may be a tuple of several,
            which the model takes one after the other; or a dictionary of tensors [N, ...], which the model takes by
            name; or a Dataset, DataLoader or other iterable of such batches, which is read once for its values and
            once more to see that it gives the same ones. Batches that take more than a quarter of the memory that is
            available go to files without a name in the temporary folder, which TMPDIR chooses, and are read from there.
            Arrays that are mapped from files are used without a copy.
        levels: increasing numbers of examples, each a prefix of the data; default [N].
        device: where to evaluate; default the device of the model's first parameter.
        batch_size: most examples per forward pass in torch; it changes no result but by rounding. Default as many as
            keep the largest operation near the caches, by the shapes of its tensors.

    Attributes:
        levels: numbers of examples, increasing. [L]
        inputs, targets: the examples of the largest level, on the device; of dictionaries, both are all fields.
            [N, ...] each
        num_evaluations: evaluations of the loss by everything that was measured on this landscape; a gradient counts
            as three.
        deadline: until when anything may be evaluated, or None; it is looked at where evaluations are counted.

    Raises:
        ValueError: the model, loss or data cannot be measured; the loss is not a mean over examples, or differs between
            two evaluations of the same parameters; or levels or device are bad. The message says which in one sentence.
    """

    @cpu_by_default
    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction | None,
        data: tuple[Tensor, Tensor] | Mapping[str, Tensor] | Iterable[Any],
        levels: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None:
            whole_number("batch_size", batch_size, least=1)
        self.model = read_model(model)
        self.loss_fn = read_loss(loss_fn)
        self.device = _resolve_device(self.model, device)
        inputs, targets = read_data(data)
        if loss_fn is None and not isinstance(targets, Fields):
            raise ValueError(
                "`loss_fn` must be a function loss_fn(outputs, targets) -> mean loss, got None, which is for data in "
                "dictionaries, whose model returns its own loss."
            )
        self.levels = _check_levels(levels, len(inputs))
        self.inputs = widened_inputs(inputs[: self.levels[-1]].to(self.device))
        self.targets = widened_inputs(targets[: self.levels[-1]].to(self.device))
        self.num_evaluations = 0
        self.deadline: Deadline | None = None
        self._weights = example_weights(self.loss_fn, self.targets)
        self._caller = ModelCaller(self.model, self.loss_fn, self.device)
        self.batch_size = examples_at_once(self._caller, self.inputs) if batch_size is None else int(batch_size)
        check_center(self)

    def weigh(self, weights: Tensor | None) -> None:
        """Sets the weight of each example in the mean, for a loss whose weights are found by looking at it. [N]"""
        self._weights = weights

    @property
    def num_examples(self) -> int:
        """N, the number of examples in the largest level."""
        return self.levels[-1]

    @property
    def num_bytes(self) -> int:
        """How much the examples of the largest level take, in memory or in files."""
        targets = 0 if isinstance(self.targets, Fields) else self.targets.nbytes  # or all fields are counted
        return self.inputs.nbytes + targets

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets where they are one tensor each, as engines for perceptrons take them. [N, ...] each

        Raises:
            TypeError: there are several inputs.
        """
        if isinstance(self.inputs, Fields) or isinstance(self.targets, Fields):
            raise TypeError("this landscape has several inputs.")
        return self.inputs, self.targets

    @property
    def caller(self) -> ModelCaller:
        """What calls the model, for engines that call it from threads of their own."""
        return self._caller

    @property
    def center(self) -> Mapping[str, Tensor]:
        """The model's own parameters by name, on the landscape's device."""
        return self._caller.parameters

    @cpu_by_default
    def losses(self, parameters: Mapping[str, Tensor] | None = None, num_levels: int | None = None) -> Tensor:
        """Mean loss on each of the first `num_levels` levels, summed in float64 in data order. [num_levels] float64

        Args:
            parameters: named tensors that replace the model's; all others are the model's own.
            num_levels: how many levels, from the smallest on; default all.
        """
        self.count(1)
        with self.measuring():
            return self.evaluate(parameters, num_levels)

    @cpu_by_default
    def evaluate(self, parameters: Mapping[str, Tensor] | None = None, num_levels: int | None = None) -> Tensor:
        """Does as `losses`, for a caller that holds `measuring()` around many evaluations and counts them itself."""
        # One running sum for all levels: an example is evaluated once, however many levels hold it.
        replaced = parameters or {}
        means, total, weight, start = [], torch.zeros((), dtype=torch.float64, device=self.device), 0.0, 0
        for stop in self.levels[:num_levels]:
            for first in range(start, stop, self.batch_size):
                last = min(first + self.batch_size, stop)
                part = self.weight(first, last)
                if part > 0:  # the mean of a batch in which no target counts is 0/0
                    total = total + self.loss_at(replaced, first, last).double() * part
                    weight += part
            means.append(total / weight)
            start = stop
        return torch.stack(means)

    @cpu_by_default
    def gradient(self, parameters: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """Mean loss on the largest level, and its gradient with respect to the named tensors.

        A gradient counts as three evaluations. Parameters that the loss does not depend on have a gradient of zeros.
        Batches are summed in data order.
        """
        self.count(GRADIENT_COST)
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        total = 0.0
        gradients = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        with self.measuring(), torch.enable_grad():
            for first in range(0, self.num_examples, self.batch_size):
                last = min(first + self.batch_size, self.num_examples)
                if not self.weight(first, last) > 0:
                    continue
                loss = self.loss_at(leaves, first, last) * self.share(first, last)
                total += float(loss.detach())
                if loss.requires_grad:
                    parts = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
                    for name, part in zip(leaves, parts, strict=True):
                        gradients[name] += 0.0 if part is None else part
        return total, gradients

    def loss_at(self, named: Mapping[str, Tensor], first: int, last: int, caller: ModelCaller | None = None) -> Tensor:
        """Mean loss of examples `first` to `last` - 1, a scalar. []

        The call is not counted, and it may be differentiated or batched by `torch.func.vmap`.

        Args:
            named: tensors in place of the parameters of these names.
            first, last: the rows of the data, without `last`.
            caller: what calls a copy of the model, in a thread of its own; default the model itself.
        """
        loss = (caller or self._caller).loss(named, self.inputs[first:last], self.targets[first:last])
        return as_scalar(loss)

    def outputs_at(self, named: Mapping[str, Tensor], first: int, last: int) -> Any:
        """Outputs of the model on examples `first` to `last` - 1. [last - first, ...]

        Args:
            named: tensors in place of the parameters of these names.
            first, last: the rows of the data, without `last`.
        """
        return self._caller.outputs(named, self.inputs[first:last])

    def loss_of_outputs(self, named: Mapping[str, Tensor], outputs: Tensor, first: int, last: int) -> Tensor:
        """Mean loss of examples `first` to `last` - 1 from outputs that are given, a scalar. []

        Args:
            named: tensors in place of the parameters of these names, for a loss that reads the parameters.
            outputs: the model's outputs on these examples. [last - first, ...]
            first, last: the rows of the data, without `last`.
        """
        return as_scalar(self._caller.loss_of_outputs(named, outputs, self.targets[first:last]))

    def measuring(self) -> contextlib.AbstractContextManager[None]:
        """Sets eval mode without gradients for many calls; restores the model and torch's random state at the end."""
        return self._caller.measuring()

    def count(self, evaluations: int) -> None:
        """Adds evaluations of the loss that were made elsewhere, by an engine or in a batch, to the count.

        Raises:
            BudgetSpent: the deadline is over.
        """
        self.num_evaluations += evaluations
        if self.deadline is not None:
            self.deadline.check(self.num_evaluations)

    def weight(self, first: int, last: int) -> float:
        """The weight of the mean of examples `first` to `last` - 1 in a mean of several batches."""
        return float(last - first) if self._weights is None else float(self._weights[first:last].sum())

    def share(self, first: int, last: int) -> float:
        """The weight of examples `first` to `last` - 1 as a share of that of all examples."""
        return self.weight(first, last) / self.weight(0, self.num_examples)


def as_scalar(loss: Any) -> Tensor:
    """The loss of a batch as a scalar tensor. []

    Raises:
        ValueError: it has several elements, or is no tensor.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ValueError(
            f'`loss_fn` must return the mean loss of the batch as a scalar tensor, got {got}; use reduction="mean".'
        )
    return loss.reshape(())


def _resolve_device(model: nn.Module, device: torch.device | str | None) -> torch.device:
    if device is None:
        first = next(model.parameters(), None)
        return first.device if first is not None else torch.device("cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(
                f"`device` is {str(device)!r}, but no CUDA device is available; use device='cpu'."
            ) from None
        reason = str(error).split("\n")[0]
        raise ValueError(f"`device` must be one that torch has here, such as 'cpu', got {device!r}: {reason}") from None
    if resolved.type == "meta":
        raise ValueError("`device` is 'meta', where tensors have no values; use device='cpu'.")
    return resolved


def _check_levels(levels: Sequence[int] | None, num_examples: int) -> tuple[int, ...]:
    if levels is None:
        return (num_examples,)
    checked = tuple(whole_number("levels", level) for level in levels)
    increasing = all(a < b for a, b in zip((0, *checked), checked, strict=False))
    if not checked or not increasing or checked[-1] > num_examples:
        raise ValueError(
            f"`levels` must be increasing numbers of examples between 1 and {num_examples}, got {list(levels)}."
        )
    return checked
