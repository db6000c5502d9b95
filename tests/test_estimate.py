from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import basinvol as bv


@pytest.fixture(scope="module")
def estimated(trained, blobs) -> bv.VolumeEstimate:
    return bv.estimate_volume(trained, F.cross_entropy, blobs, cutoff=0.1, num_directions=40, seed=3)


def test_log_volume_is_the_sum_of_its_terms(estimated, trained):
    dim = sum(p.numel() for p in trained.parameters())
    weights = [p.detach() for p in trained.parameters() if p.ndim == 2]
    scale = sum(weight.shape[1] * float(weight.norm(dim=1).log().sum()) for weight in weights)
    log_weights = dim * estimated.radii.radius.log()
    assert estimated.dim == dim
    assert estimated.log_unit_ball == pytest.approx(0.5 * dim * math.log(math.pi) - math.lgamma(dim / 2 + 1))
    assert estimated.log_mean_power == pytest.approx(float(log_weights.logsumexp(0)) - math.log(40))
    assert estimated.log_det_scale == pytest.approx(scale, rel=1e-5)
    terms = estimated.log_unit_ball + estimated.log_mean_power + estimated.log_det_scale
    assert estimated.log_volume == pytest.approx(terms)
    assert estimated.lower_bound == pytest.approx(terms - math.log(20))


def test_verdict_is_printed_before_the_number(estimated):
    lines = str(estimated).splitlines()
    assert lines[0].startswith(f"verdict          {estimated.diagnostics.verdict}: ")
    assert lines[1].startswith(f"log volume       {estimated.log_volume:,.2f} nats")
    assert "native" in str(estimated)


def test_error_that_is_not_valid_is_not_printed_as_one(estimated):
    assert estimated.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert f"{estimated.standard_error:.2f} (not valid: lower bound)" in str(estimated)


def test_numbers_survive_json(estimated):
    numbers = json.loads(json.dumps(estimated.to_dict(), allow_nan=False))
    assert numbers["log_volume"] == estimated.log_volume
    assert numbers["verdict"] == "lower bound"
    assert numbers["cutoff"] == 0.1
    assert numbers["seed"] == 3


def test_data_frame_has_a_row_for_every_direction(estimated):
    frame = estimated.to_dataframe()
    assert list(frame["direction"]) == list(range(40))
    assert set(frame["status"]) == {"CROSSED"}
    assert (frame["lower"] < frame["radius"]).all()
    assert (frame["radius"] < frame["upper"]).all()
    assert (frame["value_lower"] <= 0.1).all()
    assert (frame["value_upper"] > 0.1).all()


def test_plot_is_a_figure(estimated):
    assert isinstance(estimated.plot(), Figure)


@pytest.mark.parametrize("settings", [{}, {"measure": "gaussian", "sigma": 0.5}])
def test_plot_shows_the_weights_of_the_measure(trained, blobs, settings):
    estimate = bv.estimate_volume(trained, F.cross_entropy, blobs, cutoff=0.1, num_directions=40, seed=3, **settings)
    share = estimate.plot().axes[1].lines[0].get_ydata()
    weights = estimate.measure.log_weights(estimate.radii.radius, estimate.dim).softmax(0)
    assert share.tolist() == pytest.approx(weights.sort(descending=True).values.cumsum(0).tolist())
    assert share[0] == pytest.approx(estimate.diagnostics.max_share)


def test_same_configuration_gives_the_same_number(estimated, trained, blobs):
    again = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 40, 3, num_threads=2)
    other = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 40, 4)
    assert again.log_volume == estimated.log_volume
    assert other.log_volume != estimated.log_volume


@pytest.mark.parametrize("search", ["interpolate", "bisect"])
def test_searches_agree_within_their_brackets(estimated, trained, blobs, search):
    rtol = 1e-6
    est = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 40, 3, search=search, rtol=rtol)
    assert abs(est.log_volume - estimated.log_volume) <= est.dim * (rtol + estimated.rtol)


def test_grid_search_rounds_every_radius_up(estimated, trained, blobs):
    est = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 40, 3, search="grid")
    assert bool((est.radii.radius >= estimated.radii.lower).all())
    assert est.log_volume > estimated.log_volume


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_paper_method_is_the_published_protocol(make_mlp, blobs, trained, backend):
    """Written out: seeds 1..D, rows times their norms, linspace(0, 1, 100)^2, first loss above, no crossing dropped."""
    count, cutoff, center = 12, 0.15, dict(trained.named_parameters())
    radii = []
    for seed in range(1, count + 1):
        torch.manual_seed(seed)
        noise = {name: torch.randn(p.shape) for name, p in center.items()}
        norm = math.sqrt(sum(float(z.double().square().sum()) for z in noise.values()))
        moves = {
            name: z * center[name].detach().norm(dim=1, keepdim=True) if z.ndim == 2 else z for name, z in noise.items()
        }
        for coefficient in torch.linspace(0, 1, 100, dtype=torch.float64).square().tolist():
            moved = {name: p.detach() + coefficient * moves[name] for name, p in center.items()}
            if float(F.cross_entropy(functional_call(trained, moved, blobs[0]), blobs[1])) > cutoff:
                radii.append(coefficient * norm)
                break
    dim = sum(p.numel() for p in center.values())
    expected = float((dim * torch.tensor(radii, dtype=torch.float64).log()).logsumexp(0)) - math.log(len(radii))

    est = bv.estimate_volume(trained, F.cross_entropy, blobs, cutoff, count, method="paper", backend=backend)
    assert est.diagnostics.num_used == len(radii)
    # Grid points are a few percent apart: 1e-9 of a radius is only rounding in its norm.
    assert abs(est.log_mean_power - expected) <= dim * 1e-9


