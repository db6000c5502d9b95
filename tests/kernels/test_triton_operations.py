"""The Triton operations one by one, against float64 and torch; on the interpreter where there is no GPU."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("triton", reason="triton is not installed on this platform")

from basin_triton import (
    BLOCK_ROWS,
    MAX_OUTPUTS,
    First,
    Pieces,
    RowBlocks,
    linear,
    loss_head,
    materialize,
    reduce,
    square_norms,
)
from basin_triton.tiles import Tile, measured, tile_of
from basinvol import _native

# The interpreter computes with numpy, which warns of overflow, infinities and NaN where a device does not.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_ROUNDING = 2.0**-24
ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
}


def slots(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=_DEVICE)


def unset(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full(shape, math.nan, dtype=dtype, device=_DEVICE)


def rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def assert_as_exact_as_float32(found: Tensor, rough: Tensor, exact: Tensor) -> None:
    """At most twice torch's error in float32, and the one rounding that every float32 number has."""
    assert exact.dtype == torch.float64
    assert rms(found.cpu() - exact.cpu()) <= 2.0 * rms(rough.cpu() - exact.cpu()) + _ROUNDING * rms(exact)


# --- parameters along directions


# Tensor 3 of the space is larger than one program's part, and not a multiple of four; tensor 5 comes first in a row.
_TENSORS = [(3, 7, 1027, 48), (5, 1050, 6, 16)]
_ROW, _FLAT = 48 + 1027 + 20, 1060


@pytest.mark.parametrize("with_scale", [True, False])
@pytest.mark.parametrize("with_center", [True, False])
@pytest.mark.parametrize("source", ["memory", "generator"])
def test_parameters_are_center_plus_radius_times_move(source: str, with_center: bool, with_scale: bool) -> None:
    seed = 2**63 + 5
    directions = torch.tensor([4, 2**32 - 1], device=_DEVICE)
    held = torch.randn(2, _FLAT)
    if source == "generator":
        for row, direction in enumerate(directions.tolist()):
            for tensor, first, size, _ in _TENSORS:
                drawn = torch.from_numpy(_native.philox_normals(seed, direction, tensor, size))
                held[row, first : first + size] = drawn
    scale, center = torch.rand(_FLAT) + 0.5, torch.randn(_FLAT)
    inverse_norm, radius = torch.rand(2, dtype=torch.float64) + 0.1, torch.rand(2, dtype=torch.float64) + 0.1
    out = unset(3, _ROW)
    materialize(
        out,
        Pieces.of(_TENSORS, _DEVICE),
        scale.to(_DEVICE) if with_scale else None,
        slots(1, -1, 0),
        directions,
        inverse_norm.to(_DEVICE),
        seed=seed,
        center=center.to(_DEVICE) if with_center else None,
        radius=radius.to(_DEVICE) if with_center else None,
        normals=held.to(_DEVICE) if source == "memory" else None,
    )
    units = (held.double() * inverse_norm[:, None]).float()
    moves = held * inverse_norm.float()[:, None] * scale if with_scale else units
    expected = center + radius.float()[:, None] * moves if with_center else moves
    is_free = torch.ones(3, _ROW, dtype=torch.bool)
    for _, first, size, at in _TENSORS:
        found = out[[2, 0], at : at + size].cpu()
        assert torch.equal(found, expected[:, first : first + size]), "without fusion, float32 leaves one result"
        is_free[[0, 2], at : at + size] = False
    assert bool(out.cpu().isnan()[is_free].all()), "the inactive row and what is between tensors are left alone"


def test_square_norms_are_those_of_the_vectors_whatever_else_is_asked_for() -> None:
    sizes, directions = (3, 1027), torch.tensor([0, 9], device=_DEVICE)
    pieces = Pieces.of([(0, 0, 3, 0), (1, 3, 1027, 0)], _DEVICE)
    found = square_norms(7, directions, pieces)
    for row, direction in enumerate(directions.tolist()):
        draws = [torch.from_numpy(_native.philox_normals(7, direction, t, n)) for t, n in enumerate(sizes)]
        expected = torch.cat(draws).double().square().sum()
        torch.testing.assert_close(found[row].cpu(), expected, rtol=1e-14, atol=0.0)
    assert torch.equal(square_norms(7, directions[1:], pieces), found[1:])


