"""Products of numbers that are split into halves, against float64 and torch; on the interpreter without a GPU."""

from __future__ import annotations

import importlib
import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("triton.tools.tensor_descriptor", reason="this version of triton describes no tensors")

from basin_triton import (
    First,
    Halves,
    Largest,
    Pieces,
    RowBlocks,
    SplitLayer,
    last_layers,
    materialize,
    materialize_halves,
    shared_linear,
    split,
)
from basin_triton.last_layers import fitting

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if _DEVICE.type == "cuda" and torch.cuda.get_device_capability() < (9, 0):
    pytest.skip("halves are for devices of compute capability 9.0 and newer", allow_module_level=True)

ACTIVATIONS = {"identity": lambda x: x, "relu": torch.relu, "tanh": torch.tanh, "gelu": F.gelu}
LOSSES = {
    "cross_entropy": lambda z, y: F.cross_entropy(z, y, reduction="none"),
    "bce_with_logits": lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="none").sum(dim=1),
    "mse": lambda z, y: F.mse_loss(z, y, reduction="none").sum(dim=1),
}


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two directions side by side: the interpreter runs the programs that have none, too."""
    for name in ("shared_linear", "last_layers"):
        monkeypatch.setattr(importlib.import_module(f"basin_triton.{name}"), "_GROUP", 2)


def whole(halves: Halves) -> Tensor:
    """The numbers that halves stand for. [G, ...] float64"""
    parts = halves.parts.double()
    return parts.sum(dim=1) * halves.inverse.double().view(-1, *[1] * (parts.ndim - 2))


def unset(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full(shape, math.nan, dtype=dtype, device=_DEVICE)


def slots(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=_DEVICE)


def rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def assert_as_exact_as_float32(found: Tensor, rough: Tensor, exact: Tensor) -> None:
    """At most twice torch's error in float32, and what two halves leave of a number."""
    assert rms(found.cpu() - exact) <= 2.0 * rms(rough - exact) + 2.0**-22 * rms(exact)


@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-30, 1.0, 3e4, 1e30, 3e38])
def test_halves_keep_22_bits_of_a_number_and_39_below_the_largest(size: float) -> None:
    x = torch.randn(300) * torch.logspace(0, -9, 300)
    x = (x / x.abs().max() * size).to(_DEVICE)
    found = whole(split(x))[0]
    assert bool(((found - x.double()).abs() <= 2.0**-22 * x.double().abs() + 2.0**-38 * x.double().abs().max()).all())
    assert bool(split(x).parts.isfinite().all())


# Tensor 3 of the space is larger than one program's part, and not a multiple of four; tensor 5 comes first in a row.
_TENSORS = [(3, 7, 1027, 48), (5, 1050, 6, 16)]
_ROW, _FLAT = 48 + 1027 + 21, 1060


@pytest.mark.parametrize("with_center", [True, False])
@pytest.mark.parametrize("source", ["memory", "generator"])
def test_parameters_in_halves_are_those_in_float32(source: str, with_center: bool) -> None:
    scale, center = torch.rand(_FLAT) + 0.1, torch.randn(_FLAT)
    scale[1050:] *= 1e-9  # each tensor has a factor of its own
    center[1050:] *= 1e-9
    pieces, active = Pieces.of(_TENSORS, _DEVICE), slots(1, -1, 0)
    scale, center = scale.to(_DEVICE), center.to(_DEVICE)
    options = {
        "directions": torch.tensor([5, 2**32 - 1], device=_DEVICE),
        "inverse_norm": torch.tensor([0.03, 0.02], dtype=torch.float64, device=_DEVICE),
        "seed": 2**63 + 5,
        "normals": torch.randn(2, _FLAT, device=_DEVICE) if source == "memory" else None,
    }
    if with_center:
        options |= {"center": center, "radius": torch.tensor([0.5, 20.0], dtype=torch.float64, device=_DEVICE)}
    expected = unset(3, _ROW)
    materialize(expected, pieces, scale, active, **options)
    out, inverse = unset(3, 2, _ROW, dtype=torch.float16), unset(2, 3)
    largest = Largest.of(_TENSORS, center, scale)
    materialize_halves(out, inverse, pieces, largest, scale, active, **options)
    for tensor, (_, _, size, at) in enumerate(_TENSORS):
        part = slice(at, at + size)
        found = whole(Halves(out[[0, 2]][:, :, part], inverse[tensor, [0, 2]]))
        wanted = expected[[0, 2], part].double()
        assert bool(((found - wanted).abs() <= 2.0**-22 * wanted.abs() + 2.0**-34 * wanted.abs().max()).all())
    assert bool(out[1].isnan().all()), "an inactive direction is left alone"
    assert bool(inverse[:, 1].isnan().all())
    assert bool(out[:, :, :16].isnan().all()), "what lies between the tensors is left alone"


