"""Every evaluation of the loss is counted once, by the one place that makes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.estimators.batched import BatchedLoss
from basinvol.model.landscape import GRADIENT_COST


class Counted:
    """Cross-entropy that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(outputs, targets)


@pytest.fixture
def network() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3))
    return model, (torch.randn(20, 4), torch.arange(20) % 3)


def calls_of_checks(model: nn.Module, data: tuple[Tensor, Tensor]) -> int:
    """What a landscape spends on its checks, which are no part of an estimate."""
    loss = Counted()
    assert bv.Landscape(model, loss, data).num_evaluations == 0
    return loss.calls


@pytest.mark.parametrize(
    "options",
    [{"probe": False}, {"probe": False, "probe_rays": 7}, {"probe": False, "resolve": "decisive"}],
    ids=["rays", "rays followed beyond", "decisive"],
)
def test_an_estimate_reports_the_calls_of_the_loss(network, options):
    model, data = network
    loss = Counted()
    est = bv.estimate_volume(model, loss, data, 9.0, 40, backend="reference", on_censored="bound", **options)
    at_center = 1  # once for every solver, in the backend's own arithmetic
    assert loss.calls - calls_of_checks(model, data) - at_center == est.num_evaluations
    rays = int(est.radii.num_evaluations.sum())
    assert est.num_evaluations == rays + est.diagnostics.num_probes
    followed = min(options.get("probe_rays", 0), int(est.radii.is_status(bv.Status.CROSSED).sum()))
    assert est.diagnostics.num_probes == (1 + 9 * followed if followed else 0)


def test_a_second_method_is_counted_apart_from_probes(network):
    model, data = network
    options = {"measure": "gaussian", "sigma": 0.3, "num_directions": 20, "probe": False}
    alone = bv.estimate_volume(model, F.cross_entropy, data, 2.0, **options)
    second = bv.estimate_volume(model, F.cross_entropy, data, 2.0, method="splitting", **options)
    both = bv.estimate_volume(model, F.cross_entropy, data, 2.0, check="splitting", **options)
    assert both.diagnostics.num_probes == 0
    assert both.diagnostics.num_checks == second.num_evaluations
    assert both.num_evaluations == alone.num_evaluations + second.num_evaluations


def test_a_gradient_counts_as_three_and_a_batch_as_its_points(network):
    model, data = network
    landscape, space = bv.Landscape(model, F.cross_entropy, data), bv.ParameterSpace.of(model)
    landscape.gradient(dict(model.named_parameters()))
    assert landscape.num_evaluations == GRADIENT_COST
    energy = BatchedLoss(landscape, space, space.flatten(model), torch.ones(space.dim))
    points = torch.randn(6, space.dim, dtype=torch.float64)
    energy.losses(points)
    energy.with_gradients(points)
    assert landscape.num_evaluations == GRADIENT_COST + 6 + 6 * GRADIENT_COST