def test_parameters_refuse_what_they_can_not_read() -> None:
    one, index = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    pieces = Pieces.of([(0, 0, 4, 0)], torch.device("cpu"))
    arguments = (pieces, torch.ones(4), torch.zeros(1, dtype=torch.int32), index, one)
    with pytest.raises(ValueError, match=r"`out` must be \[1, 4 or more\] with contiguous rows, got \[1, 3\]"):
        materialize(torch.empty(1, 3), *arguments, seed=0)
    with pytest.raises(ValueError, match=r"`out` must be \[1, 4 or more\] with contiguous rows"):
        materialize(torch.empty(1, 8)[:, ::2], *arguments, seed=0)
    with pytest.raises(ValueError, match="`center` and `radius` must be given together"):
        materialize(torch.empty(1, 4), *arguments, seed=0, center=torch.ones(4))
    with pytest.raises(ValueError, match=r"`normals` must be \[1, 4\]"):
        materialize(torch.empty(1, 4), *arguments, seed=0, normals=torch.ones(2, 4))
    unscaled = (pieces, None, *arguments[2:])
    with pytest.raises(ValueError, match=r"`normals` must be \[1, 3\]"):
        materialize(torch.empty(1, 4), *unscaled, seed=0, normals=torch.ones(2, 3))


def test_a_direction_without_a_scale_is_that_of_the_extension() -> None:
    seed, index, sizes = 11, 2**32 - 1, (3, 1027, 2050)
    expected = torch.empty(sum(sizes))
    norm = _native.fill_direction(seed, index, sizes, expected.numpy())
    firsts = [sum(sizes[:tensor]) for tensor in range(len(sizes))]
    tensors = [(tensor, first, size, first) for tensor, (first, size) in enumerate(zip(firsts, sizes, strict=True))]
    pieces, number = Pieces.of(tensors, _DEVICE), torch.tensor([index], device=_DEVICE)
    norms = square_norms(seed, number, pieces).sqrt()
    found = unset(1, sum(sizes))
    materialize(found, pieces, None, slots(0), number, 1.0 / norms, seed=seed)
    assert torch.equal(found[0].cpu(), expected)
    assert float(norms) == pytest.approx(norm, rel=1e-15)


# --- one layer

# rows, depth, outputs around the sides of a tile (128 x 64 or 16, depth 16); inputs, activation, bias, precision.
LAYERS = [
    (1, 1, 1, "of each direction", "identity", True, "fp32"),
    (127, 17, 16, "shared", "relu", False, "fp32"),
    (128, 127, 1, "first layer", "tanh", True, "fp32"),
    (129, 128, 65, "of each direction", "tanh", True, "fp32"),
    (129, 1, 17, "first layer without bias", "gelu", True, "fp32"),
    (1, 129, 127, "shared", "gelu", True, "fp32"),
    (129, 129, 16, "first layer", "gelu", False, "tf32x3"),
    (2, 15, 129, "of each direction", "relu", True, "tf32x3"),
    (2, 33, 64, "shared", "identity", True, "tf32"),
]


def first_layer(rows: int, width: int, activation: str, has_bias: bool) -> First:
    """Parts for two slots and three directions, the biases in longer rows."""
    return First(
        base=torch.randn(rows, width),
        shift=torch.randn(2, rows, width),
        radius=torch.tensor([0.7, 1e-3], dtype=torch.float64),
        bias=torch.randn(3, width + 5)[:, 3 : 3 + width] if has_bias else None,
        activation=activation,
    )


def moved(first: First, direction: int, slot: int, dtype: torch.dtype) -> Tensor:
    x = first.base.to(dtype) + first.radius[slot].to(dtype) * first.shift[slot].to(dtype)
    x = x if first.bias is None else x + first.bias[direction].to(dtype)
    return ACTIVATIONS[first.activation](x)


