"""Preconditioned directions reach the volume where plain ones are hundreds of nats away, or say that they do not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth
from basinvol.estimators.curvature import adam_curvature, fit_radii, fit_secants, hessian_diagonal
from basinvol.trust.volume import log_unit_ball

pytestmark = pytest.mark.usefixtures("rays_together")


def measure(
    case: ground_truth.Case, count: int = 300, sigma: float | None = None, probe: bool = True, **options
) -> bv.VolumeEstimate:
    return bv.estimate_volume(
        *case.task(),
        cutoff=case.cutoff,
        num_directions=count,
        scaling="none",
        method="preconditioned",
        measure="lebesgue" if sigma is None else "gaussian",
        sigma=sigma,
        on_censored="bound",
        method_options=options,
        probe=probe,
    )


def assert_agrees(est: bv.VolumeEstimate, truth: float) -> None:
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY, est.diagnostics.reason
    assert abs(est.log_volume - truth) <= 5 * est.standard_error + est.diagnostics.bracket_nats


@pytest.mark.slow
def test_axis_aligned_ellipsoid_in_a_thousand_dimensions() -> None:
    """Condition 1000, unknown to the method; a thousand plain directions cost 5,000 evaluations and miss 650 nats."""
    case = ground_truth.ellipsoid(1000, 1000.0)
    est = measure(case, count=200, probe=False, num_pilot=1200)
    assert abs(est.log_volume - case.log_volume) <= 5.0
    assert_agrees(est, case.log_volume)
    assert est.num_evaluations <= 20 * 5000


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"fit": "secant"}, {"fit": "diagonal"}])
def test_rotated_ellipsoid_needs_the_full_matrix_and_the_diagonal_fit_says_so(options: dict) -> None:
    case = ground_truth.ellipsoid(60, 100.0, rotated=True)
    est = measure(case, **options)
    if options["fit"] == "secant":
        assert_agrees(est, case.log_volume)
    else:
        assert est.diagnostics.verdict is bv.Verdict.LOWER_BOUND
        assert est.log_volume < case.log_volume


@pytest.mark.slow
def test_few_stiff_axes_are_found_from_the_normals_of_the_boundary() -> None:
    """Plain rays miss 30 nats; the 12 stiff axes, which point anywhere, are all that is not round."""
    case = stiff_axes(200, 12, 100.0)
    est = measure(case, 300, fit="gradients")
    plain = bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=300, scaling="none", probe=False)
    assert plain.log_volume < case.log_volume - 10
    assert_agrees(est, case.log_volume)


def stiff_axes(dim: int, count: int, condition: float) -> ground_truth.Case:
    axes = torch.linalg.qr(torch.randn(dim, count, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    truth = log_unit_ball(dim) - 0.5 * count * math.log(condition)
    return ground_truth.gauge_case(
        "stiff axes",
        lambda w: w.square().sum() + (condition - 1.0) * (axes.T @ w).square().sum(),
        dim,
        1.0,
        truth,
    )


@pytest.mark.parametrize("fit", ["ggn", "hessian"])
def test_second_derivatives_of_a_network_shape_the_proposal(fit: str) -> None:
    case = ground_truth.regression(20, 100.0, seed=1)
    est = measure(case, fit=fit)
    assert est.details["fit"] == fit
    assert abs(est.log_volume - case.log_volume) < 5 or est.diagnostics.verdict is not bv.Verdict.TRUSTWORTHY


@pytest.mark.slow
def test_mass_under_a_gaussian_of_an_ellipsoid_of_two_scales() -> None:
    case = ground_truth.two_scales(40, 100.0, sigma=0.5)
    assert_agrees(measure(case, sigma=0.5), case.log_masses[0.5])


def test_defensive_share_keeps_a_wrong_proposal_from_doing_harm(body, body_loss, one_example) -> None:
    """Curvatures that are wrong by factors of 100 make weights at most ten times those of plain rays."""
    case = ground_truth.ball(6)
    wrong = torch.tensor([100.0, 0.01, 100.0, 0.01, 1.0, 1.0])
    est = measure(case, 500, curvature=wrong, defensive=0.5)
    assert abs(est.log_volume - case.log_volume) <= 5 * est.standard_error + est.diagnostics.bracket_nats


@pytest.mark.slow
def test_native_and_reference_backends_agree() -> None:
    case = ground_truth.regression(30, 100.0)
    model, loss_fn, data = case.task()
    found = [
        bv.estimate_volume(
            model, loss_fn, data, case.cutoff, 100, scaling="none", method="preconditioned", backend=backend
        )
        for backend in ("native", "reference")
    ]
    assert found[0].backend == "native"
    # float32 losses: each radius to 1e-4 at worst, before the decisive ones are refined to 0.1 nats together.
    assert abs(found[0].log_volume - found[1].log_volume) < 0.2


def test_ridge_regression_recovers_curvatures_from_radii_and_shrinks_noise() -> None:
    dim, count = 50, 200
    curvature = torch.logspace(-1.5, 1.5, dim, dtype=torch.float64)
    u = torch.randn(count, dim, dtype=torch.float64)
    squares = (u / u.norm(dim=1, keepdim=True)).square()
    exact = fit_radii(squares, (squares @ curvature).rsqrt())
    assert torch.allclose(exact, curvature, rtol=1e-3)
    noise = (0.5 * torch.randn(count, dtype=torch.float64)).exp()
    shrunk = fit_radii(squares, noise)  # the radii know nothing of the directions
    assert float(shrunk.log().std()) < 0.6
    assert bool((shrunk > 0).all())


def test_secants_of_a_quadratic_give_its_matrix() -> None:
    dim, rise = 12, 0.7
    root = torch.randn(dim, dim, dtype=torch.float64)
    hessian = root @ root.T + torch.eye(dim, dtype=torch.float64)
    points = torch.randn(2 * dim, dim, dtype=torch.float64)
    curvature, axes = fit_secants(points, points @ hessian, rise)
    assert torch.allclose(2 * rise * axes @ torch.diag(curvature) @ axes.T, hessian, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_hutchinson_agrees_with_the_exact_diagonal_of_least_squares(kind: str) -> None:
    """For a linear model both matrices are 2X'X/N."""
    inputs = torch.randn(30, 5, dtype=torch.float64)
    model = nn.Linear(5, 1, bias=False).double()
    landscape = bv.Landscape(model, F.mse_loss, (inputs, torch.zeros(30, 1, dtype=torch.float64)))
    space, probes = bv.ParameterSpace.of(model), 400
    hessian = 2 * inputs.T @ inputs / 30
    found = hessian_diagonal(landscape, space, space.flatten(model), kind, probes)
    off = (hessian - torch.diag(hessian.diagonal())).square().sum(dim=1)
    assert bool(((found - hessian.diagonal()).abs() <= 5 * (off / probes).sqrt()).all())


