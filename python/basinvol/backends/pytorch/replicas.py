"""Copies of the model's structure, so that several threads can hold different parameters in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from ...model.caller import ModelCaller
from ...model.landscape import Landscape

_SAME = 1e-5  # how far the loss of a copy may be from that of the model, relatively


def replicas(landscape: Landscape, count: int, perturbed: Mapping[str, Tensor]) -> list[ModelCaller]:
    """Up to `count` callers that may work at the same time; the model's own alone where it cannot be copied.

    A copy shares the parameters and has modules, buffers and attributes of its own. A model or loss that reaches other
    modules, as a penalty on the model's own parameters does, would see the wrong parameters from a copy.

    Args:
        landscape: the model and its data.
        count: how many are wanted.
        perturbed: parameters away from the center, at which a copy must have the loss of the model.
    """
    if landscape.device.type != "cpu":  # a device works on one network at a time
        return [landscape.caller]
    shared = {id(p): p for p in landscape.model.parameters()}
    callers = []
    for _ in range(count):
        try:
            model = copy.deepcopy(landscape.model, dict(shared))
        except Exception:  # noqa: BLE001  (locks, open files and the like; whatever they raise)
            return [landscape.caller]
        callers.append(ModelCaller(model, landscape.loss_fn, landscape.device))
    return callers if _is_same(landscape, callers[0], perturbed) else [landscape.caller]


def _is_same(landscape: Landscape, caller: ModelCaller, perturbed: Mapping[str, Tensor]) -> bool:
    last = min(landscape.batch_size, landscape.num_examples)
    try:
        with landscape.measuring(), caller.evaluating():
            expected = landscape.loss_at(perturbed, 0, last)
            found = landscape.loss_at(perturbed, 0, last, caller)
    except Exception:  # noqa: BLE001  (a copy that fails where the model does not)
        return False
    return torch.allclose(found, expected, rtol=_SAME, atol=0.0, equal_nan=True)
