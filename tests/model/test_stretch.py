"""Stretched directions: only backends that take vectors solve them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

import basinvol as bv
from basinvol.model.stretch import Stretch, StretchedDirections


def along_first_axis(space: bv.ParameterSpace, count: int) -> StretchedDirections:
    axes = torch.zeros(space.dim, 1)
    axes[0] = 1.0
    return StretchedDirections(space, count, seed=1, stretch=Stretch.along_axes(axes, torch.tensor([50.0])))


def test_a_backend_that_makes_its_own_directions_refuses_stretched_ones(trained, blobs):
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    stretched = along_first_axis(bv.ParameterSpace.of(trained), 5)
    message = "'native' cannot be used: it makes directions of the kinds philox, legacy itself, and these are Stretched"
    with pytest.raises(bv.BackendUnavailable, match=message):
        bv.find_radii(landscape, stretched, [0.1], backend="native")


def test_auto_solves_stretched_directions_and_not_the_plain_ones(trained, blobs):
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    space = bv.ParameterSpace.of(trained)
    stretched = along_first_axis(space, 5)
    found = bv.find_radii(landscape, stretched, [0.1]).at()
    expected = bv.find_radii(landscape, stretched, [0.1], backend="reference").at()
    assert torch.allclose(found.radius, expected.radius, rtol=1e-5)
    plain = bv.find_radii(landscape, bv.Directions(space, 5, seed=1), [0.1], backend="reference").at()
    assert not torch.allclose(found.radius, plain.radius, rtol=1e-2, atol=0.0)


def test_directions_of_a_class_of_ones_own_are_not_taken_for_plain_ones(trained, blobs):
    class Mirrored(bv.Directions):
        def materialize(self, *arguments, **options):
            return -super().materialize(*arguments, **options)

    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    with pytest.raises(bv.BackendUnavailable, match="and these are Mirrored"):
        bv.find_radii(landscape, Mirrored(bv.ParameterSpace.of(trained), 5), [0.1], backend="native")


def test_a_radius_along_a_stretched_direction_is_that_of_the_body(body, body_loss, one_example):
    """Along v the ellipsoid (v_1 / 3)^2 + v_2^2 + ... <= 1 ends at 1 / |(v_1 / 3, v_2, ...)|."""
    weights = torch.tensor([1 / 9, 1.0, 1.0, 1.0], dtype=torch.float64)
    model = body(lambda w: (weights * w * w).sum(), 4)
    directions = along_first_axis(bv.ParameterSpace.of(model), 6)
    landscape = bv.Landscape(model, body_loss, one_example)
    radii = bv.find_radii(landscape, directions, [1.0], scaling="none").at()
    vectors = directions.materialize(range(6), torch.float64)
    torch.testing.assert_close(radii.radius, (weights * vectors**2).sum(dim=1).rsqrt(), rtol=1e-4, atol=0.0)
    assert math.isclose(float(torch.linalg.vector_norm(vectors[0])), 1.0, rel_tol=1e-12)


def test_replacing_a_field_keeps_the_kind(trained):
    stretched = along_first_axis(bv.ParameterSpace.of(trained), 5)
    assert dataclasses.replace(stretched, count=3).kind == "StretchedDirections"
    assert bv.Directions(stretched.space, 2, generator="legacy").kind == "legacy"
