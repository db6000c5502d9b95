"""Error bars mean what they say: errors over them have mean zero and variance one."""

from __future__ import annotations

import math

import pytest
import torch

import basinvol as bv
from basinvol.estimators.groups import few_groups_factor
from basinvol.ground_truth import ball, golf_hole, half_space, singular_disk, slabs
from basinvol.ground_truth.case import Case

_SEEDS = 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "sigma"),
    [
        (half_space(10, 1.0, (1.0,)), 1.0),
        (slabs(10, 0.3, 2), 1.0),
        (ball(8, 1.0, (0.5,)), 0.5),
        (golf_hole(5, 0.8), 1.0),
        (singular_disk(1e-4, (0.5,)), 0.5),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_errors_of_splitting_are_those_of_its_error_bars(case: Case, sigma: float):
    ratios = []
    for seed in range(_SEEDS):
        est = bv.estimate_volume(
            *case.task(),
            cutoff=case.cutoff,
            num_directions=20,
            seed=seed,
            scaling="none",
            measure="gaussian",
            sigma=sigma,
            method="splitting",
            probe=False,
        )
        assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
        ratios.append((est.log_volume - case.log_masses[sigma]) / est.standard_error)
    ratio = torch.tensor(ratios)
    # 3.3 standard errors of a mean, and the 99.9 % range of a standard deviation, of 16 values of Student's t.
    assert abs(float(ratio.mean())) < 3.3 / math.sqrt(_SEEDS)
    assert 0.4 < float(ratio.std()) < 1.8


def test_few_groups_are_widened_as_students_t():
    assert few_groups_factor(8) == pytest.approx(math.sqrt(7 / 5))
    assert few_groups_factor(1000) == pytest.approx(1.0, abs=2e-3)
    draws = torch.randn(20_000, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ratio = draws.mean(dim=1) / (few_groups_factor(8) * draws.std(dim=1) / math.sqrt(8))
    assert float(ratio.std()) == pytest.approx(1.0, abs=0.03)
