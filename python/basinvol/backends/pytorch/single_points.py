"""The losses of single points of any module that are within limits; of others a part of the data is enough."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ...model.landscape import Landscape
from .units import units_of, weighted_losses

# Batches of half the usual size take as long for each example and end sooner; smaller ones take longer.
_PARTS, _LEAST = 2, 16


class SinglePoints:
    """The mean loss on the largest level at one point after the other, or infinity where it exceeds a limit.

    Examples are read from the one of largest loss at the center on, and no further than to where their losses alone
    exceed the limit. As the order is always the same, so is the loss of a point, whatever its limit. Where losses may
    be negative, or are not known by example, all data are read.

    Args:
        landscape: the loss. It does not count these evaluations.
    """

    def __init__(self, landscape: Landscape) -> None:
        self._landscape = landscape
        self._units, self._is_nonnegative = units_of(landscape)
        self._weight = float(self._units.weights.sum())
        batches = [torch.arange(first, last) for first, last in self._units.batches]
        if self._is_nonnegative:
            with landscape.measuring():
                hardness = torch.cat([self._losses({}, batch) for batch in batches])
            size = len(batches[0])
            part = min(size, max(_LEAST, size // _PARTS))
            batches = list(hardness.nan_to_num(nan=math.inf).argsort(descending=True, stable=True).split(part))
        self._batches = batches

    def losses_within(self, points: Iterable[Mapping[str, Tensor]], limits: Tensor) -> Tensor:
        """Losses of points, or infinity where one exceeds its limit.

        Args:
            points: the parameters by name at each of n points.
            limits: the largest loss of each that is told. [n] float64

        Returns:
            The losses. [n] float64
        """
        with self._landscape.measuring():
            found = [self._loss_within(named, limit) for named, limit in zip(points, limits.tolist(), strict=True)]
        return torch.tensor(found, dtype=torch.float64)

    def _loss_within(self, named: Mapping[str, Tensor], limit: float) -> float:
        total = 0.0
        for batch in self._batches:
            total += float(self._losses(named, batch).sum())
            if self._is_nonnegative and not total / self._weight <= limit:  # a NaN is beyond every limit
                return math.inf
        loss = total / self._weight
        return loss if loss <= limit else math.inf

    def _losses(self, named: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        """The weighted losses of some units. [n] float64"""
        return weighted_losses(
            self._units, self._landscape.caller, named, batch, self._units.weights.new_empty(len(batch))
        )
