"""In which order proofs read batches of units: the hardest first, and those of the classes that a ray is bad for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ...inputs.fields import LABELS, Fields, Inputs
from ..extension import compiled_extension

# Batches that are chosen before the loss of the first is known, so that the choice does not depend on how many of them
# are evaluated at a time.
_CHOSEN_AT_ONCE = 4


class ProofOrder:
    """Batches of units, and in which order a proof reads them. The native engines' order, in C++.

    Args:
        found: losses of the units on some rays, which tell how hard each of them is; all zero for the order of the
            data. [rays, U] float64
        classes: the class of every unit, as whole numbers from 0; None where nothing is known. [U]
        stop: the units that are read.
        size: how many of them a batch has.
    """

    def __init__(self, found: Tensor, classes: Tensor | None, stop: int, size: int) -> None:
        known, count = ([], 0) if classes is None else (classes[:stop].tolist(), int(classes.max()) + 1)
        self._order = compiled_extension().ProofOrder(found.contiguous().numpy(), known, count, stop, size)
        self.num_units = stop
        self._batches = [torch.tensor(batch) for batch in self._order.batches()]

    def proof(self) -> BatchesOfProof:
        """The way of a new proof through these batches."""
        return BatchesOfProof(self._order.proof(), self._batches)


class BatchesOfProof:
    """A few batches at a time, chosen by what is expected of them and by what those before them lost."""

    def __init__(self, proof: Any, batches: Sequence[Tensor]) -> None:
        self._proof, self._batches = proof, batches

    def __iter__(self) -> Iterator[list[Tensor]]:
        while chosen := self._chosen():
            yield chosen

    def tell(self, losses: Sequence[float]) -> None:
        """The summed losses of the batches that came last, in their order."""
        for loss in losses:
            self._proof.tell(loss)

    def _chosen(self) -> list[Tensor]:
        numbers = (self._proof.next() for _ in range(_CHOSEN_AT_ONCE))
        return [self._batches[number] for number in numbers if number >= 0]


def classes_of(targets: Inputs) -> Tensor | None:
    """The class of every example, from 0, if its target is one whole number; None otherwise. [N] int64"""
    labels = targets.values.get(LABELS) if isinstance(targets, Fields) else targets
    if labels is None or labels.is_floating_point() or labels.is_complex() or labels.numel() != len(labels):
        return None
    classes: Tensor = torch.unique(labels.cpu().reshape(-1), return_inverse=True)[1]
    return classes
