"""Batches of several tensors: dictionaries, as models of Hugging Face take them, and tuples of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# The field of a batch that torch's and Hugging Face's losses count: positions with the ignored label have no weight.
LABELS = "labels"
_ROWS = 2**12  # of labels that are counted at a time: there may be more of them than memory holds twice


@dataclass(frozen=True)
class Fields:
    """Several tensors of the same N examples, which a model takes by name, or one after the other.

    Attributes:
        values: the tensors by name; by position, "0", "1" and so on. [N, ...] each
        is_named: whether the model takes them by name.
    """

    values: Mapping[str, Tensor]
    is_named: bool

    @staticmethod
    def of(batch: Mapping[str, Any] | tuple[Tensor, ...]) -> Fields:
        """The fields of a dictionary, or of a tuple of inputs."""
        if isinstance(batch, Mapping):
            return Fields(dict(batch), True)
        return Fields({str(i): part for i, part in enumerate(batch)}, False)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, rows: slice | Tensor) -> Fields:
        return self._each(lambda values: values[rows])

    @property
    def nbytes(self) -> int:
        """The bytes of all fields."""
        return sum(values.nbytes for values in self.values.values())

    def to(self, device: torch.device) -> Fields:
        """The same fields on a device."""
        return self._each(lambda values: values.to(device))

    def clone(self) -> Fields:
        """A copy of the same fields."""
        return self._each(lambda values: values.clone())

    def flip(self) -> Fields:
        """The examples in reverse order."""
        return self._each(lambda values: values.flip(0))

    def detach(self) -> Fields:
        """The same fields without a history of gradients."""
        return self._each(lambda values: values.detach())

    def call(self, function: Callable[..., Any]) -> Any:
        """What a model or a function returns for these examples."""
        return function(**self.values) if self.is_named else function(*self.values.values())

    def describe(self) -> str:
        """The fields, their types and shapes, for a message."""
        parts = [f"{name!r} {values.dtype} {list(values.shape)}" for name, values in self.values.items()]
        return f"{'a dictionary' if self.is_named else 'several inputs'}: {', '.join(parts)}"

    def _each(self, change: Callable[[Tensor], Tensor]) -> Fields:
        return Fields({name: change(values) for name, values in self.values.items()}, self.is_named)


Inputs = Tensor | Fields


def call_model(model: Callable[..., Any], inputs: Inputs) -> Any:
    """The outputs of a model for a batch of any form."""
    return inputs.call(model) if isinstance(inputs, Fields) else model(inputs)


def reversed_examples(values: Inputs) -> Inputs:
    """The examples in reverse order."""
    return values.flip() if isinstance(values, Fields) else values.flip(0)


def loss_in_outputs(outputs: Any, batch: Any) -> Tensor:
    """The loss that a model itself computes from its batch, `outputs.loss` or `outputs["loss"]`.

    Raises:
        ValueError: the outputs have no loss.
    """
    found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if not isinstance(found, Tensor):
        fields = f"; the batch has {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else ""
        raise ValueError(
            f"`loss_fn` is None, so the model must return its loss as outputs.loss, and it returns a "
            f"{type(outputs).__name__} without one{fields}: add {LABELS!r} to the batches, or pass "
            "loss_fn(outputs, batch)."
        )
    return found


def token_weights(fields: Fields, ignored: int) -> list[Tensor]:
    """The weights that examples may have in a mean over positions that count: of all labels, or of all but the first.

    A model that predicts the next token compares positions with the labels one later.

    Args:
        fields: the batch. N examples
        ignored: the label of positions that do not count.

    Returns:
        Each kind of weights [N] float64; none where the batch has no labels of several positions.
    """
    labels = fields.values.get(LABELS)
    if labels is None or labels.is_floating_point():
        return []

    def sums(rows: Tensor) -> Tensor:
        counts = (rows != ignored).reshape(len(rows), -1)
        return torch.stack([counts.sum(dim=1), counts[:, 1:].sum(dim=1)])

    every, all_but_first = torch.cat([sums(rows) for rows in labels.split(_ROWS)], dim=1).double()
    return [every, all_but_first] if labels.ndim > 1 else [every]
