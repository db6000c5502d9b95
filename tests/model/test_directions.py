from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import basinvol as bv


@pytest.fixture(scope="module")
def space() -> bv.ParameterSpace:
    """Five tensors, of sizes that are and are not multiples of the generator's block of four."""
    return bv.ParameterSpace.of(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1), nn.Linear(1, 8, bias=False)))


@pytest.mark.parametrize("generator", ["philox", "legacy"])
def test_directions_have_unit_norm(space, generator):
    vectors = bv.Directions(space, 50, generator=generator).materialize(range(50), torch.float64)
    assert vectors.shape == (50, space.dim)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(50, dtype=torch.float64), rtol=1e-14, atol=0.0)


@given(seed=st.integers(0, 2**64 - 1), indices=st.lists(st.integers(0, 999), max_size=6))
@settings(max_examples=25, deadline=None)
def test_direction_depends_on_seed_and_index_alone(space, seed, indices):
    many = bv.Directions(space, 1000, seed).materialize(indices)
    assert many.shape == (len(indices), space.dim)
    for row, index in enumerate(indices):
        assert torch.equal(many[row], bv.Directions(space, index + 1, seed).materialize([index])[0])


def test_directions_of_other_seeds_and_indices_differ(space):
    vectors = torch.cat([bv.Directions(space, 3, seed).materialize(range(3)) for seed in (0, 1, 2**32, 2**64 - 1)])
    assert len(torch.unique(vectors, dim=0)) == 12


@pytest.mark.slow
def test_directions_are_uniform_on_the_sphere(space):
    dim, count = space.dim, 800
    u = bv.Directions(space, count).materialize(range(count), torch.float64)
    # E u = 0 and E uu' = I/P exactly, with Var u_i^2 = 2 (P-1) / (P^2 (P+2)) and Var u_i u_j = 1 / (P (P+2)).
    assert bool((u.mean(dim=0).abs() <= 5 / math.sqrt(dim * count)).all())
    second = u.T @ u / count - torch.eye(dim, dtype=torch.float64) / dim
    diagonal_error = 5 * math.sqrt(2 * (dim - 1) / (dim**2 * (dim + 2)) / count)
    assert bool((second.diagonal().abs() <= diagonal_error).all())
    assert bool(((second - second.diagonal().diag()).abs() <= 5 / math.sqrt(dim * (dim + 2) * count)).all())


def test_norms_are_those_of_the_gaussian_vectors(space):
    directions = bv.Directions(space, 4)
    norms = directions.norms([3, 0])
    assert norms.dtype == torch.float64
    for norm, index in zip(norms, (3, 0), strict=True):
        assert float(norm) == pytest.approx(math.hypot(*directions.normals(index).tolist()), rel=1e-12)


def test_legacy_generator_is_the_published_protocol(space):
    directions = bv.Directions(space, 5, generator="legacy")
    for index in range(5):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(index + 1)
            expected = torch.cat([torch.randn(shape).reshape(-1) for shape in space.shapes])
        assert torch.equal(directions.normals(index), expected)


@pytest.mark.parametrize("generator", ["philox", "legacy"])
def test_directions_neither_use_nor_move_torchs_own_state(space, generator):
    torch.manual_seed(1)
    first = bv.Directions(space, 2, generator=generator).materialize([1])
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = bv.Directions(space, 2, generator=generator).materialize([1])
    torch.manual_seed(1)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("generator", ["philox", "legacy"])
def test_directions_do_not_depend_on_torchs_default_type(space, generator):
    expected = bv.Directions(space, 2, generator=generator).materialize([0, 1], torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        found = bv.Directions(space, 2, generator=generator).materialize([0, 1], torch.float64)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_outside_64_bits_is_refused(space, seed):
    with pytest.raises(ValueError, match=r"`seed` must be between 0 and 2\^64 - 1, got "):
        bv.Directions(space, 1, seed)


@pytest.mark.parametrize("index", [-1, 3])
def test_index_that_does_not_exist_is_refused(space, index):
    with pytest.raises(ValueError, match=rf"direction index {index} is not between 0 and 2"):
        bv.Directions(space, 3).normals(index)


def test_unknown_generator_is_refused(space):
    with pytest.raises(ValueError, match="`generator` must be one of 'philox', 'legacy', got 'mersenne'"):
        bv.Directions(space, 3, generator="mersenne")
