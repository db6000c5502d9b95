"""Truths about regressions and perceptrons that learn from examples, against other ways to compute them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import basinvol as bv
from basinvol import ground_truth as gt


def features(num_examples: int, dim: int, seed: int = 0) -> Tensor:
    """Inputs whose spectrum falls as a power, as that of real features does. [N, P]"""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, dim + 1, dtype=torch.float64) ** -0.5
    return torch.randn(num_examples, dim, generator=generator, dtype=torch.float64) * scales


def mass(case: gt.Case, method: str, **options) -> bv.VolumeEstimate:
    """An estimate under a Gaussian of width 1, from 100 rays."""
    return bv.estimate_volume(
        *case.task(),
        cutoff=case.cutoff,
        num_directions=100,
        scaling="none",
        measure="gaussian",
        sigma=1.0,
        method=method,
        **options,
    )


@pytest.mark.parametrize("offset", [0.3, 2.0])
@pytest.mark.parametrize("limit", [0.2, 1.0, 30.0])
def test_shifted_squares_have_the_law_of_drawn_ones(offset: float, limit: float):
    generator = np.random.default_rng(0)
    weights, offsets = np.array([2.0, 0.7, 0.3, 0.0]), np.array([offset, -offset, 0.5, 9.0])
    drawn = (weights * (generator.standard_normal((1_000_000, 4)) + offsets) ** 2).sum(axis=1)
    share = float((drawn <= limit).mean())
    error = math.sqrt(share * (1.0 - share) / 1e6)
    assert abs(math.exp(gt.log_quadratic_cdf(weights, limit, offsets)) - share) < 4.5 * error + 1e-6


@pytest.mark.parametrize(("num_examples", "dim"), [(4, 9), (12, 5)])
def test_masses_and_volumes_of_regressions_are_those_of_drawn_points(num_examples: int, dim: int):
    inputs = features(num_examples, dim)
    targets = torch.randn(num_examples, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cutoff = 1.2 * float(targets.square().mean())
    case = gt.least_squares(inputs, targets, cutoff, sigmas=[0.8])
    drawn = 0.8 * torch.randn(400_000, dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inside = (drawn @ inputs.T - targets).square().mean(dim=1) <= cutoff
    share = float(inside.double().mean())
    assert abs(math.exp(case.log_masses[0.8]) - share) < 4.5 * math.sqrt(share / 400_000)
    # The volume is the mean over those points of 1 / density, where it is finite.
    weights = torch.exp(0.5 * (drawn / 0.8).square().sum(dim=1)) * inside * (0.8 * math.sqrt(2.0 * math.pi)) ** dim
    volume = float(weights.mean())
    if num_examples < dim:
        assert case.log_volume == math.inf
    else:
        assert abs(math.exp(case.log_volume) / volume - 1.0) < 4.5 * float(weights.std()) / math.sqrt(400_000) / volume


def test_the_evidence_is_that_of_a_normal_vector():
    inputs, sigma, noise = features(15, 6), 0.7, 0.3
    targets = torch.randn(15, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = gt.linear_evidence(inputs, targets, 15 / (2.0 * noise**2), sigma=sigma)
    covariance = sigma**2 * inputs @ inputs.T + noise**2 * torch.eye(15, dtype=torch.float64)
    density = torch.distributions.MultivariateNormal(torch.zeros(15, dtype=torch.float64), covariance)
    assert found - 7.5 * math.log(2.0 * math.pi * noise**2) == pytest.approx(float(density.log_prob(targets)), abs=1e-9)


def test_the_mass_is_the_laplace_transform_of_evidences():
    """E[exp(-beta L)] = beta times the integral of exp(-beta c) P(L <= c) over c, for every beta."""
    inputs, targets = features(5, 40), torch.full((5,), 0.2, dtype=torch.float64)
    cutoffs = np.exp(np.linspace(math.log(0.0401), math.log(400.0), 200))
    masses = np.exp([gt.least_squares(inputs, targets, c, sigmas=[1.0]).log_masses[1.0] for c in cutoffs])
    beta = 2.0
    above = float(np.trapezoid(beta * np.exp(-beta * cutoffs) * masses * cutoffs, np.log(cutoffs)))
    below = gt.least_squares(inputs, targets, 0.0401, sigmas=[1.0]).log_masses[1.0]
    rest = math.exp(below) * (1.0 - math.exp(-beta * 0.0401))  # at most: what lies below the first cutoff
    truth = math.exp(gt.linear_evidence(inputs, targets, beta))
    assert above <= truth * (1.0 + 1e-3)
    assert truth <= (above + rest) * (1.0 + 1e-3)


def test_bad_tasks_are_refused():
    with pytest.raises(ValueError, match="`cutoff` must be above the loss at w = 0"):
        gt.least_squares(torch.ones(2, 3), torch.ones(2), 0.5, sigmas=[1.0])
    with pytest.raises(ValueError, match=r"`inputs` must be \[N, P\] and `targets` \[N\]"):
        gt.linear_evidence(torch.ones(2, 3), torch.ones(3), 1.0)
    with pytest.raises(ValueError, match="`load` must be above 0 and below 2"):
        gt.random_labels(2.5)
    with pytest.raises(ValueError, match="`load` must be above 0"):
        gt.teacher_labels(-1.0)
    for labels in ([1, -1, 1], [1, 0, 1, 0]):
        with pytest.raises(ValueError, match="one of -1 or 1 for each of 4 examples, got"):
            gt.version_space(5, 4, labels=labels)


@pytest.mark.parametrize(
    ("value", "published"),
    [(gt.random_labels(1.0), -0.8558), (gt.teacher_labels(1.0), -0.5964), (gt.teacher_labels(8.0), -2.2654)],
)
def test_replica_values_are_the_published_ones(value: float, published: float):
    assert value == pytest.approx(published, abs=1e-4)


@pytest.mark.slow
def test_chains_measure_regressions_of_many_features():
    """Ten thousand features, of which twenty examples see as many directions."""
    inputs, targets = features(20, 10_000).float(), torch.zeros(20)
    case = gt.least_squares(inputs, targets, 1e-3, sigmas=[1.0])
    assert case.log_masses[1.0] < -60.0
    found = mass(case, "annealed")
    assert str(found.diagnostics.verdict) == "trustworthy"
    assert abs(found.log_volume - case.log_masses[1.0]) < max(4.0 * found.standard_error, 0.05)


@pytest.mark.slow
def test_version_spaces_of_all_labels_fill_the_sphere():
    """Those of opposite labels are opposite, so that half of them fill half of it."""
    shares = [
        mass(gt.version_space(8, 4, labels=[1, *labels]), "splitting").log_volume
        for labels in itertools.product([-1, 1], repeat=3)
    ]
    assert sum(map(math.exp, shares)) == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", [False, True])
def test_version_spaces_have_the_volume_of_the_replica_formula_on_average(teacher: bool):
    spaces = [gt.version_space(30, 15, teacher=teacher, seed=seed) for seed in range(8)]
    found = torch.tensor([mass(space, "annealed").log_volume for space in spaces])
    truth = 30 * (gt.teacher_labels if teacher else gt.random_labels)(0.5)
    error = float(found.std()) / math.sqrt(len(found))
    assert error < 0.08 * abs(truth)
    # The limit of large P is off by a constant: by 0.1 and 0.7 nats over 16 seeds that are not these.
    assert abs(float(found.mean()) - truth) < 3.0 * error + 1.0
