"""Chains and walkers against volumes that are known, in every measure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth as gt
from basinvol.estimators.batched import BatchedLoss
from basinvol.estimators.hamiltonian import Gibbs, Hamiltonian, Whitening

pytestmark = pytest.mark.usefixtures("rays_together")


# A shorter warm-up and fewer moves than the default, for time: the error that is reported grows with it.
BRIEF = {"num_windows": 3, "window": 10, "num_final": 10}


def measure(case: gt.Case, method: str, **options) -> bv.VolumeEstimate:
    """An estimate from 50 rays, which give chains only their first scale."""
    return bv.estimate_volume(
        *case.task(),
        cutoff=case.cutoff,
        num_directions=options.pop("num_directions", 50),
        scaling="none",
        method=method,
        on_censored="bound",
        **options,
    )


LESS = {"num_windows": 4, "window": 10, "num_final": 10, "refine": 2}
ANNEALED = [
    (gt.ellipsoid(100, 100.0, rotated=True), None),
    (gt.mixed([4.0] * 200, np.logspace(0, 1, 200).tolist()), LESS),
    (gt.mixed([1.0, 2.0, 3.0, 6.0] * 50, np.logspace(-0.5, 0.5, 200).tolist()), LESS),
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "options"), ANNEALED, ids=[case.name for case, _ in ANNEALED])
def test_annealed_chains_reach_bodies_that_rays_do_not(case: gt.Case, options: dict | None) -> None:
    """Plain rays are 15 to 220 nats away on these, with any affordable number of directions."""
    est = measure(case, "annealed", method_options=options)
    assert abs(est.log_volume - case.log_volume) <= 2.0
    assert abs(est.log_volume - case.log_volume) <= 5 * est.standard_error


WALKED = [gt.ball(10, 2.0), gt.star(), gt.lp_ball(5, 1.0), gt.ellipsoid(6, 30.0, rotated=True)]


@pytest.mark.slow
@pytest.mark.parametrize("case", WALKED, ids=lambda case: case.name)
def test_hit_and_run_agrees_in_few_dimensions(case: gt.Case) -> None:
    est = measure(case, "hit-and-run")
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY, est.diagnostics.reason
    assert abs(est.log_volume - case.log_volume) <= 5 * est.standard_error


@pytest.mark.slow
@pytest.mark.parametrize("method", ["annealed", "splitting", "hit-and-run"])
@pytest.mark.parametrize(
    ("case", "sigma"),
    [
        (gt.two_scales(8, 4.0, sigma=0.7), 0.7),
        (gt.with_dead_parameters(10, 2, sigmas=(0.3,)), 0.3),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_gaussian_masses(method: str, case: gt.Case, sigma: float) -> None:
    est = measure(case, method, measure="gaussian", sigma=sigma)
    assert abs(est.log_volume - case.log_masses[sigma]) <= 5 * est.standard_error
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY, est.diagnostics.reason


@pytest.mark.slow
@pytest.mark.parametrize("method", ["annealed", "hit-and-run"])
def test_half_space_inside_a_ball(method: str) -> None:
    radius, distance = 2.0, 1.0
    est = measure(gt.half_space(3, distance), method, measure="ball", radius=radius)
    cap = math.pi * (radius - distance) ** 2 * (2 * radius + distance) / 3
    truth = math.log(4 / 3 * math.pi * radius**3 - cap)
    assert abs(est.log_volume - truth) <= 5 * est.standard_error


@pytest.mark.slow
@pytest.mark.parametrize("method", ["annealed", "hit-and-run"])
def test_infinite_volumes_are_never_trustworthy(method: str) -> None:
    cases = [gt.with_dead_parameters(3, 1), gt.half_space(2)]
    options = {"num_walkers": 32, "num_steps": 8}
    if method == "annealed":
        cases.append(gt.half_space(40))  # chains drift so far that their covariance is singular
        options = {"num_chains": 16, **LESS, "refine": 1}
    for case in cases:
        est = measure(case, method, method_options=options)
        assert est.diagnostics.verdict is not bv.Verdict.TRUSTWORTHY


@pytest.mark.slow
def test_chains_count_what_is_not_visible_from_the_center() -> None:
    """A crescent: the plain estimate sees the part in sight, hit-and-run all of it, whose area is known."""

    def gauge(w: torch.Tensor) -> torch.Tensor:
        r, angle = torch.linalg.vector_norm(w + torch.tensor([1.0, 0.0])), torch.atan2(w[1], w[0] + 1.0)
        return torch.maximum((r - 1.0).abs() / 0.2, angle.abs() / 2.5)

    truth = math.log(0.5 * (1.2**2 - 0.8**2) * 2 * 2.5)
    case = gt.gauge_case("crescent", gauge, 2, 1.0, truth)
    seen, walked = measure(case, "star", num_directions=500), measure(case, "hit-and-run")
    annealed = measure(case, "annealed", method_options={"num_chains": 32, **BRIEF})
    assert abs(walked.log_volume - truth) <= 5 * walked.standard_error + 0.02
    assert seen.log_volume < truth - 0.5
    # What the chains say is visible is what the rays saw, to the accuracy of 160 looks.
    assert annealed.log_volume + math.log(annealed.details["visible_from_center"]) == pytest.approx(
        seen.log_volume, abs=0.5
    )


@pytest.mark.slow
def test_methods_of_different_kinds_agree_on_a_small_network(make_mlp) -> None:
    model = make_mlp([2, 2, 1], "tanh")
    inputs = torch.randn(30, 2)
    data = (inputs, model(inputs).detach())
    options = {
        "preconditioned": {"num_pilot": 60},
        "annealed": {"num_chains": 32, **BRIEF},
        "hit-and-run": {"num_walkers": 64, "num_steps": 15},
    }
    counts = {"star": 300, "preconditioned": 100, "annealed": 50, "hit-and-run": 50}
    settings = {"scaling": "none", "measure": "gaussian", "sigma": 0.3}
    masses = {
        method: bv.estimate_volume(
            model, F.mse_loss, data, 0.05, count, method=method, method_options=options.get(method), **settings
        )
        for method, count in counts.items()
    }
    walked = masses["hit-and-run"]
    # Rays see the part in sight only; chains all of it.
    assert abs(masses["annealed"].log_volume - walked.log_volume) <= 5 * math.hypot(
        masses["annealed"].standard_error, walked.standard_error
    )
    for name in ("star", "preconditioned"):
        assert masses[name].log_volume <= walked.log_volume + 5 * walked.standard_error + 0.3


@pytest.mark.slow
def test_second_method_confirms_or_doubts_the_first() -> None:
    case = gt.ellipsoid(10, 3.0)
    est = measure(case, "star", num_directions=300, check="hit-and-run")
    assert est.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert est.diagnostics.agreement.startswith("method hit-and-run gives")


def test_same_seed_gives_the_same_chains() -> None:
    case = gt.ball(4)
    options = {"method_options": {"num_windows": 2, "num_chains": 16, "window": 5}}
    first, second = measure(case, "annealed", **options), measure(case, "annealed", **options)
    assert first.log_volume == second.log_volume
    assert measure(case, "annealed", seed=1, **options).log_volume != first.log_volume


@pytest.mark.slow
@pytest.mark.parametrize("method", ["annealed", "splitting"])
def test_chains_leave_model_and_random_state_alone(trained, blobs, method: str) -> None:
    before, state = [p.clone() for p in trained.parameters()], torch.get_rng_state()
    options = {"num_chains": 32, "num_groups": 4}
    settings = {"measure": "gaussian", "sigma": 0.02, "method_options": options}
    bv.estimate_volume(trained, F.cross_entropy, blobs, 0.5, 10, method=method, **settings)
    assert all(torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in trained.parameters())
    assert torch.equal(state, torch.get_rng_state())


@pytest.fixture
def landscape(make_mlp, blobs) -> bv.Landscape:
    return bv.Landscape(make_mlp([12, 4, 3], "tanh"), F.cross_entropy, blobs)


def test_batched_losses_and_gradients_are_those_of_one_point_at_a_time(landscape: bv.Landscape) -> None:
    space = bv.ParameterSpace.of(landscape.model)
    center, scale = space.flatten(landscape.model), space.scale(landscape.model)
    energy = BatchedLoss(landscape, space, center, scale)
    points = 0.3 * torch.randn(5, space.dim, dtype=torch.float64)
    losses, gradients = energy.with_gradients(points)
    assert torch.allclose(energy.losses(points), losses, rtol=1e-6)
    for row, point in enumerate(points):
        loss, named = landscape.gradient(space.unflatten((center.double() + scale.double() * point).to(center)))
        expected = torch.cat([named[name].reshape(-1) for name in space.names]) * scale
        assert float(losses[row]) == pytest.approx(loss, rel=1e-5)
        assert torch.allclose(gradients[row], expected.double(), rtol=1e-3, atol=1e-6)
    assert landscape.num_evaluations == 5 * 3 + 5 + 5 * 3  # those of one point at a time, too


class Branching(nn.Linear):
    """Asks for the value of a parameter, which vmap refuses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if float(self.bias.sum()) > -100 else x