def on_device(inputs: Tensor | First) -> Tensor | First:
    if isinstance(inputs, Tensor):
        return inputs.to(_DEVICE)
    bias = None if inputs.bias is None else inputs.bias.to(_DEVICE)
    return First(*(t.to(_DEVICE) for t in (inputs.base, inputs.shift, inputs.radius)), bias, inputs.activation)


def inputs_for(kind: str, rows: int, depth: int) -> Tensor | First:
    if kind.startswith("first layer"):
        return first_layer(rows, depth, "tanh", kind == "first layer")
    return torch.randn(rows, depth) if kind == "shared" else torch.randn(3, rows, depth)


def read(inputs: Tensor | First, direction: int, slot: int, dtype: torch.dtype) -> Tensor:
    """What one direction sees."""
    if isinstance(inputs, First):
        return moved(inputs, direction, slot, dtype)
    return (inputs[direction] if inputs.ndim == 3 else inputs).to(dtype)


@pytest.mark.parametrize(("rows", "depth", "outputs", "kind", "activation", "has_bias", "precision"), LAYERS)
def test_layer_errs_at_most_twice_as_much_as_torch_in_float32(
    rows, depth, outputs, kind, activation, has_bias, precision
) -> None:
    inputs = inputs_for(kind, rows, depth)
    parameters = torch.randn(3, 7 + outputs * (depth + 1))  # weights and biases are parts of longer rows
    weight = parameters[:, 7 : 7 + outputs * depth].unflatten(1, (outputs, depth))
    bias = parameters[:, 7 + outputs * depth :] if has_bias else None
    active, out = slots(1, -1, 0), unset(3, rows, outputs)
    parameters_there = parameters.to(_DEVICE)
    returned = linear(
        on_device(inputs),
        parameters_there[:, 7 : 7 + outputs * depth].unflatten(1, (outputs, depth)),
        parameters_there[:, 7 + outputs * depth :] if has_bias else None,
        active,
        slots(rows, rows),
        activation=activation,
        precision=precision,
        out=out,
    )
    assert returned is out
    assert bool(out[1].isnan().all()), "an inactive direction is left alone"
    expected = {}
    for dtype in (torch.float32, torch.float64):
        x = [read(inputs, direction, slot, dtype) for direction, slot in ((0, 1), (2, 0))]
        w = [weight[direction].to(dtype) for direction in (0, 2)]
        b = [None if bias is None else bias[direction].to(dtype) for direction in (0, 2)]
        expected[dtype] = torch.stack([ACTIVATIONS[activation](F.linear(*args)) for args in zip(x, w, b, strict=True)])
        sizes = torch.stack([F.linear(a.abs(), c.abs()) for a, c in zip(x, w, strict=True)])
    if precision == "tf32" and _DEVICE.type == "cuda":
        # Both factors of a product keep 10 bits; no activation is steeper than gelu, 1.13, and 1.2 leaves float32 room.
        assert bool(((out[[0, 2]].cpu() - expected[torch.float64]).abs() <= 1.2 * 2.0**-10 * sizes + 1e-6).all())
    else:
        assert_as_exact_as_float32(out[[0, 2]], expected[torch.float32], expected[torch.float64])


