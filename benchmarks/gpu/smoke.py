"""Every kernel of the Triton engine, and every path of the CUDA engine, against float64: one line each in seconds.

A kernel may be wrong by twice what torch's own float32 is wrong by (tf32 products, which only propose radii, by 1e-2);
where the arithmetic leaves one result, it must be that result. The bias is the slope of error against value: an error
that follows the value moves every radius in one direction.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basin_triton as kernels
import basinvol as bv
from basinvol import _native
from basinvol.backends import backends
from basinvol.backends.triton.search import DeviceSearch
from basinvol.search import RaySearch, SearchSettings
from basinvol.search.radii import Guess
from basinvol.search.targets import Targets

from ..cases import perceptron
from .device import DEVICE, IS_REHEARSAL, seconds_of, usable
from .lines import Lines

_ROUNDS = 1 if IS_REHEARSAL else 5
_MOST_BIAS = 5e-7
_TF32_ERROR = 1e-2
_ROWS, _RAYS = (70, 2) if IS_REHEARSAL else (1000, 8)
_DEPTHS = (40, 96) if IS_REHEARSAL else (784, 3072)
LOSSES = {
    "cross_entropy": F.cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "mse": F.mse_loss,
}


def smoke(lines: Lines) -> None:
    """Run every check; each is a line, and none ends the others."""
    torch.manual_seed(0)
    torch.set_default_device(DEVICE)
    try:
        if "triton" in usable():
            _parameters(lines)
            for precision, depth in itertools.product(("fp32", "tf32x3", "tf32"), _DEPTHS):
                _linear(lines, precision, depth)
            for loss in LOSSES:
                _loss_head(lines, loss)
                _fused(lines, loss)
            _sums(lines)
    finally:
        torch.set_default_device(None)
    if "triton" in usable():
        for method in ("interpolate", "bisect", "grid"):
            _search(lines, method)
    for path in _paths():
        with lines.measuring(path["name"]) as found:
            found |= _engine(**path)


def compare(found: Tensor, exact: Tensor, rough: Tensor | None, run: Callable[[], object] | None) -> dict[str, Any]:
    """What a line says of a kernel's results.

    Args:
        found: The results.
        exact: The same in float64.
        rough: The same by torch in float32, whose error is the measure; None where one result is possible.
        run: The call to time, if any.
    """
    scale = float(exact.abs().max())
    error = (found.double() - exact).flatten()
    own = 0.0 if rough is None else float((rough.double() - exact).abs().max()) / scale
    largest = float(error.abs().max()) / scale
    bias = float((error * exact.flatten()).sum() / exact.square().sum())
    line: dict[str, Any] = {"largest_error": largest, "torch_error": own, "bias": bias}
    line["ok"] = largest <= 2.0 * own and (rough is None or abs(bias) <= _MOST_BIAS)
    if run is not None:
        line["seconds"] = seconds_of(run, _ROUNDS)["median"]
    return line


def _parameters(lines: Lines) -> None:
    sizes = (1027, 6, 300)
    offsets = (0, 1027, 1033)
    tensors = [(i, offset, size, 1040 * i) for i, (offset, size) in enumerate(zip(offsets, sizes, strict=True))]
    pieces = kernels.Pieces.of(tensors, DEVICE)
    directions, active = torch.tensor([5, 2**32 - 1]), torch.tensor([1, 0], dtype=torch.int32)
    normals = torch.stack([_flat_normals(7, index, sizes) for index in directions.tolist()])
    with lines.measuring("triton normals") as found:
        drawn = kernels.normals(7, directions, 0, sizes[0])
        found |= compare(drawn, normals[:, : sizes[0]].double(), None, lambda: kernels.normals(7, directions, 0, 1027))
    with lines.measuring("triton square_norms") as found:
        exact = normals.double().square().sum(dim=1)
        found |= compare(kernels.square_norms(7, directions, pieces), exact, exact.float(), None)
    scale, center = torch.rand(1333) + 0.5, torch.randn(1333)
    radius = torch.rand(2, dtype=torch.float64) + 0.1
    inverse = 1.0 / normals.double().norm(dim=1)
    out = torch.empty(2, 1040 * 3)

    def run() -> None:
        kernels.materialize(out, pieces, scale, active, directions, inverse, seed=7, center=center, radius=radius)

    with lines.measuring("triton materialize") as found:
        run()
        move = (normals * inverse.float()[:, None] * scale)[[1, 0]]
        expected = center + radius.float()[[1, 0], None] * move
        written = torch.cat([out[:, at : at + size] for _, _, size, at in tensors], dim=1)
        found |= compare(written, expected.double(), None, run)


def _flat_normals(seed: int, index: int, sizes: tuple[int, ...]) -> Tensor:
    parts = [torch.from_numpy(_native.philox_normals(seed, index, tensor, size)) for tensor, size in enumerate(sizes)]
    return torch.cat(parts).to(DEVICE)


def _first(depth: int, activation: str) -> kernels.First:
    return kernels.First(
        base=torch.randn(_ROWS, depth),
        shift=torch.randn(_RAYS, _ROWS, depth),
        radius=torch.rand(_RAYS, dtype=torch.float64) + 0.5,
        bias=torch.randn(_RAYS, depth),
        activation=activation,
    )


def _activations(first: kernels.First, dtype: torch.dtype) -> Tensor:
    radius = first.radius.float().to(dtype)[:, None, None]
    assert first.bias is not None
    sums = first.base.to(dtype) + radius * first.shift.to(dtype) + first.bias.to(dtype)[:, None]
    return torch.relu(sums)


def _linear(lines: Lines, precision: str, depth: int) -> None:
    active = torch.arange(_RAYS, dtype=torch.int32)
    rows = torch.full((_RAYS,), _ROWS, dtype=torch.int32)
    weight, bias = torch.randn(_RAYS, 48, depth) / depth**0.5, torch.randn(_RAYS, 48)
    shared, first = torch.randn(_ROWS, depth), _first(depth, "relu")
    for kind, inputs in (("of the data", shared), ("of first activations", first)):

        def run(x: Any = inputs) -> Tensor:
            return kernels.linear(x, weight, bias, active, rows, precision=precision)

        def by_torch(dtype: torch.dtype, x: Any = inputs) -> Tensor:
            values = _activations(x, dtype) if isinstance(x, kernels.First) else x.to(dtype).expand(_RAYS, -1, -1)
            return values @ weight.to(dtype).mT + bias.to(dtype)[:, None]

        with lines.measuring(f"triton linear {precision}, depth {depth}, {kind}") as found:
            line = compare(run(), by_torch(torch.float64), by_torch(torch.float32), run)
            if precision == "tf32":
                line["ok"] = line["largest_error"] <= _TF32_ERROR
            found |= line


def _loss_sums(logits: Tensor, targets: Tensor, loss: str, ends: list[int]) -> Tensor:
    """Sums over blocks of rows, which end at `ends`. [A, B]"""
    found = []
    for ray in logits:
        values = LOSSES[loss](ray, targets if loss == "cross_entropy" else targets.to(ray.dtype), reduction="none")
        by_row = values if loss == "cross_entropy" else values.sum(dim=1)
        parts = torch.tensor_split(by_row.cpu(), ends[:-1])
        found.append(torch.stack([part.sum() for part in parts]))
    return torch.stack(found).to(DEVICE)


def _targets(loss: str, outputs: int) -> Tensor:
    if loss == "cross_entropy":
        return torch.randint(outputs, (_ROWS,))
    return (torch.rand(_ROWS, outputs) < 0.5).float()


def _loss_head(lines: Lines, loss: str) -> None:
    depth, outputs = 96, 10
    active, rows = torch.arange(_RAYS, dtype=torch.int32), torch.full((_RAYS,), _ROWS, dtype=torch.int32)
    inputs, weight, bias = (
        torch.randn(_RAYS, _ROWS, depth),
        torch.randn(_RAYS, outputs, depth) / 5,
        torch.randn(_RAYS, 10),
    )
    targets, blocks = _targets(loss, outputs), kernels.RowBlocks.between((_ROWS,), DEVICE)
    out = torch.empty(_RAYS, len(blocks), dtype=torch.float64)
    ends = [*blocks.first.tolist()[1:], _ROWS]

    def run() -> Tensor:
        kernels.loss_head(inputs, weight, bias, targets, active, rows, blocks, out, loss=loss)
        return out

    with lines.measuring(f"triton loss_head {loss}") as found:
        exact, rough = (
            _loss_sums(inputs.to(kind) @ weight.to(kind).mT + bias.to(kind)[:, None], targets, loss, ends)
            for kind in (torch.float64, torch.float32)
        )
        found |= compare(run(), exact, rough, run)


def _fused(lines: Lines, loss: str) -> None:
    width, outputs = 32, 3
    active, rows = torch.arange(_RAYS, dtype=torch.int32), torch.full((_RAYS,), _ROWS, dtype=torch.int32)
    first = _first(width, "relu")
    places, at = [], 0
    for inner, outer in ((width, width), (width, outputs)):
        places.append((at, at + inner * outer, inner, outer))
        at += inner * outer + outer
    parameters = torch.randn(_RAYS, at) / 4
    table = kernels.LayerTable.of(places, "relu", DEVICE)
    targets, blocks = _targets(loss, outputs), kernels.RowBlocks.between((_ROWS,), DEVICE)
    out = torch.empty(_RAYS, len(blocks), dtype=torch.float64)
    ends = [*blocks.first.tolist()[1:], _ROWS]

    def by_torch(kind: torch.dtype) -> Tensor:
        x = _activations(first, kind)
        for layer, (weight_at, bias_at, inner, outer) in enumerate(places):
            weight = parameters[:, weight_at:bias_at].to(kind).view(_RAYS, outer, inner)
            x = x @ weight.mT + parameters[:, None, bias_at : bias_at + outer].to(kind)
            x = torch.relu(x) if layer == 0 else x
        return _loss_sums(x, targets, loss, ends)

    def run() -> Tensor:
        kernels.fused_mlp(first, parameters, table, targets, active, rows, blocks, out, loss=loss)
        return out

    with lines.measuring(f"triton fused_mlp {loss}") as found:
        found |= compare(run(), by_torch(torch.float64), by_torch(torch.float32), run)


def _sums(lines: Lines) -> None:
    partial = torch.randn(_RAYS, 300, dtype=torch.float64)
    active = torch.arange(_RAYS, dtype=torch.int32)
    wanted = torch.full((_RAYS,), 300, dtype=torch.int32)
    ends, terms = torch.tensor([100, 300], dtype=torch.int32), torch.tensor([10.0, 30.0], dtype=torch.float64)
    with lines.measuring("triton reduce") as found:
        exact = partial.cumsum(dim=1)[:, [99, 299]] / terms
        result = kernels.reduce(partial, active, wanted, ends, terms)
        found |= compare(result, exact, exact.float(), lambda: kernels.reduce(partial, active, wanted, ends, terms))


def _search(lines: Lines, method: str) -> None:
    """The search on the device and that in torch, told the same losses, are the same bit for bit."""
    settings = SearchSettings(method=method, grid=tuple(0.02 * k for k in range(1, 60)))
    guess = Guess.generic(2, 2, 0.7)
    count, factor = 40, torch.linspace(0.5, 2.0, 40, dtype=torch.float64, device="cpu")
    targets = Targets.of(torch.zeros(2, device="cpu", dtype=torch.float64), (0.1, 0.3), (5, 9), guess, 1e-4)
    unit = torch.ones(count, dtype=torch.float64, device="cpu")

    def radii(search: RaySearch) -> bv.Radii:
        while (queries := search.ask()) is not None:
            reach = queries.radius.cpu() * factor[queries.rays.cpu()]
            losses = torch.stack([reach**2, 1.1 * reach**2], dim=1)
            search.tell(queries, losses.to(queries.radius.device))
        return search.radii()

    with lines.measuring(f"triton search_step and compact, {method}") as found:
        expected = radii(RaySearch(targets, settings, count, unit))
        result = radii(DeviceSearch(targets.to(DEVICE), settings, count, unit.to(DEVICE)))
        names = ("lower", "upper", "value_lower", "value_upper", "slope", "status_code", "num_evaluations")
        differing = [
            name
            for name in names
            if getattr(result, name).cpu().nan_to_num().numpy().tobytes()
            != getattr(expected, name).nan_to_num().numpy().tobytes()
        ]
        found |= {"ok": not differing, "largest_error": float(bool(differing)), "differing": differing}


def _paths() -> list[dict[str, Any]]:
    """The paths of whole engines: networks that take one each."""
    paths = []
    for backend in usable():
        widths = [40, 40, 34, 5] if IS_REHEARSAL else [104, 200, 120, 10]
        kinds = [("small network", [8, 16, 9, 3], None)]
        precisions = [name for name in backends()[backend].precisions if name != "tf32"]
        kinds += [(f"batched layers in {precision}", widths, precision) for precision in precisions]
        for kind, widths, precision in kinds:
            paths.append({"name": f"{backend} {kind}", "backend": backend, "widths": widths, "precision": precision})
    return paths


def _engine(name: str, backend: str, widths: list[int], precision: str | None) -> dict[str, Any]:
    """The losses that an engine writes at the ends of its brackets, against float64 at the same radii."""
    rows, count = (30, 2) if IS_REHEARSAL else (700, 40)
    model = perceptron(widths)
    inputs = torch.randn(rows, widths[0])
    targets = model(inputs).detach().argmax(dim=1)
    model, inputs, targets = model.to(DEVICE), inputs.to(DEVICE), targets.to(DEVICE)
    landscape = bv.Landscape(model, F.cross_entropy, (inputs, targets))
    directions = bv.Directions(bv.ParameterSpace.of(model), count)
    cutoff = float(landscape.losses()[0]) + 0.2

    def solver() -> bv.RaySolver:
        return bv.RaySolver(landscape, directions, [cutoff], backend=backend, precision=precision)

    radii = solver().solve(0, count).at(cutoff=cutoff)
    crossed = radii.is_status(bv.Status.CROSSED).nonzero().reshape(-1)
    radius = torch.cat([radii.lower[crossed], radii.upper[crossed]])
    given = torch.cat([radii.value_lower[crossed], radii.value_upper[crossed]])
    rays = crossed.tolist() * 2
    exact, rough = (_losses(model, (inputs, targets), directions, rays, radius, kind) for kind in _KINDS)
    line = compare(given, exact, rough, lambda: solver().solve(0, count))
    # Certificates may be wrong by this much; the loss is a mean over many rows, so that its error is small.
    line["ok"] = len(crossed) > 0 and line["largest_error"] <= max(2.0 * line["torch_error"], 1e-6)
    return {**line, "crossed": len(crossed), "of": count}


_KINDS = (torch.float64, torch.float32)


def _losses(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    directions: bv.Directions,
    rays: list[int],
    radius: Tensor,
    kind: torch.dtype,
) -> Tensor:
    space, copied = directions.space, copy.deepcopy(model).to(kind)
    center, scale = space.flatten(model).to(kind), space.scale(model)
    vectors = (directions.materialize(rays, device=scale.device) * scale).to(kind)
    found = []
    with torch.no_grad():
        for at, vector in zip(radius.tolist(), vectors, strict=True):
            nn.utils.vector_to_parameters(center + at * vector, copied.parameters())
            found.append(F.cross_entropy(copied(data[0].to(kind)), data[1]).double().cpu())
    return torch.stack(found)
