"""The random states that a user's own code draws from, left as they were."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch


@contextlib.contextmanager
def random_states(devices: Sequence[int] = ()) -> Iterator[None]:
    """Restores the states of Python, NumPy and torch, from which loaders draw seeds and transforms draw numbers.

    Args:
        devices: CUDA devices whose states are restored too.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the state that users share)
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