@pytest.mark.parametrize("precision", ["fp32", "tf32x3"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_keep_large_infinite_and_missing_values_as_torch(activation: str, precision: str) -> None:
    x = torch.tensor([[0.0, -0.0, 1e-30, -1e-8, 0.624, -0.626, 9.0, -9.0, 200.0, -200.0, math.inf, math.nan]]).T
    one = torch.ones(1, 1, 1, device=_DEVICE)
    out = linear(
        x.contiguous().to(_DEVICE), one, None, slots(0), slots(len(x)), activation=activation, precision=precision
    )
    expected = ACTIVATIONS[activation](x.double())
    # An infinity split for the tensor cores is not a number; and 0 x infinity of gelu is none for torch either.
    is_finite = x.isfinite()
    torch.testing.assert_close(out[0].cpu()[is_finite].double(), expected[is_finite], rtol=2e-6, atol=1e-7)
    assert not bool(out[0].cpu()[x.isnan()].isfinite().any())
    if precision == "fp32":
        torch.testing.assert_close(out[0].cpu()[10].double(), expected[10], equal_nan=True)


def test_tiles_are_those_measured_on_the_device_by_its_name(monkeypatch, tmp_path) -> None:
    entry = {"device": "a card", "precision": "fp32", "kind": "second", "tile": [64, 128, 32, 4, 4]}
    (tmp_path / "tiles.json").write_text(json.dumps([entry, {**entry, "device": "another", "tile": [1, 1, 1, 1, 1]}]))
    monkeypatch.delenv("BASINVOL_MEASURED_TILES", raising=False)
    monkeypatch.setattr("basin_triton.tiles._MEASURED", tmp_path / "tiles.json")
    monkeypatch.setattr("basin_triton.tiles._name", lambda device: None if device is None else "a card")
    measured.cache_clear()
    try:
        assert tile_of("fp32", 200, True, _DEVICE) == Tile(64, 128, 32, 4, 4)
        assert tile_of("fp32", 10, True, _DEVICE) == Tile(64, 16, 32, 4, 4), "narrow layers keep narrow tiles"
        assert tile_of("fp32", 200, False, _DEVICE) == tile_of("fp32", 200), "what was not measured is as it was"
        monkeypatch.setenv("BASINVOL_MEASURED_TILES", "0")
        measured.cache_clear()
        assert tile_of("fp32", 200, True, _DEVICE) == tile_of("fp32", 200, True)
    finally:
        measured.cache_clear()


def test_a_product_is_the_same_for_any_tile() -> None:
    inputs, weight = torch.randn(70, 40, device=_DEVICE), torch.randn(1, 20, 40, device=_DEVICE)
    active, rows = slots(0), torch.full((1,), 70, dtype=torch.int32, device=_DEVICE)
    expected = inputs.double() @ weight[0].double().T
    for tile in (Tile(64, 16, 16, 4, 2), Tile(128, 128, 32, 8, 3)):
        found = linear(inputs, weight, None, active, rows, tile=tile)[0]
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_tiles_beyond_the_rows_that_a_slot_wants_are_left_alone() -> None:
    side = tile_of("fp32", 3).rows
    rows = side + 1
    inputs, weight = torch.randn(rows, 2, device=_DEVICE), torch.randn(3, 3, 2, device=_DEVICE)
    out = unset(3, rows, 3)
    linear(inputs, weight, None, slots(0, 1, 2), slots(side, rows, 0), out=out)
    assert bool(out[0, :side].isfinite().all())
    assert bool(out[0, side:].isnan().all())
    assert bool(out[1].isfinite().all())
    assert bool(out[2].isnan().all())


def test_layers_refuse_unknown_names_and_weights_of_other_sizes() -> None:
    inputs, weight, active, rows = torch.ones(2, 3), torch.ones(1, 4, 3), slots(0), slots(2)
    with pytest.raises(ValueError, match=r"`activation` must be one of 'identity', .*, got 'selu'"):
        linear(inputs, weight, None, active, rows, activation="selu")
    with pytest.raises(ValueError, match=r"`precision` must be one of 'fp32', .*, got 'fp16'"):
        linear(inputs, weight, None, active, rows, precision="fp16")
    with pytest.raises(ValueError, match=r"`weight` must be \[1, outputs, 3\] .*, got \[1, 4, 5\]"):
        linear(inputs, torch.ones(1, 4, 5), None, active, rows)
    with pytest.raises(ValueError, match=r"`weight` must be \[1, outputs, 3\] .*, got \[2, 4, 3\]"):
        linear(inputs, torch.ones(2, 4, 3), None, active, rows)


# --- the last layer and the loss

LOSSES = {
    "cross_entropy": lambda logits, targets: F.cross_entropy(logits, targets, reduction="none"),
    "bce_with_logits": lambda logits, targets: F.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), reduction="none"
    ).sum(dim=1),
    "mse": lambda logits, targets: F.mse_loss(logits, targets.to(logits.dtype), reduction="none").sum(dim=1),
}
BOUNDARIES = (1, 65, 130)
NUM_BLOCKS = 4  # 1 row, 64 rows, 64 rows, 1 row


