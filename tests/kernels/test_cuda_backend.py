"""The CUDA backend: why it cannot run here, and where it can, the radii of the CPU engine."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import _native
from basinvol.backends import cuda

gpu = pytest.mark.gpu
needs_device = pytest.mark.skipif(
    not _native.build_info()["cuda_devices"], reason="no CUDA device, or built without CUDA"
)
LOSSES = {"cross_entropy": F.cross_entropy, "bce": F.binary_cross_entropy_with_logits, "mse": F.mse_loss}


def claim(monkeypatch: pytest.MonkeyPatch, version: str | None, devices: list[str]) -> None:
    build = types.SimpleNamespace(build_info=lambda: {"cuda": version, "cuda_devices": devices})
    monkeypatch.setattr(cuda, "compiled_extension", lambda: build)


def test_a_build_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    claim(monkeypatch, None, [])
    reason = cuda.CudaBackend().unusable(torch.device("cpu"))
    assert reason == "this installation was built without CUDA (reinstall where nvcc is on the path)"


def test_a_machine_without_a_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    claim(monkeypatch, "13.0", [])
    reason = cuda.CudaBackend().unusable(torch.device("cpu"))
    assert reason == "it needs a CUDA device and a driver for CUDA 13.0, and none was found"


def test_landscapes_on_other_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    claim(monkeypatch, "13.0", ["a card"])
    backend = cuda.CudaBackend()
    assert backend.unusable(torch.device("cpu")) is None
    assert backend.unusable(torch.device("cuda", 0)) is None
    reason = backend.unusable(torch.device("meta"))
    assert reason == "it takes landscapes on the cpu or on a CUDA device, and this one is on meta"


@pytest.mark.skipif(_native.build_info()["cuda"] is None, reason="built without CUDA")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_driver_the_engine_names_the_call_that_failed(trained: nn.Module, blobs) -> None:
    problem = bv.RaySolver(
        bv.Landscape(trained, F.cross_entropy, blobs), bv.Directions(bv.ParameterSpace.of(trained), 1), [0.1]
    ).problem
    with pytest.raises(RuntimeError, match="cudaGetDevice failed on no device: "):
        cuda.CudaBackend().prepare(problem, bv.backends.Resources(1))


@pytest.mark.parametrize(("asked", "given"), [(None, 0), (10**6, 10**6)])
def test_the_adapter_gives_the_engine_what_the_cpu_engine_gets(monkeypatch, trained, blobs, asked, given) -> None:
    """The two engines share their binding, so the CPU's can stand in; 0 bytes stands for all that is free."""
    resources = []

    def resources_on(device: int, memory_budget: int, precision: str, uses_graphs: bool):
        resources.append((device, memory_budget, precision, uses_graphs))
        return _native.Resources(1, memory_budget or 2**30)

    stand_in = types.SimpleNamespace(
        CudaResources=resources_on, CudaMlpRays=_native.MlpRays, build_info=lambda: {"cuda_devices": ["a card"]}
    )
    monkeypatch.setattr(cuda, "compiled_extension", lambda: stand_in)
    landscape = bv.Landscape(trained, F.cross_entropy, blobs, levels=[30, 90])
    directions = bv.Directions(bv.ParameterSpace.of(trained), 8, generator="legacy")
    solver = bv.RaySolver(landscape, directions, [0.05, 0.1], backend="native", memory_budget=asked)
    engine = cuda.CudaBackend().prepare(solver.problem, bv.backends.Resources(1, asked))
    assert resources == [(0, given, "fp32", True)]
    monkeypatch.setenv("BASINVOL_CUDA_GRAPHS", "0")
    cuda.CudaBackend().prepare(solver.problem, bv.backends.Resources(1, asked))
    assert resources[1] == (0, given, "fp32", False)
    assert torch.equal(engine.center_losses, solver.engine.center_losses)
    guess = solver.generic_guess
    found, expected = engine.solve(range(8), guess), solver.engine.solve(range(8), guess)
    for name in ("lower", "upper", "status_code", "num_evaluations"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def solve(model: nn.Module, loss: str, data, backend: str, num_rays: int = 40, levels=None, **options) -> bv.Radii:
    landscape = bv.Landscape(model, LOSSES[loss], data, levels=levels)
    directions = bv.Directions(bv.ParameterSpace.of(model), num_rays, generator=options.pop("generator", "philox"))
    center = float(landscape.losses().max())
    return bv.find_radii(landscape, directions, [center + 0.05, center + 0.5], backend=backend, **options)


def data_for(model: nn.Module, loss: str, count: int, features: int):
    inputs = torch.randn(count, features)
    outputs = model(inputs).detach()
    if loss == "cross_entropy":
        return inputs, outputs.argmax(dim=1)
    return inputs, (outputs > 0).float() if loss == "bce" else outputs + 0.05 * torch.randn_like(outputs)


# Small networks take one block per ray, the others go layer by layer.
NETWORKS = [
    ([2, 32, 32, 32, 1], "relu", "bce", 1000),
    ([11, 3], "relu", "mse", 129),
    ([12, 16, 9, 3], "tanh", "cross_entropy", 127),
    ([100, 200, 200, 10], "relu", "cross_entropy", 3000),
    ([194, 250, 97], "gelu", "cross_entropy", 500),
    ([65, 129, 128, 1], "gelu", "bce", 128),
]
IDS = ["x".join(map(str, widths)) for widths, *_ in NETWORKS]


def assert_same_crossings(found: bv.Radii, expected: bv.Radii, model, loss_fn, data, losses_along) -> None:
    """Brackets overlap, or lie apart where the loss is the cutoff but for rounding; directions are "legacy" ones."""
    assert torch.equal(found.status_code, expected.status_code)
    crossed = found.is_status(bv.Status.CROSSED)
    assert bool(crossed.any())
    inside, outside = torch.maximum(found.lower, expected.lower), torch.minimum(found.upper, expected.upper)
    directions = bv.Directions(bv.ParameterSpace.of(model), len(found), generator="legacy")
    for level, cutoff, ray in ((inside > outside) & crossed).nonzero().tolist():
        part = tuple(values[: found.levels[level]] for values in data)
        # One engine is outside at the first of these radii, the other is inside at the last.
        radii = torch.linspace(float(outside[level, cutoff, ray]), float(inside[level, cutoff, ray]), 8)
        exact, rough = (
            losses_along(model, loss_fn, part, directions, [ray] * 8, radii, kind)
            for kind in (torch.float64, torch.float32)
        )
        # A kernel may be wrong by twice what torch float32 is wrong by; the largest of eight stands for each.
        room = 2.0 * float((rough - exact).abs().max())
        assert float(exact[0]) >= found.cutoffs[cutoff] - room
        assert float(exact[-1]) <= found.cutoffs[cutoff] + room


@gpu
@needs_device
@pytest.mark.parametrize("search", ["interpolate", "bisect", "grid"])
@pytest.mark.parametrize(("widths", "activation", "loss", "count"), NETWORKS, ids=IDS)
def test_radii_are_those_of_the_cpu_engine(make_mlp, widths, activation, loss, count, search, losses_along) -> None:
    model = make_mlp(widths, activation)
    data = data_for(model, loss, count, widths[0])
    options = {"levels": [1, count // 2, count], "search": search, "generator": "legacy"}
    found, expected = (solve(model, loss, data, name, **options) for name in ("cuda", "native"))
    assert_same_crossings(found, expected, model, LOSSES[loss], data, losses_along)


@gpu
@needs_device
@pytest.mark.parametrize(("widths", "activation", "loss", "count"), NETWORKS, ids=IDS)
def test_decisive_rays_are_those_of_the_cpu_engine(make_mlp, widths, activation, loss, count, losses_along) -> None:
    model = make_mlp(widths, activation)
    data = data_for(model, loss, count, widths[0])
    options = {"num_rays": 100, "resolve": "decisive", "generator": "legacy"}
    found, expected = (solve(model, loss, data, name, **options) for name in ("cuda", "native"))
    assert_same_crossings(found, expected, model, LOSSES[loss], data, losses_along)


@gpu
@needs_device
@pytest.mark.parametrize(("widths", "activation", "loss", "count"), NETWORKS[3:], ids=IDS[3:])
def test_split_tensor_core_products_find_the_same_crossings(
    make_mlp, widths, activation, loss, count, losses_along
) -> None:
    model = make_mlp(widths, activation)
    data = data_for(model, loss, count, widths[0])
    landscape = bv.Landscape(model, LOSSES[loss], data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 40, generator="legacy")
    cutoff = float(landscape.losses()[0]) + 0.2
    exact = bv.RaySolver(landscape, directions, [cutoff], backend="cuda")
    split = bv.RaySolver(landscape, directions, [cutoff], backend="cuda", precision="tf32x3")
    found, expected = (solver.engine.solve(range(40), exact.generic_guess).only((count,)) for solver in (split, exact))
    assert_same_crossings(found, expected, model, LOSSES[loss], data, losses_along)


@gpu
@needs_device
@pytest.mark.parametrize(("widths", "activation", "loss", "count"), NETWORKS, ids=IDS)
def test_brackets_hold_in_float64(make_mlp, widths, activation, loss, count, losses_along) -> None:
    model = make_mlp(widths, activation)
    data = data_for(model, loss, count, widths[0])
    found = solve(model, loss, data, "cuda", num_rays=8, generator="legacy")
    directions = bv.Directions(bv.ParameterSpace.of(model), 8, generator="legacy")
    for cutoff in found.cutoffs:
        at = found.at(cutoff=cutoff)
        rays = at.is_status(bv.Status.CROSSED).nonzero().reshape(-1)
        for radius, sign in ((at.lower, 1.0), (at.upper, -1.0)):
            exact = losses_along(model, LOSSES[loss], data, directions, rays.tolist(), radius[rays], torch.float64)
            rough = losses_along(model, LOSSES[loss], data, directions, rays.tolist(), radius[rays], torch.float32)
            # A kernel may be wrong by twice what torch float32 is wrong by; the largest of eight stands for each.
            room = 2.0 * float((rough - exact).abs().max())
            assert bool((sign * (exact - cutoff) <= room).all())


@gpu
@needs_device
@pytest.mark.parametrize("resolve", ["all", "decisive"])
@pytest.mark.parametrize("widths", [[12, 16, 9, 3], [40, 300, 60, 3]], ids=["one block per ray", "batched"])
def test_memory_and_the_split_into_blocks_change_no_byte(make_mlp, widths, resolve) -> None:
    model = make_mlp(widths)
    data = data_for(model, "cross_entropy", 700, widths[0])
    landscape = bv.Landscape(model, F.cross_entropy, data, levels=[60, 700])
    directions = bv.Directions(bv.ParameterSpace.of(model), 70)
    cutoff = float(landscape.losses().max()) + 0.2

    def solver(memory_budget: int) -> bv.RaySolver:
        return bv.RaySolver(
            landscape, directions, [cutoff], resolve=resolve, backend="cuda", memory_budget=memory_budget
        )

    whole = solver(2**30).solve(0, 70)
    small = solver(8 * 2**20)
    joined = bv.Radii.concatenate([small.solve(33, 70), small.solve(0, 33)])
    order = torch.cat([torch.arange(37, 70), torch.arange(37)])
    for name in ("lower", "upper", "value_lower", "value_upper", "slope", "status_code", "num_evaluations"):
        first, second = getattr(whole, name), getattr(joined, name)[..., order]
        assert first.numpy().tobytes() == second.contiguous().numpy().tobytes(), name
