"""What chains looked like at the end, as other packages take it."""

from __future__ import annotations

import pytest
import torch

import basinvol as bv
from basinvol import ground_truth as gt
from basinvol.estimators.mixing import rank_normalized_r_hat


def test_chains_of_an_estimate_are_what_arviz_takes() -> None:
    arviz_stats = pytest.importorskip("arviz_stats")
    case = gt.ball(5)
    options = {"num_chains": 16, "num_final": 20}
    found = bv.estimate_volume(
        *case.task(), case.cutoff, 20, scaling="none", method="annealed", method_options=options, measure="gaussian",
        sigma=1.0, probe=False,
    )  # fmt: skip
    tree = found.to_datatree()
    posterior = tree["posterior"]
    assert dict(posterior.sizes) == {"chain": 16, "draw": 20, "coordinate": 5}
    inside = posterior["distance"].values <= 1.0
    assert 0.2 < inside.mean() < 1.0  # of the Gibbs measure, whose mean loss is the cutoff
    summary = arviz_stats.summary(tree, var_names=["loss"])
    assert float(summary.loc["loss", "mean"]) == pytest.approx(float(posterior["loss"].mean()), rel=0.01)


@pytest.mark.parametrize("apart", [0.0, 1.5])
def test_r_hat_is_that_of_arviz(apart: float) -> None:
    array_stats = pytest.importorskip("arviz_stats.base").array_stats
    torch.manual_seed(0)
    samples = torch.randn(20, 8, 1, dtype=torch.float64) + apart * torch.randn(1, 8, 1, dtype=torch.float64)
    expected = float(array_stats.rhat(samples[..., 0].numpy(), chain_axis=1, draw_axis=0, method="z_scale"))
    assert float(rank_normalized_r_hat(samples)[0]) == pytest.approx(expected, rel=1e-6)


def test_methods_without_chains_say_so() -> None:
    case = gt.ball(3)
    found = bv.estimate_volume(*case.task(), case.cutoff, 10, scaling="none", probe=False)
    with pytest.raises(ValueError, match="method 'star' keeps no chains; use method='annealed'"):
        found.to_datatree()
