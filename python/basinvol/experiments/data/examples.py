"""Examples in order (base, then pool) and a test set, chosen by the data seed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..describe.description import Experiment
from .sources import Source, read_source
from .texts import TEXTS, read_text

SWISS_ROLL = "swiss-roll"

_TARGET_SHARE = 0.9  # of an imbalanced pool
_TRAINING_SHARE = 0.9  # of a text
_SPARE_POINTS, _SPIRAL_TEST_POINTS = 1000, 2000  # per class


@dataclass(frozen=True)
class Split:
    """Training examples in order (base, then pool) and the test set, as the network and its loss take them."""

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor

    def fingerprint(self) -> str:
        """SHA-256 of all examples; two runs with the same fingerprint saw the same data."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets, self.test_inputs, self.test_targets):
            digest.update(str(list(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class _Examples:
    inputs: Tensor  # [N, ...] float32
    labels: Tensor  # [N] int64


def load(experiment: Experiment, data_seed: int, data_dir: Path | None = None) -> Split:
    """The examples of one data seed: `base` drawn at random, then the pool in a fixed random order.

    Args:
        experiment: what names the data set, the pool, and the numbers of examples.
        data_seed: of the draw and of what is wrong in the pool.
        data_dir: folder with the published files, for data sets that are not packaged; None for OpenML.

    Raises:
        ValueError: the data cannot be found, or there are too few examples.
    """
    if experiment.data.source == SWISS_ROLL:
        train, test = _swiss_roll(experiment, data_seed)
    elif experiment.data.source in TEXTS:
        return _windows(experiment, read_text(experiment.data.source, data_dir), data_seed)
    else:
        train, test = _draw(experiment, read_source(experiment.data.source, data_dir), data_seed)
    train = _spoil(experiment, train, data_seed)

    def shaped(examples: _Examples) -> tuple[Tensor, Tensor]:
        return examples.inputs.reshape(-1, *experiment.network.inputs), _targets(experiment, examples.labels)

    return Split(*shaped(train), *shaped(test))


def _windows(experiment: Experiment, text: Tensor, data_seed: int) -> Split:
    """Windows of a text that begin at random characters of its first nine tenths, each with the next characters.

    The test windows lie evenly in the last tenth and are the same for every seed.
    """
    size, num_train = experiment.network.inputs[0] + 1, round(_TRAINING_SHARE * len(text))
    windows, num_starts = text.unfold(0, size, 1), num_train - size + 1
    if int(text.max()) >= experiment.network.outputs:
        raise ValueError(
            f"{experiment.name} has a network of {experiment.network.outputs} different characters, and the text of "
            f"{experiment.data.source} has {int(text.max()) + 1}."
        )
    if experiment.num_examples > num_starts:
        raise ValueError(
            f"{experiment.name} needs {experiment.num_examples} training windows, the text of {experiment.data.source} "
            f"has {max(num_starts, 0)}; give smaller `levels`."
        )
    starts = np.random.RandomState(data_seed).permutation(num_starts)[: experiment.num_examples]
    test_starts = np.linspace(num_train, len(windows) - 1, experiment.data.num_test).astype(np.int64)
    train, test = windows[torch.from_numpy(starts)], windows[torch.from_numpy(test_starts)]
    return Split(*(part.contiguous() for part in (train[:, :-1], train[:, 1:], test[:, :-1], test[:, 1:])))


def _draw(experiment: Experiment, source: Source, data_seed: int) -> tuple[_Examples, _Examples]:
    count, num_test = len(source.labels), experiment.data.num_test
    train = np.arange(count)
    if source.test_inputs is not None and source.test_labels is not None:
        test = _Examples(_normalized(source.test_inputs, source), torch.from_numpy(source.test_labels))
    else:
        # The test set is the same for every seed, so that seeds differ in what they were trained on only.
        order = np.random.RandomState(0).permutation(count)
        rows, train = order[:num_test], order[num_test:]
        test = _Examples(_normalized(source.inputs[rows], source), torch.from_numpy(source.labels[rows]))
    if experiment.num_examples > len(train):
        raise ValueError(
            f"{experiment.name} needs {experiment.num_examples} training examples, {experiment.data.source} has "
            f"{len(train)}; give smaller `levels`."
        )
    order = np.random.RandomState(data_seed).permutation(train)
    if experiment.data.pool == "imbalanced":
        order = _imbalanced(experiment, order, source.labels[order], data_seed)
    chosen = order[: experiment.num_examples]
    return _Examples(_normalized(source.inputs[chosen], source), torch.from_numpy(source.labels[chosen])), test


def _imbalanced(
    experiment: Experiment, order: NDArray[Any], labels: NDArray[np.int64], data_seed: int
) -> NDArray[np.int64]:
    """The order of examples: the base as it is, then a shuffled pool of which 90 % are of the target classes."""
    base, size = experiment.base, experiment.num_examples - experiment.base
    is_target = np.isin(labels[base:], experiment.data.target_classes)
    targets, others = order[base:][is_target], order[base:][~is_target]
    num_targets = round(_TARGET_SHARE * size)
    if num_targets > len(targets):
        raise ValueError(
            f"an imbalanced pool of {size} needs {num_targets} examples of the target classes, "
            f"{experiment.data.source} has {len(targets)}; give smaller `levels`."
        )
    pool = np.concatenate([targets[:num_targets], others[: size - num_targets]])
    return np.concatenate([order[:base], np.random.RandomState(data_seed).permutation(pool)])


def _spoil(experiment: Experiment, train: _Examples, data_seed: int) -> _Examples:
    """The training examples, with the pool made wrong in the way that the experiment asks for."""
    base, random = experiment.base, np.random.RandomState(data_seed)
    num_classes, num_pool = max(experiment.network.outputs, 2), len(train.labels) - base
    inputs, labels = train.inputs.clone(), train.labels.clone()
    if experiment.data.pool == "poisoned":
        offsets = torch.from_numpy(random.randint(1, num_classes, num_pool))
        labels[base:] = (labels[base:] + offsets) % num_classes
    elif experiment.data.pool == "noise":
        clean = inputs[:base]
        noise = torch.from_numpy(random.standard_normal((num_pool, *clean.shape[1:])).astype(np.float32))
        inputs[base:] = clean.mean() + clean.std() * noise
        labels[base:] = torch.from_numpy(random.randint(0, num_classes, num_pool))
    return _Examples(inputs, labels)


def _normalized(inputs: NDArray[Any], source: Source) -> Tensor:
    values = torch.from_numpy(inputs.astype(np.float32))
    if source.normalization is None:
        return values
    mean, deviation = (torch.tensor(values).reshape(-1, 1, 1) for values in source.normalization)
    normalized: Tensor = (values / 255.0 - mean) / deviation
    return normalized


def _targets(experiment: Experiment, labels: Tensor) -> Tensor:
    """Labels as the loss takes them: classes, one column of 0 and 1, or one-hot rows."""
    if experiment.loss == "cross_entropy":
        return labels
    if experiment.loss == "bce_with_logits":
        return labels.float()[:, None]
    return F.one_hot(labels, experiment.network.outputs).float()


def _swiss_roll(experiment: Experiment, data_seed: int) -> tuple[_Examples, _Examples]:
    """Two spirals, exactly as published: every generator call is in the published order."""
    num_pool = experiment.num_examples - experiment.base
    per_class = experiment.num_examples + _SPARE_POINTS
    points = _spirals(per_class, data_seed)
    base = np.random.RandomState(data_seed).choice(2 * per_class, experiment.base, replace=False)
    others = np.setdiff1d(np.arange(2 * per_class), base)
    pool = np.random.RandomState(data_seed).choice(others, num_pool, replace=False)
    chosen = np.concatenate([base, pool])
    return _Examples(points.inputs[chosen], points.labels[chosen]), _spirals(_SPIRAL_TEST_POINTS, data_seed + 1)


def _spirals(per_class: int, seed: int) -> _Examples:
    """Points [2 n, 2] of two classes, class 0 first."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(per_class, 1, generator=generator)
    noise_x, noise_y = (torch.randn(per_class, 1, generator=generator) for _ in range(2))
    angle = torch.sqrt(uniform) * 1.7 * 2 * math.pi
    x = -1.5 * torch.cos(angle) * angle + 0.3 * noise_x
    y = 1.5 * torch.sin(angle) * angle + 0.3 * noise_y
    points = torch.cat([x, y], dim=1)
    return _Examples(torch.cat([points, -points]), torch.arange(2).repeat_interleave(per_class))
