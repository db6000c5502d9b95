"""Trajectories as wholes, in the extension, against the same step by step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.motion import Arrived
from basinvol.estimators.batched import BatchedLoss
from basinvol.estimators.hamiltonian import Chains, Gibbs, Hamiltonian, Whitening

SIGMA = 0.1


def of_network(trained, blobs, is_measure: bool, num_threads: int = 1) -> Hamiltonian:
    """Moves toward the basin of a small network, from the Gaussian measure or from a Gaussian that was fitted."""
    space = bv.ParameterSpace.of(trained)
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    energy = BatchedLoss(landscape, space, space.flatten(trained), space.scale(trained), num_threads)
    if is_measure:
        whitening = Whitening(torch.zeros(space.dim).double(), torch.full((space.dim,), SIGMA, dtype=torch.float64))
    else:
        generator = torch.Generator().manual_seed(5)
        mean, spread = torch.randn(2, space.dim, generator=generator, dtype=torch.float64)
        whitening = Whitening(0.01 * mean, SIGMA * (1.0 + 0.1 * spread))
    precision = SIGMA**-2 if is_measure else 0.0
    gibbs = Gibbs(300.0, whitening.precision or precision, float(energy.losses(torch.zeros(1, space.dim))))
    return Hamiltonian(energy, whitening, gibbs, 10, 0.2, torch.Generator().manual_seed(0))


def both_ways(hamiltonian: Hamiltonian, t: float = 0.6) -> tuple[Arrived, Arrived, Chains]:
    """The ends of the same trajectories, as wholes and step by step, and where they begin."""
    chains = hamiltonian.reference(12)
    momentum = torch.randn(chains.x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y, motion = hamiltonian.whitening.to_y(chains.x), hamiltonian._motion(t, 0.2, 5)
    whole = hamiltonian.energy.moved(motion, y.clone(), momentum.clone(), chains.gradient)
    return whole, hamiltonian._moved(motion, y.clone(), momentum.clone(), chains), chains


@pytest.mark.parametrize("is_measure", [True, False])
def test_a_whole_trajectory_is_what_its_steps_make(trained, blobs, is_measure) -> None:
    hamiltonian = of_network(trained, blobs, is_measure)
    assert hamiltonian.energy.takes_motion
    whole, steps, chains = both_ways(hamiltonian)
    for field in dataclasses.fields(Arrived):
        found, expected = getattr(whole, field.name), getattr(steps, field.name)
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale, msg=field.name)
    assert (whole.x - chains.x).norm(dim=1).min() > SIGMA  # they have moved


def test_a_gradient_that_is_no_number_gives_no_kick(trained, blobs) -> None:
    hamiltonian = of_network(trained, blobs, is_measure=True)
    chains = hamiltonian.reference(3)
    chains.gradient[1] = torch.nan
    chains.gradient[2, ::2] = torch.inf
    motion, y = hamiltonian._motion(1.0, 0.2, 1), hamiltonian.whitening.to_y(chains.x)
    whole = hamiltonian.energy.moved(motion, y.clone(), torch.ones_like(y), chains.gradient)
    steps = hamiltonian._moved(motion, y.clone(), torch.ones_like(y), chains)
    assert whole.momentum.isfinite().all()
    torch.testing.assert_close(whole.y, steps.y, rtol=1e-9, atol=1e-9)


def test_moves_do_not_depend_on_threads(trained, blobs) -> None:
    ends = []
    for num_threads in (1, 3):
        hamiltonian = of_network(trained, blobs, is_measure=True, num_threads=num_threads)
        chains = hamiltonian.reference(12)
        for t in (0.1, 0.5, 1.0):
            chains = hamiltonian.move(chains, t)
        ends.append(chains)
    assert torch.equal(ends[0].x, ends[1].x)
    assert torch.equal(ends[0].gradient, ends[1].gradient)
    assert 0.3 < hamiltonian.acceptance <= 1.0
