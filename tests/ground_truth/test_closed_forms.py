"""Volumes that are known exactly, through real modules, losses and the whole pipeline."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv

RTOL = 1e-6
SIGMAS = 5.0

pytestmark = pytest.mark.usefixtures("rays_together")


def log_lp_ball(p: float, dim: int, radius: float) -> float:
    if math.isinf(p):
        return dim * math.log(2.0 * radius)
    return dim * math.log(2.0 * radius) + dim * gammaln(1 + 1 / p) - gammaln(1 + dim / p)


def assert_agrees(est: bv.VolumeEstimate, truth: float) -> None:
    """Within five standard errors, plus what brackets of relative width RTOL leave open."""
    assert est.diagnostics.ess > 30, "the standard error is not valid, so nothing would be tested"
    assert abs(est.log_volume - truth) <= SIGMAS * est.standard_error + 2 * RTOL * est.dim


@pytest.mark.parametrize("search", ["interpolate", "bisect"])
@pytest.mark.parametrize(("dim", "radius"), [(1, 0.3), (2, 1.0), (17, 2.5), (1000, 40.0)])
def test_ball_has_its_volume_without_sampling_error(body, body_loss, one_example, search, dim, radius):
    model = body(lambda w: w.square().sum(), dim)
    est = bv.estimate_volume(
        model, body_loss, one_example, cutoff=radius**2, num_directions=6, scaling="none", search=search, rtol=RTOL
    )
    truth = 0.5 * dim * math.log(math.pi) - gammaln(0.5 * dim + 1) + dim * math.log(radius)
    assert abs(est.log_volume - truth) <= dim * RTOL
    assert est.log_det_scale == 0.0


@pytest.mark.parametrize(("dim", "condition"), [(2, 100.0), (6, 10.0), (30, 2.0)])
def test_ellipsoid_of_a_quadratic_landscape(body, body_loss, one_example, dim, condition):
    curvature = torch.logspace(0, math.log10(condition), dim, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64))
    hessian = rotation @ torch.diag(curvature) @ rotation.T
    model = body(lambda w: 0.5 * w @ hessian @ w, dim)
    est = bv.estimate_volume(model, body_loss, one_example, cutoff=0.3, num_directions=400, scaling="none", rtol=RTOL)
    log_ball = 0.5 * dim * math.log(math.pi) - gammaln(0.5 * dim + 1)
    assert_agrees(est, log_ball + 0.5 * dim * math.log(0.6) - 0.5 * float(curvature.log().sum()))
    assert est.radii.slope.mean() == pytest.approx(2.0, abs=1e-3), "a quadratic has slope 2 along every ray"


@pytest.mark.slow
@pytest.mark.parametrize("p", [1.0, 1.5, 4.0, math.inf])
def test_lp_balls_from_cross_polytope_to_box(body, body_loss, one_example, p):
    dim, radius = 5, 0.7
    model = body(lambda w: torch.linalg.vector_norm(w, p), dim)
    est = bv.estimate_volume(
        model, body_loss, one_example, cutoff=radius, num_directions=500, scaling="none", rtol=RTOL
    )
    assert_agrees(est, log_lp_ball(p, dim, radius))


def test_body_of_mixed_exponents_and_scales(body, body_loss, one_example):
    exponents = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    scales = torch.tensor([0.5, 1.0, 0.8, 1.5], dtype=torch.float64)
    model = body(lambda w: ((w / scales).abs() ** exponents).sum(), 4)
    cutoff = 0.8
    est = bv.estimate_volume(
        model, body_loss, one_example, cutoff=cutoff, num_directions=500, scaling="none", rtol=RTOL
    )
    inverse = 1 / exponents.numpy()
    truth = np.log(2 * scales.numpy()).sum() + gammaln(1 + inverse).sum() - gammaln(1 + inverse.sum())
    assert_agrees(est, float(truth) + float(inverse.sum()) * math.log(cutoff))


def test_star_in_the_plane(body, body_loss, one_example):
    def gauge(w: Tensor) -> Tensor:
        return w.norm() / (1.0 + 0.5 * torch.cos(5.0 * torch.atan2(w[1], w[0])))

    est = bv.estimate_volume(
        body(gauge, 2), body_loss, one_example, cutoff=1.0, num_directions=500, scaling="none", rtol=RTOL
    )
    assert_agrees(est, math.log(math.pi * (1 + 0.5**2 / 2)))


def test_half_space_is_reported_as_censored_on_exactly_the_rays_that_never_leave(body, body_loss, one_example):
    dim, cutoff, radius_max, count = 3, 1.0, 50.0, 60
    model = body(lambda w: w[0], dim)
    with pytest.raises(bv.CensoredError, match=r"of 60 directions are censored at radius_max=50; raise `radius_max`"):
        bv.estimate_volume(
            model, body_loss, one_example, cutoff, count, scaling="none", radius_max=radius_max, on_censored="raise"
        )

    est = bv.estimate_volume(
        model, body_loss, one_example, cutoff, count, scaling="none", radius_max=radius_max, on_censored="bound"
    )
    first = bv.Directions(bv.ParameterSpace.of(model), count).materialize(range(count), torch.float64)[:, 0]
    never_leaves = first * radius_max <= cutoff
    assert torch.equal(est.radii.is_status(bv.Status.CENSORED), never_leaves)
    assert bool(torch.isnan(est.radii.radius[never_leaves]).all()), "a censored ray must not be averaged by accident"
    assert torch.allclose(est.radii.radius[~never_leaves], cutoff / first[~never_leaves], rtol=1e-4)
    assert est.diagnostics.verdict is bv.Verdict.CENSORED
    bounded = torch.where(never_leaves, radius_max, cutoff / first)
    assert est.log_mean_power == pytest.approx(float((bounded**dim).mean().log()), abs=dim * 1e-4)


def regression(num_features: int = 4, num_examples: int = 40) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """A least-squares fit by nn.Linear in float64, its data, and the Hessian of the MSE."""
    inputs = torch.randn(num_examples, num_features, dtype=torch.float64)
    targets = inputs.sum(dim=1, keepdim=True) + 0.3 * torch.randn(num_examples, 1, dtype=torch.float64)
    design = torch.cat([inputs, torch.ones(num_examples, 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(design, targets).solution
    model = nn.Linear(num_features, 1).double()
    with torch.no_grad():
        model.weight.copy_(solution[:-1].T)
        model.bias.copy_(solution[-1])
    return model, inputs, targets, 2.0 * design.T @ design / num_examples


@pytest.mark.parametrize("scaling", ["none", "filter"])
def test_linear_regression_is_a_quadratic_with_hessian_2xx_over_n(scaling):
    model, inputs, targets, hessian = regression()
    dim, excess = len(hessian), 0.2
    best = float(F.mse_loss(model(inputs).detach(), targets))
    est = bv.estimate_volume(
        model, F.mse_loss, (inputs, targets), cutoff=best + excess, num_directions=500, scaling=scaling, rtol=RTOL
    )
    log_ball = 0.5 * dim * math.log(math.pi) - gammaln(0.5 * dim + 1)
    # Lebesgue volume of the parameters themselves: the same in filter-normalized coordinates, with their determinant.
    assert_agrees(est, log_ball + 0.5 * dim * math.log(2 * excess) - 0.5 * float(torch.logdet(hessian)))


@pytest.mark.slow
def test_regression_that_leaves_parameters_undetermined_is_never_called_trustworthy():
    model, inputs, targets, _ = regression()
    inputs[:, 2:] = inputs[:, :2]  # rank 3 of 5: the basin is unbounded and its volume infinite
    with torch.no_grad():
        model.weight[:, 2:] = 0.0
    best = float(F.mse_loss(model(inputs).detach(), targets))
    est = bv.estimate_volume(
        model, F.mse_loss, (inputs, targets), best + 0.2, num_directions=500, scaling="none", on_censored="bound"
    )
    assert est.diagnostics.verdict is not bv.Verdict.TRUSTWORTHY


@pytest.mark.parametrize("factor", [0.01, 3.0, 1e4])
def test_dilation_by_a_shifts_log_volume_by_dim_log_a(body, body_loss, one_example, factor):
    def gauge(w: Tensor) -> Tensor:
        return w[:3].abs().sum() + w.square().sum() + (2.0 * w[0] - w[1]) ** 4

    dim, rtol = 7, 1e-9
    first, dilated = (
        bv.estimate_volume(
            body(lambda w, a=a: gauge(w / a), dim), body_loss, one_example, 0.5, 20, scaling="none", rtol=rtol
        )
        for a in (1.0, factor)
    )
    shift = dilated.log_volume - first.log_volume
    assert abs(shift - dim * math.log(factor)) <= 2 * dim * rtol + 1e-12


def test_linear_map_shifts_log_volume_by_its_log_determinant(body, body_loss, one_example):
    matrix = torch.eye(4, dtype=torch.float64) + 0.3 * torch.randn(4, 4, dtype=torch.float64)
    inverse = torch.linalg.inv(matrix)
    model = body(lambda w: torch.linalg.vector_norm(inverse @ w, 4.0), 4)
    est = bv.estimate_volume(model, body_loss, one_example, 1.0, 500, scaling="none", rtol=RTOL)
    assert_agrees(est, log_lp_ball(4.0, 4, 1.0) + float(torch.linalg.slogdet(matrix).logabsdet))


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_rescaled_hidden_units_keep_filter_normalized_radii_and_shift_the_determinant(make_mlp, backend):
    model, rescaled = make_mlp([4, 6, 2], bias=False), make_mlp([4, 6, 2], bias=False)
    factor = 4.0  # a power of two, so that float32 rounds the rescaled network in the same places
    with torch.no_grad():
        rescaled[0].weight.mul_(factor)
        rescaled[2].weight.div_(factor)
    inputs = torch.randn(20, 4)
    data = (inputs, model(inputs).detach())
    first, second = (
        bv.estimate_volume(m, F.mse_loss, data, 0.05, 12, backend=backend, on_censored="bound")
        for m in (model, rescaled)
    )
    assert torch.equal(first.radii.lower, second.radii.lower)
    assert torch.equal(first.radii.upper, second.radii.upper)
    shift = second.log_volume - first.log_volume
    assert shift == pytest.approx((4 * 6 - 6 * 2) * math.log(factor), abs=1e-4)


class PermutedDirections(bv.Directions):
    """The directions of another network after its hidden units were put in another order."""

    def normals(self, index: int, device: torch.device | str = "cpu") -> Tensor:
        named = self.space.unflatten(super().normals(index, device).double())
        moved = permute_units(named)
        return torch.cat([moved[name].reshape(-1) for name in self.space.names]).float()


ORDER = torch.tensor([3, 0, 4, 1, 2])


def permute_units(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "0.weight": parameters["0.weight"][ORDER],
        "0.bias": parameters["0.bias"][ORDER],
        "2.weight": parameters["2.weight"][:, ORDER],
        "2.bias": parameters["2.bias"],
    }


def test_order_of_hidden_units_changes_no_radius(make_mlp):
    model = make_mlp([3, 5, 2], "tanh").double()
    permuted = make_mlp([3, 5, 2], "tanh").double()
    permuted.load_state_dict(permute_units(model.state_dict()))
    inputs = torch.randn(15, 3, dtype=torch.float64)
    data = (inputs, model(inputs).detach())
    space, rtol = bv.ParameterSpace.of(model), 1e-9
    first = bv.find_radii(bv.Landscape(model, F.mse_loss, data), bv.Directions(space, 8), [0.1], rtol=rtol).at()
    second = bv.find_radii(
        bv.Landscape(permuted, F.mse_loss, data), PermutedDirections(space, 8), [0.1], rtol=rtol, backend="reference"
    ).at()
    crossed = first.is_status(bv.Status.CROSSED)
    assert bool(crossed.any())
    assert torch.equal(crossed, second.is_status(bv.Status.CROSSED))
    # float64 sums in another order move the loss by 1e-15, and the radius by little more.
    assert torch.allclose(first.radius[crossed], second.radius[crossed], rtol=2 * rtol, atol=0.0)


@pytest.mark.slow
def test_network_of_two_parameters_against_quadrature():
    inputs = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64).reshape(-1, 1)

    class TwoParameters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
            self.outer = nn.Parameter(torch.tensor([1.5], dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.outer * torch.tanh(self.inner * x)

    model, cutoff = TwoParameters(), 0.02
    targets = model(inputs).detach()
    est = bv.estimate_volume(model, F.mse_loss, (inputs, targets), cutoff, 500, scaling="none", rtol=RTOL)

    # Area = (1/2) int r(angle)^2, with the first crossing from a fine scan and bisection; periodic, so equal weights.
    x, angle = inputs.numpy()[:, 0], np.arange(4000) * (2 * np.pi / 4000)

    def loss(radius: np.ndarray) -> np.ndarray:
        inner, outer = 1.0 + radius * np.cos(angle), 1.5 + radius * np.sin(angle)
        return np.mean((outer * np.tanh(inner * x[:, None]) - 1.5 * np.tanh(x)[:, None]) ** 2, axis=0)

    lower, upper = np.zeros(4000), np.full(4000, np.inf)
    for radius in np.linspace(0.0, 20.0, 2001)[1:]:
        outside = (loss(np.full(4000, radius)) > cutoff) & np.isinf(upper)
        upper[outside], lower[np.isinf(upper)] = radius, radius
    assert np.isfinite(upper).all()
    for _ in range(50):
        middle = 0.5 * (lower + upper)
        inside = loss(middle) <= cutoff
        lower, upper = np.where(inside, middle, lower), np.where(inside, upper, middle)
    assert_agrees(est, math.log(np.pi * np.mean(lower**2)))