def test_parameters_in_halves_refuse_room_of_another_shape() -> None:
    scale, pieces = torch.ones(_FLAT, device=_DEVICE), Pieces.of(_TENSORS, _DEVICE)
    options = {
        "directions": torch.zeros(1, dtype=torch.int64, device=_DEVICE),
        "inverse_norm": torch.ones(1, dtype=torch.float64, device=_DEVICE),
        "seed": 0,
    }
    given = (pieces, Largest.of(_TENSORS, scale, scale), scale, slots(0))
    with pytest.raises(ValueError, match=r"`out` must be contiguous \[1, 2, 1075 or more\], got \[1, 1, 1100\]"):
        materialize_halves(unset(1, 1, 1100, dtype=torch.float16), unset(2, 1), *given, **options)
    with pytest.raises(ValueError, match=r"`inverse` must be contiguous \[2, 1\], got \[1, 1\]"):
        materialize_halves(unset(1, 2, 1100, dtype=torch.float16), unset(1, 1), *given, **options)


@pytest.mark.parametrize(("rows", "depth", "outputs"), [(1, 8, 8), (129, 136, 24), (70, 64, 136)])
def test_a_layer_of_shared_inputs_errs_at_most_twice_as_much_as_torch(rows, depth, outputs) -> None:
    x = torch.randn(rows, depth) * 300.0
    weight = torch.randn(3, outputs, depth) * torch.tensor([1.0, 1e-12, 1e9])[:, None, None]
    parts = [split(w.to(_DEVICE)) for w in weight]
    together = Halves(torch.cat([part.parts for part in parts]), torch.cat([part.inverse for part in parts]))
    room = unset(4, rows, outputs)
    shared_linear(split(x.to(_DEVICE)), together, room[:3])
    for found, w in zip(room, weight, strict=False):
        assert_as_exact_as_float32(found, x @ w.T, x.double() @ w.double().T)
    assert bool(room[3].isnan().all())


def test_layers_of_shared_inputs_refuse_sizes_that_do_not_fit() -> None:
    x, weight = split(torch.randn(5, 16, device=_DEVICE)), split(torch.randn(8, 24, device=_DEVICE))
    with pytest.raises(
        ValueError, match=r"`weight` must be \[n, 2, J, 16\] for these inputs and `out` \[n, 5, J\], got"
    ):
        shared_linear(x, weight, unset(1, 5, 8))
    with pytest.raises(ValueError, match="sizes that are multiples of 8, got 16 x 9"):
        shared_linear(x, split(torch.randn(9, 16, device=_DEVICE)), unset(1, 5, 9))


BOUNDARIES = (1, 65, 129, 130)
# inputs, their number, units of the layer, classes of a last layer or 0
ENDS = [
    ("first layer", 40, 24, 3),
    ("first layer without bias", 8, 130, 16),
    ("of each direction", 72, 33, 1),
    ("first layer", 16, 35, 0),
    ("of each direction", 24, 2, 0),
]


