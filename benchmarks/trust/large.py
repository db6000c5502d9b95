"""Masses at the size of real networks: a million parameters of known mass, 4,000 rows, convolutions.

Where a gradient takes 15 ms, the default options would take hours: 4,000 rows get a quarter of the chains and fewer
temperatures. Where it takes 150 ms, independent draws give a mass that is not too small.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth as gt

from .bodies import from_tests
from .lines import begin, record, row
from .networks import CUTOFF, networks

_FEW: dict[str, Any] = {"num_chains": 32, "num_groups": 8, "rounds": 1, "refine": 1}
# name, experiment, seed of the model, rows, width of the Gaussian in filter norms, method, its options
_NETWORKS: tuple[tuple[str, str, int, int, float, str, dict[str, Any]], ...] = (
    ("MNIST perceptron 784-256-128-10", "mnist-data-scaling", 0, 4000, 0.1, "annealed", _FEW),
    ("MNIST convolutions 32 and 64, then 3136-128-10", "mnist-cnn-data-scaling", 1, 540, 0.05, "direct", {}),
)


def large() -> None:
    """Measure every case."""
    begin("large")
    inputs = from_tests("test_learning_tasks").features(24, 1_000_000).float()
    case = gt.least_squares(inputs, torch.zeros(len(inputs)), 1e-3, sigmas=[1.0])
    name, truth = "regression of a million features", case.log_masses[1.0]
    _measure(name, case.task(), case.cutoff, 1.0, truth, "annealed", {})
    for name, experiment, seed, size, sigma, method, options in _NETWORKS:
        _, network, data = next(networks(experiment, "small", seed, size))
        _measure(name, (network, F.cross_entropy, data), CUTOFF, sigma, None, method, options)


def _measure(
    name: str,
    task: tuple[Any, Any, Any],
    cutoff: float,
    sigma: float,
    truth: float | None,
    method: str,
    options: dict[str, Any],
) -> None:
    est = bv.estimate_volume(
        *task,
        cutoff,
        20,
        scaling="none" if truth is not None else "filter",
        method=method,
        measure="gaussian",
        sigma=sigma,
        method_options=options,
    )
    of = {"case": name, "dim": est.dim, "rows": len(task[2][0]), "sigma": sigma, "truth": truth}
    record(part="large", **of, method=method, options=options, **row(est))
