"""Families of bodies that mislead estimates: sizes, offsets, rotations and thinness varied."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .bodies import ball, ellipsoid, half_space, long_axes, lp_ball, needle
from .case import Case
from .clusters import many_balls
from .combined import dilated, rotated, side_by_side
from .products import cross, singular_disk
from .revolution import funnel, golf_hole, hidden_balls, tube, two_basins
from .spectra import power_law, slabs


def hard_table() -> tuple[Case, ...]:
    """At least 120 bodies, none of which is in `table`, from 2 to 2,000 dimensions."""
    return (
        *_hidden_balls(),
        *_many_balls(),
        *_two_basins(),
        *_holes_and_ways(),
        *_crosses(),
        *_slabs(),
        *_spectra(),
        *_mixtures(),
        *_easy(),
    )


def _hidden_balls() -> Iterator[Case]:
    """Fat balls in cones that uniform rays meet often, seldom or never."""
    for dim in (5, 20, 50, 100, 200, 500, 2000):
        yield hidden_balls(dim, axis=dim)
    for dim, offset, radius in ((100, 0.9, 1.15), (200, 1.1, 1.2), (200, 2.0, 2.2), (500, 1.4, 1.5), (1000, 1.2, 1.4)):
        yield hidden_balls(dim, offset, radius, axis=dim + 1)
    for dim in (10, 100, 200, 1000):
        yield hidden_balls(dim, 1.05, 1.25, count=2, axis=dim + 2)
    for dim in (20, 200):
        yield hidden_balls(dim, 1.1, 1.3, axis="diagonal")
        yield hidden_balls(dim, 1.1, 1.3, axis="coordinate")
    yield hidden_balls(30, sigmas=(0.3,), axis=33)
    again = hidden_balls(100, sigmas=(0.3,), axis=103)
    yield dataclasses.replace(again, name=f"rotated {again.name}")  # one of the first, along another axis


def _many_balls() -> Iterator[Case]:
    """Balls that add little one by one, in cones that rays do not meet and in parts that no ray sees."""
    for dim, count, offset, radius in (
        (60, 60, 0.95, 0.97),
        (100, 3, 0.9, 0.98),
        (100, 100, 0.9, 0.98),
        (200, 200, 0.9, 0.99),
        (1000, 1000, 0.95, 0.9955),
        (10, 10, 6.0, 0.97),
        (20, 20, 4.0, 0.97),
        (50, 2, 5.0, 0.96),
        (50, 50, 5.0, 0.96),
    ):
        yield many_balls(dim, count, offset, radius, seed=dim + count)


def _two_basins() -> Iterator[Case]:
    """A second basin, wider or narrower, nearer or farther, whose funnel catches chains."""
    for dim in (5, 10, 30, 60, 200):
        yield two_basins(dim)
    for dim, distance, floor, curvature in (
        (10, 3.0, 0.5, 0.25),
        (30, 3.0, 0.9, 0.1),
        (30, 6.0, 0.8, 0.25),
        (50, 4.0, 0.6, 0.25),
        (20, 2.5, 0.8, 0.5),
        (100, 6.0, 0.5, 0.1),
        (30, 4.0, 0.95, 0.25),
    ):
        yield two_basins(dim, distance, floor, curvature, axis="random")
    for dim in (10, 30, 100):
        yield dilated(two_basins(dim), 0.1)


def _holes_and_ways() -> Iterator[Case]:
    """Golf holes, tubes and funnels."""
    for dim, radius in ((3, 0.5), (10, 1.0), (30, 2.0), (100, 5.0), (300, 12.0)):
        yield golf_hole(dim, radius)
    for dim, length, radius in ((3, 5.0, 0.3), (5, 20.0, 0.3), (10, 5.0, 0.7), (30, 3.0, 0.9), (100, 10.0, 0.98)):
        yield tube(dim, length, radius, axis=dim)
    for dim, length, neck, mouth in (
        (3, 4.0, 0.1, 1.5),
        (5, 3.0, 0.1, 1.5),
        (10, 4.0, 0.2, 2.0),
        (30, 3.0, 0.5, 1.5),
        (100, 2.5, 0.7, 1.2),
        (200, 2.0, 0.8, 1.3),
    ):
        yield funnel(dim, length, neck, mouth, axis=dim)
    for dim, length, width in ((5, 100.0, 0.5), (20, 1000.0, 0.5), (50, 10.0, 0.9)):
        yield needle(dim, length, width, along="diagonal")


def _crosses() -> Iterator[Case]:
    """Products of two and three parameters that must be small."""
    for num_factors in (1, 2, 4, 8):
        for depth in (0.1, 1e-3, 1e-5):
            yield cross(num_factors, depth)
    for num_factors, depth in ((1, 1e-2), (2, 1e-3), (5, 1e-2)):
        yield cross(num_factors, depth, order=3)
    for num_factors in (1, 3):
        yield rotated(cross(num_factors, 1e-2), seed=num_factors)
    for cutoff in (1e-2, 1e-4, 1e-8):
        yield singular_disk(cutoff, sigmas=(0.5,))


def _slabs() -> Iterator[Case]:
    """Slabs and half-spaces under a Gaussian, down to a millionth of its width."""
    for dim, width, count in ((2, 0.5, 1), (10, 0.1, 1), (50, 0.01, 1), (200, 1e-4, 1), (20, 1e-6, 1), (10, 0.3, 4)):
        yield slabs(dim, width, count)
        yield slabs(dim, width, count, rotated=True)
    for dim, distance in ((2, 0.2), (10, 1.0), (50, 0.5), (200, 2.0), (1000, 1.0)):
        yield half_space(dim, distance, sigmas=(1.0,))


def _spectra() -> Iterator[Case]:
    """Quadratic basins from round to hopeless."""
    for dim, largest, power in (
        (10, 10.0, 1.0),
        (30, 100.0, 1.0),
        (100, 1e3, 2.0),
        (300, 1e4, 2.0),
        (300, 1e6, 4.0),
        (100, 1e6, 3.0),
        (1000, 1e2, 1.0),
        (2000, 10.0, 0.5),
    ):
        yield power_law(dim, largest, power, sigmas=(1.0,))
    for dim, largest, power in ((10, 100.0, 2.0), (50, 1e3, 2.0), (300, 1e4, 2.0)):
        yield power_law(dim, largest, power, rotated=True, sigmas=(1.0,), seed=dim)
    for dim, rank in ((100, 3), (1000, 10), (2000, 30)):
        yield power_law(dim, 1e3, 1.0, rank=rank, sigmas=(0.3, 1.0))


def _mixtures() -> Iterator[Case]:
    """Easy coordinates beside hard ones, and turned."""
    yield side_by_side([ball(20), cross(2, 1e-3)])
    yield side_by_side([ball(50), hidden_balls(100)])
    yield side_by_side([lp_ball(10, 1.0), cross(1, 1e-2)])
    yield side_by_side([ellipsoid(20, 100.0), funnel(10, 4.0, 0.2, 2.0)])
    yield side_by_side([two_basins(20), slabs(5, 0.1)])
    yield side_by_side([two_basins(10), half_space(10, 0.5, sigmas=(1.0,))])
    yield side_by_side([power_law(20, 100.0, 1.0, sigmas=(1.0,)), slabs(5, 0.01, 2)])
    yield rotated(side_by_side([ball(10), cross(2, 1e-2)]), seed=5)
    yield rotated(side_by_side([hidden_balls(20), hidden_balls(30)]), seed=6)
    yield rotated(side_by_side([ball(5, sigmas=(1.0,)), slabs(5, 0.2, 3)]), seed=7)


def _easy() -> Iterator[Case]:
    """Bodies that a method should get right and say so."""
    for dim, radius in ((5, 0.5), (50, 3.0), (500, 10.0)):
        yield ball(dim, radius, sigmas=(0.5,))
    for dim, condition in ((5, 3.0), (20, 2.0), (200, 1.3)):
        yield ellipsoid(dim, condition, rotated=True, seed=dim)
    yield long_axes(10, 3.0)
    for dim in (4, 15):
        yield lp_ball(dim, 3.0)
