"""Curves of log mass against cutoff, held against masses that are known at every cutoff."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import basinvol as bv
from basinvol import ground_truth as gt

SIGMA = 1.0


def known(case: gt.Case, cutoffs: torch.Tensor) -> torch.Tensor:
    """The log mass of a quadratic body on its own axes below each cutoff, at SIGMA = 1."""
    model, loss_fn, data = case.task()
    landscape, space = bv.Landscape(model, loss_fn, data), bv.ParameterSpace.of(model)
    curvatures = [float(landscape.losses(space.unflatten(unit))[-1]) for unit in torch.eye(case.dim)]
    return torch.tensor([gt.log_quadratic_cdf(np.array(curvatures), cutoff) for cutoff in cutoffs.tolist()])


@pytest.mark.parametrize("method", ["annealed", pytest.param("splitting", marks=pytest.mark.slow)])
def test_masses_at_the_cutoffs_that_chains_passed_are_those_known(method: str) -> None:
    case = gt.ellipsoid(6, 10.0)
    estimate = bv.estimate_volume(
        *case.task(),
        cutoff=case.cutoff / 10,
        scaling="none",
        measure="gaussian",
        sigma=SIGMA,
        method=method,
        num_directions=50,
    )
    curve = estimate.curve()
    assert len(curve) >= 10
    assert float(curve.cutoff[0]) == estimate.cutoff
    assert float(curve.log_mass[0]) == pytest.approx(estimate.log_volume, abs=1e-12)
    assert float(curve.standard_error[0]) == pytest.approx(estimate.standard_error, rel=1e-12)
    assert bool((curve.cutoff.diff() > 0).all())
    errors = curve.log_mass - known(case, curve.cutoff)
    assert float(curve.standard_error.max()) < 0.3
    assert float((errors / curve.standard_error).abs().max()) < 4.0
    assert curve.log_groups.shape == (len(curve), 16)


def test_a_basin_that_holds_most_of_the_measure_has_a_curve_of_one_row() -> None:
    case = gt.ellipsoid(4, 2.0)
    estimate = bv.estimate_volume(
        *case.task(), cutoff=1e3, scaling="none", measure="gaussian", sigma=SIGMA, method="annealed", num_directions=20
    )
    curve = estimate.curve()
    assert curve.to_dict() == {
        "cutoff": [1e3],
        "log_mass": [estimate.log_volume],
        "standard_error": [pytest.approx(0.0)],
    }


def test_a_curve_prints_a_table_and_gives_columns() -> None:
    rows = [(float(c), -1.0 / c, 0.1, torch.full((8,), -1.0 / c, dtype=torch.float64)) for c in range(50, 0, -1)]
    curve = bv.Curve.of(rows)
    lines = str(curve).splitlines()
    assert lines[0].split() == ["cutoff", "log", "mass", "error"]
    assert len(lines) == 21
    assert lines[1].split() == ["1", "-1.00", "0.10"]
    assert curve.to_dict()["cutoff"] == [float(c) for c in range(1, 51)]


def test_rays_know_their_own_cutoff_alone() -> None:
    estimate = bv.estimate_volume(*gt.ball(5).task(), cutoff=1.0, num_directions=50, scaling="none")
    with pytest.raises(ValueError, match="pass several cutoffs"):
        estimate.curve()