def targets_for(loss: str, rows: int, classes: int) -> Tensor:
    """Labels at the ends and at the sides of a tile of classes, or values."""
    if loss == "cross_entropy":
        edges = [c for c in (0, classes - 1, 31, 32, 15) if c < classes]
        return torch.tensor([edges[row % len(edges)] for row in range(rows)])
    return torch.rand(rows, classes)


def test_blocks_of_rows_cover_the_levels_and_straddle_none() -> None:
    blocks = RowBlocks.between((1, 64, 65, 200), _DEVICE)
    assert blocks.first.tolist() == [0, 1, 64, 65, 129, 193]
    assert blocks.count.tolist() == [1, 63, 1, 64, 64, 7]
    assert blocks.level.tolist() == [0, 1, 2, 3, 3, 3]
    assert len(blocks) == 6
    assert int(blocks.count.max()) == BLOCK_ROWS
    assert {blocks.first.dtype, blocks.count.dtype, blocks.level.dtype} == {torch.int32}
    part = blocks.part(2, 4)
    assert (part.first.tolist(), part.count.tolist(), part.level.tolist()) == ([64, 65], [1, 64], [2, 3])


# inputs, classes (17 and 40 are more than a tile), depth
HEADS = [
    ("layer", MAX_OUTPUTS, 33),
    ("layer", 1, 16),
    ("layer on first layer", 3, 17),
    ("layer on first layer without bias", 15, 1),
    ("logits", 40, 40),
    ("first layer", 33, 33),
    ("first layer without bias", 2, 2),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("kind", "classes", "depth"), HEADS)
def test_summed_losses_of_blocks_err_at_most_twice_as_much_as_torch(kind, classes, depth, loss) -> None:
    rows, has_layer = BOUNDARIES[-1], kind.startswith("layer")
    if kind == "logits" or kind == "layer":
        inputs: Tensor | First = torch.randn(3, rows, depth)
    else:
        activation = "gelu" if has_layer else "identity"
        inputs = first_layer(rows, depth, activation, not kind.endswith("without bias"))
    weight = torch.randn(3, classes * depth + 3)[:, 3:].unflatten(1, (classes, depth))
    bias = torch.randn(3, classes + 2)[:, 2:]
    targets, blocks = targets_for(loss, rows, classes), RowBlocks.between(BOUNDARIES, _DEVICE)
    active, num_rows = slots(1, -1, 0), slots(65, rows)  # slot 0 wants the first two levels only
    out = unset(3, NUM_BLOCKS + 2, dtype=torch.float64)[:, 1 : 1 + NUM_BLOCKS]
    per_row = unset(3, rows)
    there = on_device(inputs)
    weight_there, bias_there = (weight.to(_DEVICE), bias.to(_DEVICE)) if has_layer else (None, None)
    arguments = {"loss": loss, "precision": "tf32x3" if depth == 17 else "fp32"}
    loss_head(
        there,
        weight_there,
        bias_there,
        targets.to(_DEVICE),
        active,
        num_rows,
        blocks,
        out,
        per_row=per_row,
        **arguments,
    )
    assert bool(out[1].isnan().all()), "an inactive direction is left alone"
    assert bool(out[2, 2:].isnan().all()), "blocks beyond a slot's rows are left alone"
    assert bool(per_row[2, 65:].isnan().all())

    ends = list(itertools.pairwise([0, 1, 65, 129, 130]))
    sums: dict[torch.dtype, list[Tensor]] = {torch.float32: [], torch.float64: []}
    singles: dict[torch.dtype, list[Tensor]] = {torch.float32: [], torch.float64: []}
    for dtype, (direction, slot, wanted) in itertools.product(sums, ((0, 1, 4), (2, 0, 2))):
        logits = read(inputs, direction, slot, dtype)
        if has_layer:
            logits = F.linear(logits, weight[direction].to(dtype), bias[direction].to(dtype))
        losses = LOSSES[loss](logits, targets)
        singles[dtype].append(losses[: ends[wanted - 1][1]])
        sums[dtype] += [losses[low:high].sum() for low, high in ends[:wanted]]
    found = torch.cat([out[0], out[2, :2]])
    assert_as_exact_as_float32(found, torch.stack(sums[torch.float32]), torch.stack(sums[torch.float64]))
    found = torch.cat([per_row[0], per_row[2, :65]])
    assert_as_exact_as_float32(found, torch.cat(singles[torch.float32]), torch.cat(singles[torch.float64]))


