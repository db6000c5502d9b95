"""A landscape in the form in which it travels to another process, and as it is made again there."""

from __future__ import annotations

from typing import Any

import torch

from ..inputs.fields import Fields
from .landscape import Landscape


class PortableLandscape:
    """Model, loss, data and levels, with all data on the CPU.

    Args:
        landscape: what is to travel.
    """

    def __init__(self, landscape: Landscape) -> None:
        self._model, self._loss_fn = landscape.model, landscape.loss_fn
        self._data = _as_given(landscape)
        self._levels, self._batch_size = landscape.levels, landscape.batch_size
        # A worker counts its own devices from 0 on.
        self.device = torch.device(landscape.device.type)

    def make(self) -> Landscape:
        """The landscape again, where this process is.

        Raises:
            ValueError: the model cannot be evaluated here.
        """
        return Landscape(self._model, self._loss_fn, self._data, self._levels, self.device, self._batch_size)


def _as_given(landscape: Landscape) -> Any:
    """The data in a form that `Landscape` takes."""
    cpu = torch.device("cpu")
    inputs, targets = landscape.inputs.to(cpu), landscape.targets.to(cpu)
    if isinstance(targets, Fields):
        return dict(targets.values)
    return (tuple(inputs.values.values()) if isinstance(inputs, Fields) else inputs), targets
