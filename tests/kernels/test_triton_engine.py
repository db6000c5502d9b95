"""The engine on a device against the reference, from radii to volumes; on the interpreter where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("triton", reason="triton is not installed on this platform")

import basinvol as bv
from basinvol.backends import scouts
from basinvol.backends.triton import block as device_block
from basinvol.backends.triton import memory as device_memory
from basinvol.backends.triton import mlp as device_mlp
from basinvol.backends.triton.backend import _has_halves
from basinvol.search.radii import Radii, Status
from basinvol.trust.volume import log_mean_power

# The interpreter computes with numpy, which warns of overflow, infinities and NaN where a device does not.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LOSSES = {"cross_entropy": F.cross_entropy, "bce": F.binary_cross_entropy_with_logits, "mse": F.mse_loss}
BYTES = ("lower", "upper", "radius", "value_lower", "value_upper", "slope", "status_code", "num_evaluations")
Data = tuple[Tensor, Tensor]


class Squeezed(nn.Module):
    """Images in, one output that is squeezed away; two layers share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x.flatten(1)))
        return self.head(torch.tanh(self.second(x))).squeeze(-1)


def examples_for(model: nn.Module, loss: str, inputs: Tensor) -> Data:
    """Targets that `model` fits about as well as a trained network would."""
    outputs = model(inputs).detach()
    if loss == "cross_entropy":
        return inputs, outputs.argmax(dim=1)
    return inputs, (outputs > 0).float() if loss == "bce" else outputs + 0.05 * torch.randn_like(outputs)


class Case:
    """A network, its data, levels, and cutoffs this much above the loss at the center."""

    def __init__(
        self,
        model: nn.Module,
        loss: str,
        data: Data,
        levels: list[int],
        count: int = 2,
        rises: tuple[float, ...] = (0.1,),
        **space: object,
    ) -> None:
        self.model, self.loss, self.data = model, LOSSES[loss], data
        self.levels, self.count = levels, count
        self.space = bv.ParameterSpace.of(model, **space)
        self.center = float(self.landscape("cpu").losses().max())
        self.cutoffs = [self.center + rise for rise in rises]

    def landscape(self, device: str) -> bv.Landscape:
        return bv.Landscape(self.model, self.loss, self.data, levels=self.levels, device=device)

    def directions(self, generator: str = "legacy") -> bv.Directions:
        return bv.Directions(self.space, self.count, seed=2**40 + 1, generator=generator)

    def radii(self, backend: str, generator: str = "legacy", **options: object) -> Radii:
        landscape = self.landscape("cpu" if backend == "reference" else _DEVICE)
        options = {"cutoffs": self.cutoffs, "rtol": 1e-3, **options}
        return bv.find_radii(landscape, self.directions(generator), backend=backend, **options)


def assert_overlap(found: Radii, expected: Radii) -> None:
    """The same ends, and brackets that overlap wherever both crossed."""
    assert torch.equal(found.status_code, expected.status_code)
    crossed = found.is_status(Status.CROSSED)
    assert bool(crossed.any()), "no ray crossed, so nothing would be tested"
    assert bool((found.lower <= expected.upper)[crossed].all())
    assert bool((expected.lower <= found.upper)[crossed].all())


def assert_trace_holds_the_ends(radii: Radii) -> None:
    """A cutoff that is chosen later starts from these losses."""
    assert radii.trace is not None
    for level, cutoff, ray in radii.is_status(Status.CROSSED).nonzero().tolist():
        mine = radii.trace.ray == ray
        at, losses = radii.trace.radius[mine], radii.trace.losses[mine, level]
        for end, value in ((radii.lower, radii.value_lower), (radii.upper, radii.value_upper)):
            where = end[level, cutoff, ray]
            assert bool(((at == where) & (losses == value[level, cutoff, ray])).any()) or where == 0.0


def assert_same_rays(found: Radii, expected: Radii) -> None:
    assert_overlap(found, expected)
    torch.testing.assert_close(found.radius, expected.radius, rtol=1e-5, atol=0.0, equal_nan=True)
    assert int((found.num_evaluations - expected.num_evaluations).abs().max()) <= 1
    assert_trace_holds_the_ends(found)


def assert_same_bytes(found: Radii, expected: Radii) -> None:
    for name in BYTES:
        assert getattr(found, name).numpy().tobytes() == getattr(expected, name).numpy().tobytes(), name