def test_a_part_of_the_rows_gives_the_bits_of_all() -> None:
    rows, targets, blocks = 130, targets_for("cross_entropy", 130, 5), RowBlocks.between(BOUNDARIES, _DEVICE)
    x, weight = torch.randn(2, rows, 7, device=_DEVICE), torch.randn(2, 5, 7, device=_DEVICE)
    arguments = (slots(0, 1), slots(rows, rows))
    whole, part = unset(2, 4, dtype=torch.float64), unset(2, 3, dtype=torch.float64)
    labels = targets.to(_DEVICE)
    loss_head(x, weight, None, labels, *arguments, blocks, whole, loss="cross_entropy")
    later = x[:, 1:].contiguous()
    loss_head(later, weight, None, labels[1:], *arguments, blocks.part(1, 4), part, loss="cross_entropy", origin=1)
    assert bool(whole.isfinite().all())
    assert torch.equal(whole[:, 1:], part)


@pytest.mark.parametrize("loss", LOSSES)
def test_extreme_logits_give_the_losses_of_torch(loss: str) -> None:
    special = [1e4, -1e4, 3e38, -3e38, math.inf, -math.inf, math.nan]
    logits = torch.zeros(2 * len(special), 35)  # two tiles of classes; the special one in the first or the last
    for row, value in enumerate(special):
        logits[2 * row, 0], logits[2 * row + 1, 34] = value, value
    targets = torch.zeros(len(logits), dtype=torch.int64) if loss == "cross_entropy" else torch.ones(len(logits), 35)
    per_row, out = unset(1, len(logits)), unset(1, 1, dtype=torch.float64)
    blocks = RowBlocks.between((len(logits),), _DEVICE)
    there = logits[None].to(_DEVICE)
    loss_head(there, None, None, targets.to(_DEVICE), slots(0), slots(99), blocks, out, loss=loss, per_row=per_row)
    expected = LOSSES[loss](logits, targets)
    found = per_row[0].cpu()
    assert torch.equal(found.isfinite(), expected.isfinite())
    torch.testing.assert_close(found[expected.isfinite()], expected[expected.isfinite()], rtol=1e-6, atol=1e-6)
    assert not bool(out.isfinite().any()), "one row without a loss leaves none for the block"


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_losses_close_to_zero_keep_their_digits(classes: int) -> None:
    """A network that fits its data has losses far below the rounding of its logits, and small cutoffs above them."""
    margins = torch.tensor([1.0, 8.0, 15.0, 20.0, 40.0])
    logits, labels = torch.zeros(1, len(margins), classes), torch.arange(len(margins)) % classes
    logits[0, torch.arange(len(margins)), labels] = margins
    per_row, out = unset(1, len(margins)), unset(1, 1, dtype=torch.float64)
    blocks = RowBlocks.between((len(margins),), _DEVICE)
    given = (labels.to(_DEVICE), slots(0), slots(len(margins)), blocks, out)
    loss_head(logits.to(_DEVICE), None, None, *given, loss="cross_entropy", per_row=per_row)
    expected = torch.log1p((classes - 1) * torch.exp(-margins.double()))
    torch.testing.assert_close(per_row[0].cpu().double(), expected, rtol=1e-6, atol=0.0)


def test_a_row_without_a_possible_class_has_no_loss() -> None:
    logits, per_row = torch.full((1, 2, 3), -math.inf), unset(1, 2)
    logits[0, 0] = 0.0
    blocks, out = RowBlocks.between((2,), _DEVICE), unset(1, 1, dtype=torch.float64)
    labels = torch.zeros(2, dtype=torch.int64, device=_DEVICE)
    given = (labels, slots(0), slots(2), blocks, out)
    loss_head(logits.to(_DEVICE), None, None, *given, loss="cross_entropy", per_row=per_row)
    assert float(per_row[0, 0]) == pytest.approx(math.log(3.0), rel=1e-6)
    assert math.isnan(float(per_row[0, 1]))


