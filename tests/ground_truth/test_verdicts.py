"""The verdict itself is tested: on bodies whose volume is known it never calls a wrong number trustworthy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import basinvol as bv
from basinvol import ground_truth as gt
from basinvol.calibration import Calibration, calibrate

NUM_DIRECTIONS = 100
WRONG, CLOSE, MIN_ESS = 2.0, 0.5, 50.0

pytestmark = pytest.mark.usefixtures("rays_together")


def bodies(seed: int) -> list[gt.Case]:
    """One of each kind; `seed` turns those that can be turned."""
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(2, 60))
    return [
        gt.ball(dim, float(rng.uniform(0.1, 10))),
        gt.ellipsoid(int(rng.integers(2, 9)), 2.0, seed=seed),
        gt.ellipsoid(dim, 2.0, rotated=True, seed=seed),
        gt.ellipsoid(10, 10.0, rotated=True, seed=seed),
        gt.ellipsoid(dim, 30.0, seed=seed),
        gt.ellipsoid(50, 1000.0, rotated=True, seed=seed),
        gt.long_axes(30, 1000.0, seed=seed),
        gt.long_axes(dim, 30.0, num_axes=2, seed=seed),
        gt.long_axes(60, 20.0, rotated=False),
        gt.long_axes(100, 10.0, num_axes=3, seed=seed),
        gt.two_scales(20, 10.0, sigma=0.5),
        gt.lp_ball(int(rng.integers(2, 8)), 1.0),
        gt.lp_ball(30, 1.0),
        gt.lp_ball(100, 1.0),
        gt.lp_ball(12, 0.7),
        gt.lp_ball(int(rng.integers(2, 8)), math.inf),
        gt.mixed([4.0] * dim, np.logspace(0, 0.5, dim).tolist()),
        gt.mixed([1.0, 2.0, 6.0], [1.0, 2.0, 0.5]),
        gt.star(0.3, 3),
        gt.needle(10, 10.0 ** rng.uniform(3, 7), 0.4),
        gt.needle(8, 10.0 ** rng.uniform(3, 7), 0.3, along="diagonal"),
        gt.with_dead_parameters(30, 1),
        gt.with_dead_parameters(50, 2),
        gt.with_dead_parameters(3, 1),
        gt.half_space(dim),
        gt.slab(10),
        gt.regression(6, 3.0, seed=seed),
        gt.regression(40, 2.0, rank=30, seed=seed),
    ]


NUM_SEEDS = 8


@pytest.fixture(scope="module")
def measured(rays_together: None) -> list[Calibration]:
    """Probes can only take trust away, so that they are left out where there is none, as for large networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinvol.probing.policy._CHEAP_PRODUCTS", 0)
        return [
            row
            for seed in range(NUM_SEEDS)
            for row in calibrate(bodies(seed), num_directions=NUM_DIRECTIONS, seed=seed)
        ]


def is_trusted(row: Calibration) -> bool:
    return row.estimate.diagnostics.verdict is bv.Verdict.TRUSTWORTHY


@pytest.mark.slow
def test_verdict_is_never_trustworthy_where_the_error_exceeds_two_nats(measured: list[Calibration]) -> None:
    assert len(measured) >= 200
    wrong = [row for row in measured if not abs(row.error) <= WRONG]
    assert len(wrong) >= 80, "enough of them are hard"
    assert [row.case.name for row in wrong if is_trusted(row)] == []


@pytest.mark.slow
def test_verdict_is_trustworthy_on_nine_of_ten_easy_cases(measured: list[Calibration]) -> None:
    easy = [row for row in measured if abs(row.error) < CLOSE and row.estimate.diagnostics.ess > MIN_ESS]
    assert len(easy) >= 50
    timid = [f"{row.case.name}: {row.estimate.diagnostics.reason}" for row in easy if not is_trusted(row)]
    assert len(timid) <= 0.1 * len(easy), timid


@pytest.mark.slow
def test_interval_holds_the_truth_where_one_is_given(measured: list[Calibration]) -> None:
    """95 % intervals of independent cases: far fewer than four fifths would be chance once in ten thousand."""
    given = [row for row in measured if row.estimate.interval is not None]
    hits = [low - 1e-3 <= row.truth <= high + 1e-3 for row in given for low, high in [row.estimate.interval or (0, 0)]]
    assert len(given) > 50
    assert np.mean(hits) > 0.85


@pytest.mark.slow
def test_every_verdict_other_than_trustworthy_comes_with_the_markov_bound_alone(measured: list[Calibration]) -> None:
    for row in measured:
        assert (row.estimate.interval is None) != is_trusted(row)
        assert row.estimate.diagnostics.reason.endswith(".")
    # The bound holds for a finite truth with probability 95 %; it is far from tight, so that it should never fail here.
    finite = [row for row in measured if math.isfinite(row.truth)]
    assert np.mean([row.estimate.lower_bound <= row.truth for row in finite]) > 0.95


@pytest.mark.slow
def test_table_of_known_volumes(record_calibration) -> None:
    """One line for every case of the public table; the verdict never trusts a wrong number there either."""
    rows = calibrate(num_directions=100) + calibrate(num_directions=100, measure="gaussian")
    record_calibration(rows)
    assert {row.case.name for row in rows} == {case.name for case in gt.table()}
    for row in rows:
        assert not is_trusted(row) or abs(row.error) <= WRONG, row.case.name


@pytest.mark.parametrize("case", gt.table(), ids=lambda case: case.name)
def test_cases_are_modules_at_their_center(case: gt.Case) -> None:
    model, loss_fn, (inputs, targets) = case.task()
    assert sum(p.numel() for p in model.parameters()) == case.dim
    with torch.no_grad():
        assert float(loss_fn(model(inputs), targets)) < case.cutoff