def one_layer(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([5, 3])
    return Case(
        model, "cross_entropy", examples_for(model, "cross_entropy", torch.randn(70, 5)), [30, 70], 3, (0.05, 0.4)
    )


def wide_one_layer(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([4, 35])
    data = examples_for(model, "cross_entropy", torch.randn(20, 4))
    return Case(model, "cross_entropy", data, [20], exclude="*bias")


def one_layer_with_an_activation(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = nn.Sequential(*make_mlp([5, 3], bias=False), nn.ReLU())
    return Case(model, "mse", examples_for(model, "mse", torch.randn(20, 5)), [20])


def last_activation(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = nn.Sequential(*make_mlp([5, 6, 3], "tanh"), nn.GELU())
    return Case(model, "mse", examples_for(model, "mse", torch.randn(20, 5)), [20])


def first_weight_excluded(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([6, 7, 2], "tanh")
    return Case(model, "bce", examples_for(model, "bce", torch.randn(66, 6)), [64, 66], exclude="0.weight")


def first_weight_only(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([6, 8, 3])
    return Case(model, "mse", examples_for(model, "mse", torch.randn(20, 6)), [20], include="0.weight")


def biases_only(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([6, 8, 5, 3], "gelu")
    data = examples_for(model, "cross_entropy", torch.randn(20, 6))
    return Case(model, "cross_entropy", data, [20], include="*bias")


def wide_end_without_biases(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([6, 9, 8, 35], bias=False)
    data = examples_for(model, "cross_entropy", torch.randn(20, 6))
    return Case(model, "cross_entropy", data, [20])


def wide_end_with_an_activation(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = nn.Sequential(*make_mlp([4, 5, 17], "gelu"), nn.Tanh())
    return Case(model, "mse", examples_for(model, "mse", torch.randn(20, 4)), [20])


def four_layers(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([5, 6, 7, 6, 2], "gelu")
    return Case(model, "mse", examples_for(model, "mse", torch.randn(20, 5)), [20], rises=(0.3, 0.1))


def tied_and_squeezed(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = Squeezed()
    return Case(model, "bce", examples_for(model, "bce", torch.randn(20, 2, 3)), [20])


CASES = (
    one_layer,
    wide_one_layer,
    one_layer_with_an_activation,
    last_activation,
    first_weight_excluded,
    first_weight_only,
    biases_only,
    wide_end_without_biases,
    wide_end_with_an_activation,
    four_layers,
    tied_and_squeezed,
)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.replace("_", " "))
def test_radii_of_networks_are_those_of_the_reference(make_mlp, case) -> None:
    network = case(make_mlp)
    assert_same_rays(network.radii("triton"), network.radii("reference"))


def last_two_in_halves(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([8, 40, 8, 3], "gelu")
    data = examples_for(model, "cross_entropy", torch.randn(66, 8))
    return Case(model, "cross_entropy", data, [20, 66])


def last_one_in_halves(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([8, 40, 35], bias=False)
    return Case(model, "mse", examples_for(model, "mse", torch.randn(20, 8)), [20])


def a_layer_between_and_a_first_that_does_not_fit(make_mlp: Callable[..., nn.Sequential]) -> Case:
    model = make_mlp([6, 40, 16, 8, 2], "tanh")
    return Case(model, "bce", examples_for(model, "bce", torch.randn(20, 6)), [20])


IN_HALVES = (last_two_in_halves, last_one_in_halves, a_layer_between_and_a_first_that_does_not_fit)
needs_halves = pytest.mark.skipif(not _has_halves(torch.device(_DEVICE)), reason="no halves here")


@pytest.mark.slow
@needs_halves
@pytest.mark.parametrize("resolve", ["all", "decisive"])
@pytest.mark.parametrize("case", IN_HALVES, ids=lambda case: case.__name__.replace("_", " "))
def test_radii_in_halves_are_those_of_the_reference(make_mlp, case, resolve) -> None:
    network = case(make_mlp)
    found, expected = network.radii("triton", precision="fp16x3", resolve=resolve), network.radii("reference")
    assert_same_rays(found, expected)


@needs_halves
def test_halves_are_used_where_sizes_fit(make_mlp) -> None:
    def prepared(case: Callable[..., Case], precision: str) -> device_mlp.DeviceMlp:
        network = case(make_mlp)
        arguments = (network.landscape(_DEVICE), network.directions(), network.cutoffs)
        return bv.RaySolver(*arguments, backend="triton", precision=precision).engine._network.mlp

    fits, fits_in_part, narrow = (
        prepared(case, "fp16x3")
        for case in (last_two_in_halves, a_layer_between_and_a_first_that_does_not_fit, last_activation)
    )
    assert fits.split_first is not None
    assert fits.split_end is not None
    assert [layer.weight_name for layer in fits.split_end.layers] == ["2.weight", "4.weight"]
    assert set(fits.places) == {"0.bias", "2.bias", "4.bias"}, "weights in halves are not made in float32 as well"
    assert fits_in_part.split_first is None
    assert fits_in_part.split_end is not None
    assert "2.weight" in fits_in_part.places
    assert (narrow.split_first, narrow.split_end) == (None, None)
    plain = prepared(last_two_in_halves, "tf32x3")
    assert (plain.split_first, plain.split_end) == (None, None)


def test_halves_are_refused_by_name_where_there_are_none(make_mlp, monkeypatch) -> None:
    monkeypatch.setattr("basin_triton.has_descriptors", lambda: False)
    network = last_two_in_halves(make_mlp)
    with pytest.raises(bv.backends.BackendUnavailable, match=r"fp16x3 needs a device of compute capability 9\.0"):
        network.radii("triton", precision="fp16x3")
    solver = bv.RaySolver(network.landscape(_DEVICE), network.directions(), network.cutoffs, backend="triton")
    assert "tf32x3" in solver.description


def test_directions_of_the_generator_on_the_device_are_those_of_the_reference(make_mlp) -> None:
    model = make_mlp([5, 3], bias=False)
    network = Case(model, "mse", examples_for(model, "mse", torch.randn(20, 5)), [20])
    assert_same_rays(network.radii("triton", "philox"), network.radii("reference", "philox"))


@pytest.mark.slow
@pytest.mark.parametrize("search", ["interpolate", "bisect", "grid"])
def test_searches_end_as_the_references_for_cutoffs_on_both_sides_of_the_center(make_mlp, search) -> None:
    network = one_layer(make_mlp)
    network.levels, network.count = [70], 5  # more than the first four, from which the others learn
    options = {
        "search": search,
        "rtol": 0.05,
        "cutoffs": [0.5 * network.center, network.center + 0.01, network.center + 0.3],
        "radius_max": 1.0,
        "grid": [0.01 * k**2 for k in range(1, 9)],
    }
    found, expected = network.radii("triton", **options), network.radii("reference", **options)
    assert_same_rays(found, expected)
    assert {Status.CENTER_OUTSIDE, Status.CROSSED} <= set(found.status.reshape(-1))
    if search == "grid":
        assert torch.equal(found.num_evaluations, expected.num_evaluations)
    else:
        assert Status.CENSORED in set(found.status.reshape(-1))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_every_precision_certifies_the_same_crossings(make_mlp, losses_along, monkeypatch, precision) -> None:
    """Also tf32: it only proposes, and both ends of a bracket are losses in full precision."""
    network, used, evaluate = four_layers(make_mlp), set(), device_block.RayBlock._evaluate

    def noted(rays: device_block.RayBlock, evaluation: device_block._Evaluation, per_row: Tensor | None = None) -> None:
        used.add(evaluation.precision)
        evaluate(rays, evaluation, per_row)

    monkeypatch.setattr(device_block.RayBlock, "_evaluate", noted)
    found, expected = network.radii("triton", precision=precision), network.radii("reference")
    assert used == ({"tf32", "tf32x3"} if precision == "tf32" else {precision})
    assert_overlap(found, expected)
    assert_trace_holds_the_ends(found)
    torch.testing.assert_close(found.radius, expected.radius, rtol=1e-5, atol=0.0, equal_nan=True)
    crossed = found.is_status(Status.CROSSED)
    assert bool((found.upper - found.lower <= 1e-3 * found.upper)[crossed].all())
    for level, rays in enumerate(crossed[:, 0]):
        for radius, value in ((found.lower, found.value_lower), (found.upper, found.value_upper)):
            data = tuple(part[: network.levels[level]] for part in network.data)
            chosen = rays.nonzero().reshape(-1).tolist()
            along = (network.model, network.loss, data, network.directions(), chosen, radius[level, 0, rays])
            exact, rough = losses_along(*along, torch.float64), losses_along(*along, torch.float32)
            noise = 2.0 * float((rough - exact).abs().max()) + 2.0**-22 * found.cutoffs[0]
            assert float((value[level, 0, rays] - exact).abs().max()) <= noise


def test_decisive_rays_are_refined_and_hold_the_bracket_of_the_reference(make_mlp) -> None:
    model = make_mlp([6, 16, 3])
    network = Case(model, "mse", examples_for(model, "mse", torch.randn(20, 6)), [20])
    solver = bv.RaySolver(network.landscape(_DEVICE), network.directions(), network.cutoffs, rtol=0.1, backend="triton")
    loose = solver.solve(0, 2)
    found = solver.refine(loose)
    longest = int(loose.upper[0, 0].argmax())
    assert float(found.upper[0, 0, longest] / found.lower[0, 0, longest]) - 1.0 <= 0.11 / network.space.dim
    assert float(loose.upper[0, 0, longest] / loose.lower[0, 0, longest]) - 1.0 > 0.11 / network.space.dim
    assert int(found.num_evaluations[longest]) > int(loose.num_evaluations[longest])
    assert_overlap(found, network.radii("reference", cutoffs=network.cutoffs, rtol=0.1))


@pytest.mark.slow
@pytest.mark.parametrize("search", ["interpolate", "grid"])
def test_skipped_rays_are_proved_outside_and_change_no_volume(make_mlp, losses_along, monkeypatch, search) -> None:
    monkeypatch.setattr("basinvol.rays.pilot.STAGES", (4, 5))  # fewer rays in full, for time
    monkeypatch.setattr("basinvol.rays.pilot.NUM_SPREAD", 4)
    model = make_mlp([40, 10])
    network = Case(model, "cross_entropy", examples_for(model, "cross_entropy", torch.randn(40, 40)), [40], 13)
    crossings = network.radii("reference").radius[0, 0] / network.directions().norms(range(network.count))
    grid = torch.linspace(float(crossings.min()), 1.02 * float(crossings.max()), 9).tolist()
    options = {"search": search, "rtol": 1e-2, "grid": grid}
    decisive = network.radii("triton", resolve="decisive", **options).at()
    everything = network.radii("reference", **options).at()
    skipped = decisive.is_status(Status.NEGLIGIBLE)
    assert 0 < int(skipped.sum()) < len(decisive)
    assert torch.equal(decisive.status_code[~skipped], everything.status_code[~skipped])

    dim = network.space.dim
    found = log_mean_power(torch.where(skipped, 0.0, decisive.radius), dim)
    # The points of a grid are the same; brackets are refined to 0.1 nats, and the radius inside is known far better.
    assert abs(found - log_mean_power(everything.radius, dim)) <= (1e-6 if search == "grid" else 1e-2)

    (cutoff,), rays = decisive.cutoffs, skipped.nonzero().reshape(-1).tolist()
    along = (network.model, network.loss, network.data, network.directions(), rays, decisive.upper[skipped])
    exact, rough = losses_along(*along, torch.float64), losses_along(*along, torch.float32)
    noise = 2.0 * float((rough - exact).abs().max()) + 2.0**-22 * cutoff
    assert float(exact.min()) > cutoff - noise
    assert bool((decisive.value_upper[skipped] > cutoff).all())
    assert bool((decisive.value_upper[skipped] <= exact + noise).all()), "a proof gives a lower bound"
    assert int(decisive.num_evaluations[skipped].max()) == 1


def product_by_columns(a, b, dtype=None, **_: object):
    """A product of matrices in which a row has the same bits wherever it stands, which BLAS does not promise."""
    return (a[:, :, None] * b[None]).sum(axis=1, dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize("widest", [64, 0], ids=["fused", "layer by layer"])
def test_results_are_the_same_bytes_for_any_memory_and_scratch_space(make_mlp, monkeypatch, widest) -> None:
    monkeypatch.setattr("numpy.matmul", product_by_columns)  # of the interpreter
    monkeypatch.setattr(device_mlp, "MAX_WIDTH", widest)
    model = make_mlp([5, 4, 4, 3])
    data = examples_for(model, "cross_entropy", torch.randn(70, 5))
    network = Case(model, "cross_entropy", data, [20, 70], 3)

    def solver(memory_budget: int | None) -> bv.RaySolver:
        return bv.RaySolver(
            network.landscape(_DEVICE),
            network.directions(),
            network.cutoffs,
            rtol=0.5,
            backend="triton",
            memory_budget=memory_budget,
        )

    whole = solver(None)
    radii = whole.solve(0, 3)
    assert bool(radii.is_status(Status.CROSSED).any())
    assert (whole.engine._network.mlp.fused is None) == (widest == 0)
    needed = whole.engine._network.mlp.bytes_per_ray()
    small = solver(2 * needed + 1)
    assert small.engine.step == 2
    assert "up to 2 directions at a time" in small.description
    assert_same_bytes(small.solve(0, 3), radii)
    # Rows in chunks between two layers, and the first layer's products one direction at a time.
    monkeypatch.setattr(device_memory, "_DEFAULT_SCRATCH", 1)
    chunked = solver(None)
    assert torch.equal(chunked.center_losses, whole.center_losses)
    assert_same_bytes(chunked.solve(0, 3), radii)


def test_memory_for_less_than_one_direction_is_refused(make_mlp) -> None:
    network = one_layer(make_mlp)
    arguments = (network.landscape(_DEVICE), network.directions(), network.cutoffs)
    with pytest.raises(
        bv.BackendUnavailable, match=r"one direction needs 0\.00 GiB on .*choose backend='reference'\.$"
    ):
        bv.RaySolver(*arguments, backend="triton", memory_budget=64)


@pytest.mark.parametrize(
    ("has_device", "reason"),
    [
        (False, "it needs a CUDA device, and torch finds none on this machine"),
        (True, "it computes on a CUDA device, and the landscape is on cpu; pass device='cuda'"),
    ],
)
def test_without_a_device_or_away_from_it_the_backend_is_refused(make_mlp, monkeypatch, has_device, reason) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_device)
    network = one_layer(make_mlp)
    with pytest.raises(bv.BackendUnavailable) as refusal:
        bv.find_radii(network.landscape("cpu"), network.directions(), network.cutoffs, backend="triton")
    assert str(refusal.value) == (
        f"backend 'triton' cannot be used: {reason}; choose backend='auto' to take one that can."
    )


def test_models_that_it_does_not_compute_are_refused(make_mlp) -> None:
    model = nn.Sequential(*make_mlp([5, 3]), nn.CELU())
    data = examples_for(model, "cross_entropy", torch.randn(20, 5))
    network = Case(model, "cross_entropy", data, [20])
    with pytest.raises(
        bv.BackendUnavailable,
        match=r"'triton' cannot be used: layer '1' \(CELU\) is not .*, and as a program aten\.celu\.default is not",
    ):
        network.radii("triton")


@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_backends_refuse_precisions_that_they_do_not_have(make_mlp, precision) -> None:
    network = one_layer(make_mlp)
    for backend in ("native", "reference"):
        with pytest.raises(
            bv.BackendUnavailable, match=f"'{backend}' cannot be used: it computes in .*, not in {precision};"
        ):
            bv.find_radii(
                network.landscape("cpu"), network.directions(), network.cutoffs, backend=backend, precision=precision
            )


def test_unknown_precision_is_refused(make_mlp) -> None:
    with pytest.raises(ValueError, match="`precision` must be one of 'fp32', 'fp16x3', 'tf32x3', 'tf32', got 'fp16'"):
        one_layer(make_mlp).radii("triton", precision="fp16")


@pytest.mark.slow
def test_scouts_change_where_rays_are_looked_for_and_not_what_is_found(make_mlp, blobs, monkeypatch) -> None:
    """A scout of 15 of 240 rows: brackets hold the same crossings, and landscapes see their own levels only."""
    data = tuple(torch.cat([part] * 3)[:240] for part in blobs)
    network = make_mlp([data[0].shape[1], 20, 3])
    landscape = bv.Landscape(network, F.cross_entropy, data, levels=[240], device=_DEVICE)
    directions = bv.Directions(bv.ParameterSpace.of(network), 4)
    cutoff = float(landscape.losses()[0]) + 0.3

    def solver() -> bv.RaySolver:
        return bv.RaySolver(landscape, directions, [cutoff], backend="triton", precision="fp32")

    plain = solver()
    monkeypatch.setattr(scouts, "_MIN_SCOUT", 15)
    scouted = solver()
    assert plain.engine.levels == (240,)
    assert scouted.engine.levels == (15, 240)
    expected, found = plain.solve_all(), scouted.solve_all()
    assert found.levels == expected.levels == (240,)
    assert bool((found.lower <= expected.upper).all())
    assert bool((expected.lower <= found.upper).all())