def layer_of(weight: Tensor, bias: Tensor | None, activation: str) -> SplitLayer:
    """Weights of three directions, each split by itself."""
    parts = [split(w.to(_DEVICE)) for w in weight]
    halves = Halves(torch.cat([part.parts for part in parts]), torch.cat([part.inverse for part in parts]))
    return SplitLayer(halves, None if bias is None else bias.to(_DEVICE), activation)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("kind", "depth", "hidden", "classes"), ENDS)
def test_last_layers_err_at_most_twice_as_much_as_torch(kind, depth, hidden, classes, loss) -> None:
    rows, outputs = BOUNDARIES[-1], classes or hidden
    base, shift, radius = torch.randn(rows, depth), torch.randn(2, rows, depth), torch.tensor([0.7, 1e-3]).double()
    shift *= torch.logspace(-6, 6, rows)[:, None]  # every row has a size of its own
    first_bias = torch.randn(3, depth + 5)[:, 3 : 3 + depth] if kind == "first layer" else None
    plain = torch.randn(3, rows, depth)
    weight, bias = torch.randn(3, hidden, depth) / depth**0.5, torch.randn(3, hidden + 2)[:, 2:]
    last = torch.randn(3, classes, hidden) / hidden**0.5
    last_bias = torch.randn(3, classes) if classes != 1 else None
    targets = torch.arange(rows) % outputs if loss == "cross_entropy" else torch.rand(rows, outputs)
    activation = "gelu" if classes else "identity"

    def logits(direction: int, slot: int, dtype: torch.dtype) -> Tensor:
        x = plain[direction].to(dtype)
        if kind.startswith("first"):
            x = base.to(dtype) + radius[slot].to(dtype) * shift[slot].to(dtype)
            x = torch.relu(x if first_bias is None else x + first_bias[direction].to(dtype))
        x = ACTIVATIONS[activation](F.linear(x, weight[direction].to(dtype), bias[direction].to(dtype)))
        if not classes:
            return x
        return F.linear(x, last[direction].to(dtype), None if last_bias is None else last_bias[direction].to(dtype))

    inputs: Tensor | First = plain.to(_DEVICE)
    if kind.startswith("first"):
        there = (part.to(_DEVICE) for part in (base, shift, radius))
        inputs = First(*there, None if first_bias is None else first_bias.to(_DEVICE), "relu")
    blocks = RowBlocks.between(BOUNDARIES, _DEVICE)
    num_blocks = len(blocks)
    active, num_rows = slots(1, -1, 0), slots(65, rows)  # slot 0 wants the first two levels only
    out, per_row = unset(3, num_blocks + 2, dtype=torch.float64)[:, 1 : 1 + num_blocks], unset(3, rows)
    last_layers(
        inputs,
        layer_of(weight, bias, activation),
        layer_of(last, last_bias, "identity") if classes else None,
        targets.to(_DEVICE),
        active,
        num_rows,
        blocks,
        out,
        loss=loss,
        per_row=per_row,
    )
    assert bool(out[1].isnan().all()), "an inactive direction is left alone"
    assert bool(out[2, 2:].isnan().all()), "blocks beyond a slot's rows are left alone"
    assert bool(per_row[2, 65:].isnan().all())
    ends = list(itertools.pairwise([0, 1, 65, 129, 130]))
    for a, (direction, slot, wanted) in ((0, (0, 1, 4)), (2, (2, 0, 2))):
        exact, rough = (
            LOSSES[loss](logits(direction, slot, dtype), targets) for dtype in (torch.float64, torch.float32)
        )
        stop = ends[wanted - 1][1]
        # Rows are of very different sizes: each is held against what float32 is wrong by for its own size.
        errors = (per_row[a, :stop].cpu() - exact[:stop]).abs()
        room = 2.0 * (rough - exact)[:stop].abs().max() + 2.0**-20 * exact[:stop].abs().clamp(min=1.0)
        assert bool((errors <= room).all())
        sums = torch.stack([exact[low:high].sum() for low, high in ends[:wanted]])
        rough_sums = torch.stack([rough[low:high].sum() for low, high in ends[:wanted]])
        assert_as_exact_as_float32(out[a, :wanted], rough_sums, sums)