def test_censored_directions_raise_or_drop_or_bound(body, body_loss, one_example):
    model = body(lambda w: w[0] + 0 * w[1], 2)

    def estimate(on_censored: str) -> bv.VolumeEstimate:
        return bv.estimate_volume(
            model, body_loss, one_example, 1.0, 30, scaling="none", radius_max=20.0, on_censored=on_censored
        )

    with pytest.raises(bv.CensoredError, match="directions are censored at radius_max=20") as caught:
        estimate("raise")
    censored = caught.value.radii.is_status(bv.Status.CENSORED)
    assert len(caught.value.radii) == 30, "the error carries what was measured"
    dropped, bounded = estimate("drop"), estimate("bound")
    assert dropped.diagnostics.num_used == 30 - int(censored.sum())
    assert bounded.diagnostics.num_used == 30
    assert dropped.log_mean_power < bounded.log_mean_power
    for est in (dropped, bounded):
        assert est.diagnostics.verdict is bv.Verdict.CENSORED
        assert est.diagnostics.censored == pytest.approx(float(censored.double().mean()))


def test_every_direction_censored_and_dropped_is_an_error(body, body_loss, one_example):
    flat = body(lambda w: 0 * w.sum(), 2)
    with pytest.raises(bv.CensoredError, match="all 5 directions are censored and dropped"):
        bv.estimate_volume(flat, body_loss, one_example, 1.0, 5, on_censored="drop")


def test_loss_that_becomes_nan_is_invalid(body, body_loss, one_example):
    model = body(lambda w: torch.sqrt(1.0 - w.square().sum()) * 0 + w.square().sum(), 3)
    est = bv.estimate_volume(model, body_loss, one_example, 4.0, 10, scaling="none")
    assert est.diagnostics.verdict is bv.Verdict.INVALID
    assert est.diagnostics.non_finite == 1.0
    # The rays count with their certified lower ends, just inside the unit sphere.
    assert est.log_mean_power == pytest.approx(0.0, abs=3e-4)


def test_excluded_parameters_leave_the_dimension_and_the_volume(trained, blobs):
    est = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 5, include="4.*")
    assert est.dim == 9 * 3 + 3
    assert est.log_det_scale == pytest.approx(9 * float(trained[4].weight.detach().norm(dim=1).log().sum()), rel=1e-5)


def test_any_loss_and_any_module_are_measured_by_torch(blobs):
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.reshape(len(x), 3, 4)
            return self.head(self.attend(tokens, tokens, tokens, need_weights=False)[0].mean(dim=1))

    model, inputs = Attention(), blobs[0]
    data = (inputs, model(inputs).detach())
    est = bv.estimate_volume(model, lambda a, b: (a - b).abs().mean(), data, 0.05, 4, exclude="*bias")
    assert est.backend == "torch"
    assert est.backend_reason.startswith("not native: ")
    assert (est.radii.status == bv.Status.CROSSED).all()


def test_batches_limit_memory_and_not_the_result(trained: nn.Module, blobs: tuple[Tensor, Tensor]) -> None:
    sizes: list[int] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        sizes.append(len(targets))
        return F.cross_entropy(outputs, targets)

    whole = bv.estimate_volume(trained, loss, blobs, 0.5, 8, backend="reference", probe=False)
    sizes.clear()
    parts = bv.estimate_volume(trained, loss, blobs, 0.5, 8, backend="reference", probe=False, batch_size=16)
    assert max(sizes) == 16
    assert parts.log_volume == pytest.approx(whole.log_volume, abs=1e-3)
    with pytest.raises(ValueError, match="`batch_size` must be"):
        bv.estimate_volume(trained, loss, blobs, 0.5, 8, batch_size=0)


@pytest.mark.parametrize("method", ["star", "paper"])
def test_several_cutoffs_give_one_estimate_each(trained: nn.Module, blobs: tuple[Tensor, Tensor], method: str) -> None:
    cutoffs = [0.5, 0.2, 0.35]
    together = bv.estimate_volume(trained, F.cross_entropy, blobs, cutoffs, 60, method=method, probe=False)
    alone = [bv.estimate_volume(trained, F.cross_entropy, blobs, c, 60, method=method, probe=False) for c in cutoffs]
    assert [est.cutoff for est in together] == cutoffs
    for one, other in zip(together, alone, strict=True):
        assert one.log_volume == pytest.approx(other.log_volume, abs=1e-2)
        assert one.diagnostics.verdict == other.diagnostics.verdict
    assert together[-1].num_evaluations < sum(est.num_evaluations for est in alone)


@pytest.mark.parametrize(
    ("cutoff", "message"),
    [
        ([0.5, 0.5], "`cutoffs` must be different finite losses, at least one"),
        ([], "`cutoffs` must be different finite losses, at least one"),
        ([0.5, 1e-9], "`cutoff` must be above the loss at the center, got cutoff=1e-09"),
        ("0.5", "`cutoff` must be a number"),
    ],
)
def test_bad_cutoffs_are_refused(trained: nn.Module, blobs: tuple[Tensor, Tensor], cutoff: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bv.estimate_volume(trained, F.cross_entropy, blobs, cutoff, 4)
