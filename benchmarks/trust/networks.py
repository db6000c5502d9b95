"""Minima of two experiments of the paper, by the published number, by rays and by chains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

import basinvol as bv
from basinvol.experiments.data.examples import load
from basinvol.experiments.describe.families import describe
from basinvol.experiments.run.training import build_network, loss_function, train

from .lines import begin, record, row

SIGMA, CUTOFF = 0.1, 0.1
METHODS = ("gaussian", "annealed", "splitting")
LEAST_DRAWN, MOST_DRAWS = -10.0, 1_000_000  # log masses that a million independent draws still tell


def networks(name: str, preset: str, model_seed: int, size: int) -> Iterator[tuple[int, torch.nn.Module, Any]]:
    """Yield minima of an experiment, trained on more and more examples, each with the first `size` examples.

    Args:
        name: The name of the experiment, as in `basinvol reproduce`.
        preset: "smoke", "small" or "paper".
        model_seed: The seed of the initialization; the data use the seed 10 + model_seed.
        size: The number of examples of the landscape, and the least number to train on.

    Yields:
        The number of examples of the training, the network, and the data of the landscape (inputs, targets).
    """
    experiment = describe(name, preset)
    split = load(experiment, 10 + model_seed)
    for examples in (experiment.base + level for level in experiment.levels):
        if examples < size:
            continue
        network = build_network(experiment.network, model_seed)
        data = split.inputs[:examples], split.targets[:examples]
        train(network, loss_function(experiment.loss), *data, experiment.training)
        yield examples, network, (split.inputs[:size], split.targets[:size])


def swiss_roll() -> None:
    """Measure four swiss-roll minima on the landscape of 100 points: P = 4,353, Gaussian of sigma 0.1 filter norms."""
    begin("swiss-roll")
    for examples, network, data in networks("swiss-roll", "paper", 1, 100):
        _measure(
            "swiss-roll",
            examples,
            network,
            F.binary_cross_entropy_with_logits,
            data,
            1000,
            ("preconditioned", *METHODS),
        )


def mnist() -> None:
    """Measure four MNIST minima on the landscape of 60 digits: P = 235,146, Gaussian of sigma 0.1 filter norms."""
    begin("mnist")
    for examples, network, data in networks("mnist-data-scaling", "small", 0, 60):
        _measure("mnist", examples, network, F.cross_entropy, data, 100, METHODS)


def _measure(
    part: str, examples: int, network: Any, loss_fn: Any, data: Any, count: int, methods: tuple[str, ...]
) -> None:
    plain = bv.estimate_volume(network, loss_fn, data, CUTOFF, count, probe=False)
    record(part=part, trained_on=examples, method="star", mean_power=plain.log_mean_power, **row(plain))
    for method in methods:
        est = bv.estimate_volume(network, loss_fn, data, CUTOFF, count, method=method, measure="gaussian", sigma=SIGMA)
        record(part=part, trained_on=examples, method=method, **row(est))
    if est.log_volume > LEAST_DRAWN:  # by the last method, chains
        _draw(part, examples, (network, loss_fn, data), count)


def _draw(part: str, examples: int, task: tuple[Any, Any, Any], count: int) -> None:
    """Measure a minimum by draws that assume nothing."""
    est = bv.estimate_volume(
        *task,
        CUTOFF,
        count,
        method="direct",
        method_options={"most_draws": MOST_DRAWS},
        measure="gaussian",
        sigma=SIGMA,
    )
    record(part=part, trained_on=examples, method=est.method, **row(est))
