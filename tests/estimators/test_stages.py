"""No two stages of an estimate share random numbers."""

from __future__ import annotations

import itertools

import pytest
import torch

import basinvol as bv
from basinvol import ground_truth
from basinvol.estimators import Task, find_method
from basinvol.estimators.stages import Stage, stage_seed
from basinvol.model.landscape import Landscape
from basinvol.model.parameters import ParameterSpace


@pytest.fixture
def task() -> Task:
    model, loss_fn, data = ground_truth.ball(5).task()
    space = ParameterSpace.of(model)
    return Task(Landscape(model, loss_fn, data), space, space.scale(model, "none"), 1.0, 40, seed=3)


def test_every_round_of_every_stage_has_a_seed_of_its_own():
    seeds = [stage_seed(7, stage, round_) for stage, round_ in itertools.product(Stage, range(200))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_the_rays_of_an_estimate_are_the_directions_of_its_seed(task):
    assert task.directions(4).seed == 3
    plain = bv.Directions(task.space, 4, seed=3)
    assert torch.equal(task.directions(4).materialize(range(4)), plain.materialize(range(4)))


def test_twenty_rounds_of_a_fit_share_nothing_with_the_final_rays(task):
    """Round 20 of the pilot once was the stream of the final sample."""
    rounds = [task.directions(1, Stage.PILOT, round_).seed for round_ in range(100)]
    assert not {task.directions(1, stage).seed for stage in (Stage.UNIFORM, Stage.STRETCHED)} & set(rounds)


def test_rounds_are_bounded():
    with pytest.raises(ValueError, match="`rounds` must be at most 100, got 101"):
        find_method("preconditioned", {"rounds": 101})


def test_generators_of_stages_differ(task):
    draws = [torch.rand(3, generator=task.generator_of(stage)) for stage in Stage]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(draws, 2))