def test_model_that_can_not_be_batched_is_evaluated_one_point_at_a_time(blobs) -> None:
    model = Branching(12, 3)
    landscape, space = bv.Landscape(model, F.cross_entropy, blobs), bv.ParameterSpace.of(model)
    energy = BatchedLoss(landscape, space, space.flatten(model), space.scale(model))
    points = 0.1 * torch.randn(3, space.dim, dtype=torch.float64)
    losses, gradients = energy.with_gradients(points)
    assert torch.allclose(losses, energy.losses(points), rtol=1e-6)
    assert gradients.shape == (3, space.dim)


def test_points_of_large_convolutions_are_evaluated_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the numbers of points that are evaluated together, and are counted in the same way."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 16 * 16, 3))
    data = torch.randn(400, 1, 16, 16), torch.randint(0, 3, (400,))
    landscape, space = bv.Landscape(model, F.cross_entropy, data), bv.ParameterSpace.of(model)
    of = landscape, space, space.flatten(model), space.scale(model)
    points = 0.1 * torch.randn(3, space.dim, dtype=torch.float64)
    calls: list[int] = []
    gradient = landscape.gradient
    monkeypatch.setattr(landscape, "gradient", lambda parameters: calls.append(1) or gradient(parameters))
    alone = BatchedLoss(*of)
    losses, gradients = alone.with_gradients(points)
    assert len(calls) == 3
    assert torch.allclose(alone.losses(points), losses, rtol=1e-6)
    assert landscape.num_evaluations == 3 * 3 + 3
    monkeypatch.setattr("basinvol.estimators.batched._PASS", 1000)
    together = BatchedLoss(*of).with_gradients(points)
    assert len(calls) == 3
    assert torch.allclose(losses, together[0], rtol=1e-5)
    assert torch.allclose(gradients, together[1], rtol=1e-3, atol=1e-6)


