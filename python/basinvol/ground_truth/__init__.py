"""Landscapes whose basin is known exactly, as modules with a loss and data: for tests, and to calibrate any setting.

>>> import basinvol as bv
>>> case = bv.ground_truth.ellipsoid(4, condition=4.0, rotated=True)
>>> est = bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=200, scaling="none")
>>> print(est.diagnostics.verdict)
trustworthy
>>> abs(est.log_volume - case.log_volume) < 4 * est.standard_error
True
"""

from __future__ import annotations

import math

import numpy as np

from .bodies import (
    ball,
    ellipsoid,
    half_space,
    long_axes,
    lp_ball,
    mixed,
    needle,
    regression,
    slab,
    star,
    two_scales,
    with_dead_parameters,
)
from .case import Case, Gauge, gauge_case, mean_output
from .clusters import many_balls
from .combined import dilated, rotated, side_by_side
from .drawn import drawn_bodies
from .families import hard_table
from .perceptrons import random_labels, teacher_labels, version_space
from .planted import Bracket, planted_evidence
from .products import cross, singular_disk
from .regressions import least_squares, linear_evidence
from .revolution import funnel, golf_hole, hidden_balls, tube, two_basins, union
from .singular import Singular, reduced_rank_regression
from .spectra import log_quadratic_cdf, power_law, slabs

__all__ = [
    "Bracket",
    "Case",
    "Gauge",
    "Singular",
    "ball",
    "cross",
    "dilated",
    "drawn_bodies",
    "ellipsoid",
    "funnel",
    "gauge_case",
    "golf_hole",
    "half_space",
    "hard_table",
    "hidden_balls",
    "least_squares",
    "linear_evidence",
    "log_quadratic_cdf",
    "long_axes",
    "lp_ball",
    "many_balls",
    "mean_output",
    "mixed",
    "needle",
    "planted_evidence",
    "power_law",
    "random_labels",
    "reduced_rank_regression",
    "regression",
    "rotated",
    "side_by_side",
    "singular_disk",
    "slab",
    "slabs",
    "star",
    "table",
    "teacher_labels",
    "tube",
    "two_basins",
    "two_scales",
    "union",
    "version_space",
    "with_dead_parameters",
]


def table() -> tuple[Case, ...]:
    """Cases from easy to impossible, one of each kind and more of those that mislead."""
    return (
        ball(10, 2.0),
        ball(1000, 40.0),
        ellipsoid(2, 100.0),
        ellipsoid(10, 10.0),
        ellipsoid(30, 2.0, rotated=True),
        ellipsoid(30, 100.0),
        ellipsoid(100, 100.0, rotated=True),
        ellipsoid(1000, 1000.0),
        two_scales(40, 100.0, sigma=0.5),
        long_axes(30, 1000.0),
        long_axes(100, 10.0, num_axes=3),
        lp_ball(5, 1.0),
        lp_ball(30, 1.0),
        lp_ball(200, 1.0),
        lp_ball(6, math.inf),
        mixed([4.0] * 200, np.logspace(0, 1, 200).tolist()),
        mixed([1.0, 2.0, 3.0, 6.0] * 50, np.logspace(-0.5, 0.5, 200).tolist()),
        mixed([1.0, 2.0, 3.0, 6.0], [0.5, 1.0, 0.8, 1.5], cutoff=0.8),
        star(),
        needle(10, 1e4, 0.5),
        needle(10, 1e6, 0.3, along="diagonal"),
        with_dead_parameters(30, 1, sigmas=(0.3,)),
        with_dead_parameters(100, 5, sigmas=(0.1,)),
        half_space(3, sigmas=(1.0,)),
        slab(5, sigmas=(1.0,)),
        regression(6, 10.0),
        regression(50, 100.0),
        regression(40, 2.0, rank=30),
    )