def test_adam_state_is_read_in_the_order_of_the_space(make_mlp, blobs) -> None:
    model = make_mlp([12, 4, 3])
    optimizer, space = torch.optim.Adam(model.parameters()), bv.ParameterSpace.of(model)
    with pytest.raises(ValueError, match=r"`optimizer` holds no exp_avg_sq for '0.weight'"):
        adam_curvature(optimizer, model, space)
    F.cross_entropy(model(blobs[0]), blobs[1]).backward()
    optimizer.step()
    expected = torch.cat([0.001 * p.grad.square().reshape(-1) for p in model.parameters()]).double()
    assert torch.allclose(adam_curvature(optimizer, model, space), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "magic"}, "`fit` must be one of 'auto', 'diagonal', .* got 'magic'"),
        ({"defensive": 0.0}, "`defensive` must be between 0 and 1, got 0.0"),
        ({"rounds": 0}, "`rounds` must be at least 1, got 0"),
        ({"curvature": torch.ones(3)}, r"`curvature` must have shape \[6\], got \[3\]"),
        ({"curvature": torch.zeros(6)}, "the curvature is not positive anywhere"),
        ({"chains": 3}, "`method_options` of method 'preconditioned' are 'fit', .* got 'chains'"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(ground_truth.ball(6), 10, **options)


def test_grid_search_and_dense_proposals_on_the_native_engine_are_refused() -> None:
    case = ground_truth.regression(6, 2.0)
    with pytest.raises(ValueError, match="method='preconditioned' needs exact radii"):
        bv.estimate_volume(*case.task(), cutoff=0.5, method="preconditioned", search="grid", scaling="none")
    with pytest.raises(
        bv.BackendUnavailable,
        match="backend 'native' cannot be used: it makes directions of the kinds",
    ):
        bv.estimate_volume(
            *case.task(),
            cutoff=0.5,
            method="preconditioned",
            method_options={"fit": "secant"},
            backend="native",
            scaling="none",
            num_directions=10,
        )
    assert math.isfinite(case.log_volume)