def test_moves_leave_a_gaussian_as_it_is() -> None:
    """At temperature 0 the target is the reference, at 1 it is exp(-10 |x|^2), of variance 1/20."""
    case = gt.ball(20)
    model, loss_fn, data = case.task()
    landscape, space = bv.Landscape(model, loss_fn, data), bv.ParameterSpace.of(model)
    energy = BatchedLoss(landscape, space, space.flatten(model), torch.ones(space.dim))
    factor = torch.linspace(0.5, 2.0, space.dim, dtype=torch.float64)
    moves = Hamiltonian(
        energy,
        Whitening(torch.ones(space.dim, dtype=torch.float64), factor),
        Gibbs(beta=10.0, precision=0.0, center_loss=0.0),
        most_steps=10,
        step=0.04,
        generator=torch.Generator().manual_seed(0),
    )
    chains = moves.reference(2000)
    for t, num_moves in ((0.0, 30), (1.0, 60)):  # the first begins where it has to stay
        for _ in range(num_moves):
            chains = moves.move(chains, t)
        assert moves.acceptance > 0.5
        variance = chains.x.var(dim=0)
        expected = factor.square() if t == 0.0 else torch.full_like(factor, 1 / 20)
        error = math.sqrt(2 / 2000)
        assert float((variance / expected - 1).abs().max()) < 6 * error


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("annealed", {"num_chains": 10}, "`num_chains` must be a multiple of `num_groups`, twice as large"),
        ("annealed", {"window": 0}, "`window` must be at least 1, got 0"),
        ("annealed", {"target_error": 0.0}, "`target_error` must be above 0 nats, or None, got 0.0"),
        ("splitting", {"num_chains": 12}, "`num_chains` must be a multiple of `num_groups`, four times as large"),
        ("splitting", {"share": 0.95}, "`share` must be from 0.1 to 0.9"),
        ("hit-and-run", {"num_groups": 3}, "`num_walkers` must be a multiple of `num_groups`"),
    ],
)
def test_impossible_options_are_refused(method: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(gt.ball(3), method, method_options=options, **_SIGMA.get(method, {}))


_SIGMA = {"splitting": {"measure": "gaussian", "sigma": 1.0}}


def test_splitting_is_refused_in_other_measures() -> None:
    with pytest.raises(ValueError, match="method='splitting' measures a Gaussian mass, got measure='lebesgue'"):
        measure(gt.ball(3), "splitting")


def test_hit_and_run_is_refused_in_many_dimensions() -> None:
    with pytest.raises(ValueError, match="method='hit-and-run' is for at most 60 parameters, got 61"):
        measure(gt.ball(61), "hit-and-run")


def test_runs_are_repeated_until_the_error_is_as_small_as_asked() -> None:
    case = gt.slab(5, sigmas=(1.0,))
    options = {"num_chains": 16, "refine": 1, "num_final": 5}
    plain = measure(case, "annealed", method_options=options, measure="gaussian", sigma=1.0)
    target = 0.5 * plain.standard_error
    better = measure(
        case, "annealed", method_options={**options, "target_error": target}, measure="gaussian", sigma=1.0
    )
    assert better.standard_error <= target
    assert better.details["runs"] > plain.details["runs"] == 1
    assert abs(better.log_volume - case.log_masses[1.0]) < 4.0 * better.standard_error


def test_an_error_that_is_not_reached_is_said() -> None:
    options = {"num_chains": 16, "target_error": 1e-6, "most_runs": 2}
    found = measure(gt.ball(5), "annealed", method_options=options, measure="gaussian", sigma=1.0)
    assert "The error asked for, 1e-06 nats, was not reached in 2 runs." in found.diagnostics.reason