def test_classes_of_minus_infinity_are_impossible_and_no_more() -> None:
    logits = torch.zeros(2, 35)
    logits[0, :32], logits[1, 1:] = -math.inf, -math.inf  # a whole tile of classes, and all but one class
    labels, out, per_row = torch.tensor([34, 0]), unset(1, 1, dtype=torch.float64), unset(1, 2)
    blocks = RowBlocks.between((2,), _DEVICE)
    loss_head(
        logits[None].to(_DEVICE),
        None,
        None,
        labels.to(_DEVICE),
        slots(0),
        slots(2),
        blocks,
        out,
        loss="cross_entropy",
        per_row=per_row,
    )
    torch.testing.assert_close(per_row[0].cpu(), F.cross_entropy(logits, labels, reduction="none"))


def test_loss_refuses_unknown_names_wide_layers_and_other_outputs() -> None:
    x, labels, blocks = torch.ones(1, 2, 3), torch.zeros(2, dtype=torch.int64), RowBlocks.between((2,), _DEVICE)
    out, arguments = torch.empty(1, 1, dtype=torch.float64), (labels, slots(0), slots(2), blocks)
    with pytest.raises(ValueError, match=r"`loss` must be one of 'cross_entropy', .*, got 'hinge'"):
        loss_head(x, None, None, *arguments, out, loss="hinge")
    with pytest.raises(ValueError, match=r"`out` must be \[1, 1\] with contiguous rows, got \[1, 2\]"):
        loss_head(x, None, None, *arguments, torch.empty(1, 2, dtype=torch.float64), loss="mse")
    with pytest.raises(ValueError, match="`weight` has 17 outputs, at most 16: compute the logits with `linear`"):
        loss_head(x, torch.ones(1, 17, 3), None, *arguments, out, loss="cross_entropy")


# --- sums over blocks


def test_mean_losses_of_levels_are_cumulative_and_end_where_a_slot_does() -> None:
    ends, terms = slots(1, 300, 601), torch.tensor([1.0, 20.0, 77.0], dtype=torch.float64, device=_DEVICE)
    sums = torch.rand(3, 601, dtype=torch.float64) * 10.0 ** torch.randint(-9, 9, (3, 601))
    partial = unset(4, 650, dtype=torch.float64)[:, 20:621]
    wanted = {0: 601, 1: 300, 3: 1}  # blocks of the rows; row 2 is inactive
    for row, count in wanted.items():
        partial[row, :count] = sums[min(row, 2), :count].to(_DEVICE)
    found = reduce(partial, slots(2, 0, -1, 1), slots(300, 1, 601), ends, terms).cpu()
    for row, count in wanted.items():
        for level, (end, divisor) in enumerate(zip(ends.tolist(), terms.tolist(), strict=True)):
            if end > count:
                assert math.isnan(found[row, level]), (row, level)
            else:
                expected = math.fsum(sums[min(row, 2), :end].tolist()) / divisor
                assert float(found[row, level]) == pytest.approx(expected, rel=1e-13), (row, level)
    for row, slot in ((0, 2), (1, 0), (3, 1)):
        alone = reduce(partial[row : row + 1], slots(slot), slots(300, 1, 601), ends, terms).cpu()
        assert torch.equal(alone.nan_to_num(), found[row : row + 1].nan_to_num()), "whoever else is summed"


@pytest.mark.parametrize(
    "partial", [torch.ones(1, 2), torch.ones(2, 2, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)[:, ::2]]
)
def test_sums_of_another_type_or_shape_are_refused(partial: Tensor) -> None:
    with pytest.raises(ValueError, match=r"`partial` must be float64 \[1, B\] with contiguous rows"):
        reduce(partial, slots(0), slots(2), slots(2), torch.ones(1, dtype=torch.float64))
