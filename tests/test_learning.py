"""Learning coefficients, held against those that are known."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth as gt


@pytest.mark.slow
def test_a_quadratic_has_half_its_parameters(tmp_path: Path) -> None:
    found = bv.learning_coefficient(*gt.ellipsoid(4, 3.0).task())
    assert found.is_trustworthy, str(found)
    assert found.value == pytest.approx(2.0, rel=0.05)
    assert abs(found.value - 2.0) < 4.0 * found.standard_error
    assert 0 < found.smallest < found.largest / 2.718
    assert str(found).splitlines()[1].endswith("(P/2 is 2.0)")
    found.plot().savefig(tmp_path / "line.png")


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "known"), [((2, 2, 2), 1.5), ((3, 2, 3), 2.5), ((1, 3, 5), 1.5)])
def test_singular_minima_have_less(dims: tuple[int, int, int], known: float) -> None:
    case = gt.reduced_rank_regression(*dims)
    assert case.learning_coefficient == known
    # One run has an error of 2 to 5 %.
    found = [bv.learning_coefficient(*case.task(), seed=seed) for seed in (1, 2, 3)]
    assert all(one.is_straight for one in found), [str(one) for one in found]
    mean = statistics.fmean(one.value for one in found)
    assert mean == pytest.approx(known, rel=0.1)
    assert abs(mean - known) < 4.0 * math.hypot(*(one.standard_error for one in found)) / len(found)


def test_published_values_of_reduced_rank_regression() -> None:
    # Aoyagi and Watanabe 2005, and the side conditions of their theorem.
    known = {(100, 50, 100): 2187.5, (3, 3, 3): 3.5, (10, 3, 10): 14.0, (2, 1, 5): 1.0, (5, 1, 2): 1.0, (1, 5, 2): 1.0}
    for dims, value in known.items():
        assert gt.reduced_rank_regression(*dims).learning_coefficient == value


def test_what_is_no_minimum_is_refused() -> None:
    model = nn.Linear(3, 1, bias=False)
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    data = inputs, model(inputs).detach()  # a maximum
    with pytest.raises(ValueError, match="`model` must be at a minimum: under `sigma` = 1 the loss changes by -"):
        bv.learning_coefficient(model, lambda out, y: -F.mse_loss(out, y), data)


def test_a_cutoff_that_is_too_high_is_refused() -> None:
    with pytest.raises(ValueError, match="`cutoff` must be far below the losses of the measure"):
        bv.learning_coefficient(*gt.ball(3).task(), cutoff=1e3)