def test_a_part_of_the_rows_gives_the_bits_of_all() -> None:
    blocks, labels = RowBlocks.between(BOUNDARIES, _DEVICE), (torch.arange(130) % 3).to(_DEVICE)
    x = torch.randn(2, 130, 8, device=_DEVICE)
    layer = layer_of(torch.randn(2, 3, 8), None, "identity")
    arguments = (slots(0, 1), slots(130, 130))
    all_of_it, part = unset(2, 4, dtype=torch.float64), unset(2, 3, dtype=torch.float64)
    last_layers(x, layer, None, labels, *arguments, blocks, all_of_it, loss="cross_entropy")
    later = x[:, 1:].contiguous()
    options = {"loss": "cross_entropy", "origin": 1}
    last_layers(later, layer, None, labels[1:], *arguments, blocks.part(1, 4), part, **options)
    assert bool(all_of_it.isfinite().all())
    assert torch.equal(all_of_it[:, 1:], part)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_number_that_is_not_finite_makes_no_finite_loss(value: float) -> None:
    x = torch.randn(1, 4, 8, device=_DEVICE)
    x[0, 2, 3] = value
    layer, out = layer_of(torch.randn(1, 3, 8), None, "identity"), unset(1, 1, dtype=torch.float64)
    blocks, labels = RowBlocks.between((4,), _DEVICE), torch.zeros(4, dtype=torch.int64, device=_DEVICE)
    last_layers(x, layer, None, labels, slots(0), slots(4), blocks, out, loss="cross_entropy")
    assert not bool(out.isfinite().any())


def test_last_layers_refuse_what_does_not_fit() -> None:
    x = torch.randn(1, 4, 8, device=_DEVICE)
    blocks, labels = RowBlocks.between((4,), _DEVICE), torch.zeros(4, dtype=torch.int64, device=_DEVICE)
    given, out = (labels, slots(0), slots(4), blocks), unset(1, 1, dtype=torch.float64)
    layer = layer_of(torch.randn(1, 3, 8), None, "identity")
    with pytest.raises(
        ValueError, match="`loss` must be one of 'cross_entropy', 'bce_with_logits', 'mse', got 'hinge'"
    ):
        last_layers(x, layer, None, *given, out, loss="hinge")
    with pytest.raises(
        ValueError, match="`layer` must have at most 256 outputs and 8 inputs, a multiple of 8; got 257 x 8"
    ):
        last_layers(x, layer_of(torch.randn(1, 257, 8), None, "relu"), None, *given, out, loss="mse")
    with pytest.raises(ValueError, match="`last` must have at most 16 outputs and 3 inputs, got 17 x 3"):
        last_layers(x, layer, layer_of(torch.randn(1, 17, 3), None, "identity"), *given, out, loss="mse")
    with pytest.raises(ValueError, match=r"`out` must be \[1, 1\] with contiguous rows, got \[1, 2\]"):
        last_layers(x, layer, None, *given, unset(1, 2, dtype=torch.float64), loss="mse")


def test_as_many_of_the_last_layers_are_taken_as_fit() -> None:
    assert fitting([], "identity", "mse") == 0
    assert fitting([(10, 128)], "identity", "cross_entropy") == 1
    assert fitting([(97, 250)], "identity", "cross_entropy") == 0, "no multiple of 8"
    assert fitting([(128, 256), (10, 128)], "identity", "cross_entropy") == 2
    assert fitting([(128, 256), (10, 128)], "relu", "cross_entropy") == 1, "an activation after the last"
    assert fitting([(300, 256), (10, 300)], "identity", "cross_entropy") == 0, "too wide"
    assert fitting([(128, 256), (40, 128)], "identity", "cross_entropy") == 1
    assert fitting([(128, 256), (40, 128)], "identity", "bce_with_logits") == 0, "too many registers"
