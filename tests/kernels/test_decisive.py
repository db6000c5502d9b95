"""Skipping rays that cannot matter: the same volume, proofs that hold in float64, and the refined brackets."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.search.radii import Radii, Status
from basinvol.trust.volume import log_mean_power

LOSSES = {"cross_entropy": F.cross_entropy, "bce": F.binary_cross_entropy_with_logits, "mse": F.mse_loss}
SKIPPED_NATS, REFINED_NATS, DECISIVE_NATS = 1e-6, 0.1, 20.0
NUM_SPREAD, NUM_SPREAD_FEW = 32, 8  # that are solved in full, and where the spread is hopeless

pytestmark = pytest.mark.usefixtures("rays_together")

# widths, activation, loss, levels (the last is all), cutoffs above the center, directions, backend, search
NETWORKS = [
    ([12, 64, 32, 3], "relu", "cross_entropy", [180], [0.1], 100, "native", "interpolate"),
    ([40, 96, 10], "tanh", "cross_entropy", [20, 130, 300], [0.05, 0.2, 1.0], 64, "native", "interpolate"),
    ([2, 3, 2], "relu", "cross_entropy", [50], [0.1, 0.4], 60, "native", "interpolate"),
    ([6, 40, 40, 1], "gelu", "bce", [97, 200], [0.1], 80, "native", "bisect"),
    ([9, 200, 7], "relu", "mse", [150], [0.02, 0.1, 0.5], 70, "native", "interpolate"),
    ([5, 1, 4], "tanh", "mse", [1, 90], [0.1], 60, "native", "interpolate"),
    ([12, 64, 32, 3], "relu", "cross_entropy", [60, 120], [0.1, 0.3], 60, "torch", "interpolate"),
    ([6, 40, 40, 1], "gelu", "bce", [97, 200], [0.1], 80, "torch", "bisect"),
    ([9, 200, 7], "relu", "mse", [150], [0.02, 0.1, 0.5], 70, "torch", "interpolate"),
    ([12, 64, 32, 3], "relu", "cross_entropy", [60, 120], [0.1, 0.3], 60, "reference", "interpolate"),
    ([3, 4, 2], "tanh", "mse", [40], [0.05], 60, "reference", "interpolate"),
    ([8, 150, 4], "relu", "bce", [30], [0.1], 64, "reference", "bisect"),
    ([30, 80, 5], "gelu", "mse", [10, 20, 40], [0.1], 60, "reference", "interpolate"),
]
IDS = [f"{'x'.join(map(str, w))}-{loss}-{backend}" for w, _, loss, *_, backend, _ in NETWORKS]


def data_for(features: int, outputs: int, loss: str, count: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(count, features)
    if loss == "cross_entropy":
        labels = torch.arange(count) % outputs
        return inputs + 1.5 * torch.randn(outputs, features)[labels], labels
    teacher = torch.tanh(inputs @ torch.randn(features, outputs))
    return inputs, (teacher > 0).float() if loss == "bce" else teacher


def train(model: nn.Module, loss: str, data: tuple[Tensor, Tensor], steps: int = 60) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        LOSSES[loss](model(data[0]), data[1]).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model


def solve_both(
    model, loss, data, levels, above, count, batch_size=None, **options
) -> tuple[bv.Directions, Radii, Radii]:
    """Radii with resolve="all" and "decisive", for cutoffs this much above the center."""
    landscape = bv.Landscape(model, LOSSES[loss], data, levels=levels, batch_size=batch_size)
    center = float(landscape.losses().max())
    # Legacy normals come from torch, so that float64 can follow the very same rays.
    directions = bv.Directions(bv.ParameterSpace.of(model), count, generator="legacy")
    cutoffs = [center + rise for rise in above]
    found = [
        bv.RaySolver(landscape, directions, cutoffs, resolve=resolve, **options).solve_all()
        for resolve in ("all", "decisive")
    ]
    return directions, found[0], found[1]


def volume(radii: Radii, dim: int) -> float:
    return log_mean_power(torch.where(radii.is_status(Status.NEGLIGIBLE), 0.0, radii.radius), dim)


def bracket_nats(radii: Radii, dim: int) -> float:
    crossed = radii.is_status(Status.CROSSED)
    return log_mean_power(radii.upper[crossed], dim) - log_mean_power(radii.lower[crossed], dim)


def assert_decisive_is_all(everything: Radii, decisive: Radii, dim: int) -> int:
    """For one level and cutoff; the number of rays that were skipped."""
    skipped, solved = decisive.is_status(Status.NEGLIGIBLE), decisive.is_status(Status.CROSSED)
    assert bool(everything.is_status(Status.CROSSED).all())
    assert bool((skipped | solved).all())
    assert not bool(skipped[:NUM_SPREAD_FEW].any())
    first = dim * everything.radius[:NUM_SPREAD_FEW].log()
    if float(first.max() - first.median()) < 10.0 * math.sqrt(2.0 * math.log(len(everything))):
        assert not bool(skipped[:NUM_SPREAD].any())
    # The true radius lies in the bracket of the full search, and is below the bound of the proof.
    assert bool((everything.lower < decisive.upper)[skipped].all())
    assert bool((decisive.lower[skipped] == 0).all())
    nats = math.log(len(decisive) / SKIPPED_NATS)
    assert bool((dim * (everything.upper.max() / decisive.upper[skipped]).log() >= nats * (1 - 1e-12)).all())
    assert bool((decisive.value_upper > decisive.cutoffs[0])[skipped].all())
    overlap = torch.maximum(everything.lower, decisive.lower) <= torch.minimum(everything.upper, decisive.upper)
    nearly = (everything.radius - decisive.radius).abs() <= 8 * torch.finfo(torch.float32).eps * everything.radius
    assert bool((overlap | nearly)[solved].all())
    noise = bracket_nats(everything, dim) + bracket_nats(decisive, dim)
    assert abs(volume(everything, dim) - volume(decisive, dim)) <= max(0.2, noise)
    return int(skipped.sum())


def assert_proofs_hold_in_float64(model, loss, data, directions, radii: Radii, losses_along) -> None:
    """The full loss at every bound of a skipped ray is above the cutoff, up to twice what torch loses to float32."""
    rays = radii.is_status(Status.NEGLIGIBLE).nonzero().reshape(-1)
    if len(rays) == 0:
        return
    count = radii.levels[0]
    along = (model, LOSSES[loss], (data[0][:count], data[1][:count]), directions, rays.tolist(), radii.upper[rays])
    exact, rough = losses_along(*along, torch.float64), losses_along(*along, torch.float32)
    # The rounding that `assert_refined` grants as well: a network that another processor trains has other errors.
    noise = 2.0 * float(((rough - exact) / exact).abs().max()) + 2.0**-22
    assert bool((exact * (1 + noise) > radii.cutoffs[0]).all())
    assert bool((radii.value_upper[rays] <= exact * (1 + noise)).all()), "a partial sum is a lower bound"


def assert_refined(radii: Radii, dim: int, model, loss, data, directions, losses_along) -> None:
    crossed = radii.is_status(Status.CROSSED)
    largest = radii.lower[crossed].max()
    decides = crossed & (dim * (radii.upper / largest).log() >= -DECISIVE_NATS)
    rtol = max(REFINED_NATS / dim, 4 * torch.finfo(torch.float32).eps)
    assert bool((radii.upper - radii.lower <= rtol * radii.upper)[decides].all())
    assert bool((radii.value_lower <= radii.cutoffs[0])[crossed].all())
    assert bool((radii.value_upper > radii.cutoffs[0])[crossed].all())
    rays, count = decides.nonzero().reshape(-1)[:6], radii.levels[0]
    along = (model, LOSSES[loss], (data[0][:count], data[1][:count]), directions)
    # One or two rays may decide: the errors of torch are looked at close to them as well, where they are as large.
    near = radii.upper[rays[:1]] * torch.linspace(1.0 - 1e-3, 1.0 + 1e-3, 32, dtype=torch.float64)
    nearby = [
        losses_along(*along, rays[:1].tolist() * len(near), near, kind) for kind in (torch.float64, torch.float32)
    ]
    for radius, value in ((radii.lower, radii.value_lower), (radii.upper, radii.value_upper)):
        exact, rough = (
            losses_along(*along, rays.tolist(), radius[rays], kind) for kind in (torch.float64, torch.float32)
        )
        errors = torch.cat([rough - exact, nearby[1] - nearby[0]]).abs()
        noise = 2.0 * float(errors.max()) + 2.0**-22 * radii.cutoffs[0]
        assert float((value[rays] - exact).abs().max()) <= noise, "the values are those of these radii"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("widths", "activation", "loss", "levels", "above", "count", "backend", "search"), NETWORKS, ids=IDS
)
def test_decisive_equals_all(make_mlp, losses_along, widths, activation, loss, levels, above, count, backend, search):
    data = data_for(widths[0], widths[-1], loss, levels[-1])
    model = train(make_mlp(widths, activation), loss, data)
    directions, everything, decisive = solve_both(
        model, loss, data, levels, above, count, backend=backend, search=search
    )
    dim, skipped = directions.space.dim, 0
    for level, cutoff in itertools.product(levels, everything.cutoffs):
        one, other = everything.at(level, cutoff), decisive.at(level, cutoff)
        skipped += assert_decisive_is_all(one, other, dim)
        assert_proofs_hold_in_float64(model, loss, data, directions, other, losses_along)
        for radii in (one, other):
            assert_refined(radii, dim, model, loss, data, directions, losses_along)
    assert skipped > 0 or dim < 200, "no ray was skipped, so nothing was tested"


@pytest.mark.parametrize("order", ["by class", "hard row last", "hard row first", "duplicates", "same inputs"])
def test_order_of_the_examples_decides_nothing(make_mlp, losses_along, order):
    inputs, labels = data_for(12, 3, "cross_entropy", 200)
    if order == "by class":
        rows = labels.argsort(stable=True)
        inputs, labels = inputs[rows], labels[rows]
    elif order == "duplicates":
        inputs, labels = inputs[:10].repeat(20, 1), labels[:10].repeat(20)
    elif order == "same inputs":
        inputs = inputs[:1].repeat(200, 1)
    model = train(make_mlp([12, 64, 32, 3]), "cross_entropy", (inputs, labels))
    if order.startswith("hard row"):  # the one example with another label than its neighbours
        row = -1 if order.endswith("last") else 0
        labels[row] = (labels[row] + 1) % 3
    directions, everything, decisive = solve_both(
        model, "cross_entropy", (inputs, labels), [97, 200], [0.1, 0.5], 100, backend="native"
    )
    skipped = 0
    for level, cutoff in itertools.product((97, 200), everything.cutoffs):
        skipped += assert_decisive_is_all(
            everything.at(level, cutoff), decisive.at(level, cutoff), directions.space.dim
        )
        assert_proofs_hold_in_float64(
            model, "cross_entropy", (inputs, labels), directions, decisive.at(level, cutoff), losses_along
        )
    assert skipped > 0


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
@pytest.mark.parametrize("method", ["star", "paper"])
def test_skipped_rays_of_a_grid_change_no_digit(make_mlp, method, backend):
    data = data_for(12, 3, "cross_entropy", 100)
    model = train(make_mlp([12, 100, 32, 3]), "cross_entropy", data)
    everything, decisive = (
        bv.estimate_volume(
            model, F.cross_entropy, data, 0.3, 90, method=method, search="grid", resolve=resolve, backend=backend
        )
        for resolve in ("all", "decisive")
    )
    assert decisive.diagnostics.negligible > 0
    assert everything.diagnostics.negligible == 0
    assert abs(decisive.log_mean_power - everything.log_mean_power) <= SKIPPED_NATS
    solved = decisive.radii.is_status(Status.CROSSED)
    assert torch.equal(decisive.radii.radius[solved], everything.radii.radius[solved])
    skipped = decisive.radii.is_status(Status.NEGLIGIBLE)
    assert bool((everything.radii.radius <= decisive.radii.upper)[skipped].all())


@pytest.mark.parametrize("network", ["perceptron", "program", "any module"])
def test_proofs_that_read_rows_class_by_class(make_mlp, losses_along, network):
    """The larger level has so many rows that a class has many blocks, which are read class by class."""
    data = data_for(12, 3, "cross_entropy", 3600)
    model = train(make_mlp([12, 40, 3]), "cross_entropy", data)
    if network == "program":  # which perceptrons with such an activation are
        model = nn.Sequential(model[0], nn.Softplus(), model[2])
        train(model, "cross_entropy", data)
    options = {"backend": "torch", "batch_size": 128} if network == "any module" else {"backend": "native"}
    problem = model, "cross_entropy", data, [1000, 3600], [0.1, 0.5], 80
    directions, everything, decisive = solve_both(*problem, **options)
    if network == "any module":  # whose batches several threads may read at a time
        _, _, threaded = solve_both(*problem, **options, num_threads=3, memory_budget=1)
        for name in ("upper", "value_upper", "num_full_evaluations"):
            assert torch.equal(getattr(threaded, name), getattr(decisive, name)), name
    skipped = 0
    for level, cutoff in itertools.product((1000, 3600), everything.cutoffs):
        other = decisive.at(level, cutoff)
        skipped += assert_decisive_is_all(everything.at(level, cutoff), other, directions.space.dim)
        assert_proofs_hold_in_float64(model, "cross_entropy", data, directions, other, losses_along)
    assert skipped > 0
    proofs = decisive.is_status(Status.NEGLIGIBLE).all(dim=0).all(dim=0)
    assert float(decisive.num_full_evaluations[proofs].median()) < 2.0, "four proofs, none of which reads all rows"


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_censored_ray_in_the_pilot_lets_nothing_be_skipped(make_mlp, backend):
    """A ray without an end outweighs all others or is dropped, so none is known not to matter: per cutoff."""
    data = data_for(12, 3, "cross_entropy", 60)
    model = train(make_mlp([12, 64, 32, 3]), "cross_entropy", data)
    options = {"backend": backend}
    _, free, _ = solve_both(model, "cross_entropy", data, [60], [0.05, 1.0], 60, **options)
    longest = float(free.upper[0, 0].max())
    radius_max = float(free.upper[0, 1, :NUM_SPREAD_FEW].max()) * 0.99
    assert radius_max > longest, "only the larger cutoff is censored"
    _, everything, decisive = solve_both(
        model, "cross_entropy", data, [60], [0.05, 1.0], 60, radius_max=radius_max, **options
    )
    assert bool(decisive.is_status(Status.CENSORED)[0, 1, :NUM_SPREAD_FEW].any())
    assert torch.equal(decisive.status_code[0, 1], everything.status_code[0, 1])
    assert bool(decisive.is_status(Status.NEGLIGIBLE)[0, 0].any())


def test_partial_sums_prove_nothing_where_losses_are_negative(make_mlp):
    """Binary cross-entropy with targets outside [0, 1] falls below 0: the hard rows alone can pass the cutoff."""
    torch.manual_seed(5)
    model, inputs = make_mlp([6, 40, 1], seed=5), torch.randn(400, 6)
    is_positive = model(inputs).detach() > 0
    targets = torch.where(is_positive, 1.5, -0.5)
    targets[:96] = is_positive[:96].float()
    train(model, "bce", (inputs, targets), steps=30)
    _, everything, decisive = solve_both(model, "bce", (inputs, targets), [400], [0.2], 150, backend="auto")
    skipped = decisive.is_status(Status.NEGLIGIBLE)
    assert bool(everything.is_status(Status.CROSSED).any())
    assert bool((everything.lower < decisive.upper)[skipped].all())
