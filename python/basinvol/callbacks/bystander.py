"""A measurement in the middle of a training, which must not notice it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from ..inputs.random_states import random_states


@contextlib.contextmanager
def bystander(model: nn.Module) -> Iterator[None]:
    """Puts back the random states of Python, NumPy and torch, and leaves autocast and inference mode meanwhile.

    The estimate itself leaves the model as it was. What is beyond it: a loss or a forward that draws numbers for
    itself, and a framework that calls back within its own autocast.
    """
    places = [p.device for p in model.parameters()]
    with contextlib.ExitStack() as stack:
        stack.enter_context(random_states(sorted({place.index or 0 for place in places if place.type == "cuda"})))
        stack.enter_context(torch.inference_mode(False))
        for kind in {"cpu", *(place.type for place in places)}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield
