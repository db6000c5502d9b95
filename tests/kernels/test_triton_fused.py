"""A whole narrow perceptron in one kernel against plain torch in float64; on the interpreter where there is no GPU."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton", reason="triton is not installed on this platform")

from basin_triton import First, LayerTable, RowBlocks, fused_mlp

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_ACTIVATIONS = {"identity": lambda x: x, "relu": torch.relu, "tanh": torch.tanh, "gelu": F.gelu}
_LOSSES = {"cross_entropy": F.cross_entropy, "bce_with_logits": F.binary_cross_entropy_with_logits, "mse": F.mse_loss}
_ROWS, _LEVELS = 130, (1, 65, 130)

# Widths after the first layer's: at, below and beyond the tiles of 16 and 32.
SHAPES = [
    ([16, 16, 16], "relu", "cross_entropy", True),
    ([17, 3, 1], "tanh", "bce_with_logits", True),
    ([31, 32, 5, 7], "gelu", "mse", False),
    ([1, 1, 2], "identity", "cross_entropy", False),
]


def summed(loss: str, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    if loss != "cross_entropy":
        targets = targets.to(outputs.dtype)
    return float(_LOSSES[loss](outputs, targets, reduction="sum"))


@pytest.mark.parametrize(("widths", "activation", "loss", "has_bias"), SHAPES)
@pytest.mark.parametrize("precision", ["fp32", "tf32x3"])
def test_block_sums_are_those_of_torch(
    widths: list[int], activation: str, loss: str, has_bias: bool, precision: str
) -> None:
    torch.manual_seed(0)
    width, outputs = widths[0], widths[-1]
    base, shift = torch.randn(_ROWS, width), torch.randn(2, _ROWS, width)
    first_bias, radius = torch.randn(3, width), torch.tensor([0.3, 0.7], dtype=torch.float64)
    places, size = [], 5
    for inner, outer in itertools.pairwise(widths):
        places.append((size, size + inner * outer + 3 if has_bias else -1, inner, outer))
        size += inner * outer + 3 + outer
    parameters = torch.full((3, size + 7), torch.nan)
    for weight_at, bias_at, inner, outer in places:
        parameters[:, weight_at : weight_at + inner * outer] = torch.randn(3, inner * outer) / inner**0.5
        if has_bias:
            parameters[:, bias_at : bias_at + outer] = torch.randn(3, outer)
    targets = torch.randint(0, outputs, (_ROWS,)) if loss == "cross_entropy" else torch.rand(_ROWS, outputs)

    slots, num_rows = [1, -1, 0], torch.tensor([130, 60], dtype=torch.int32)
    blocks = RowBlocks.between(_LEVELS, _DEVICE)
    found = torch.full((3, len(blocks)), torch.nan, dtype=torch.float64, device=_DEVICE)
    on_device = [tensor.to(_DEVICE) for tensor in (base, shift, radius, first_bias, parameters, targets, num_rows)]
    base_, shift_, radius_, first_bias_, parameters_, targets_, num_rows_ = on_device
    fused_mlp(
        First(base_, shift_, radius_, first_bias_, activation),
        parameters_,
        LayerTable.of(places, activation, _DEVICE),
        targets_,
        torch.tensor(slots, dtype=torch.int32, device=_DEVICE),
        num_rows_,
        blocks,
        found,
        loss=loss,
        precision=precision,
    )

    act = _ACTIVATIONS[activation]
    ranges = list(zip(blocks.first.tolist(), (blocks.first + blocks.count).tolist(), strict=True))
    for row, slot in enumerate(slots):
        if slot < 0:
            assert found[row].isnan().all(), "an inactive row was written"
            continue
        x = act((base + float(radius[slot]) * shift[slot] + first_bias[row]).double())
        for layer, (weight_at, bias_at, inner, outer) in enumerate(places):
            weight = parameters[row, weight_at : weight_at + inner * outer].view(outer, inner).double()
            bias = parameters[row, bias_at : bias_at + outer].double() if has_bias else None
            x = F.linear(x, weight, bias)
            x = x if layer == len(places) - 1 else act(x)
        for column, (first, last) in enumerate(ranges):
            if first >= int(num_rows[slot]):
                assert found[row, column].isnan(), "a block beyond the rows was written"
            else:
                expected = summed(loss, x[first:last], targets[first:last])
                assert float(found[row, column]) == pytest.approx(expected, rel=2e-5)


def test_wider_networks_are_refused() -> None:
    layers = LayerTable(torch.zeros(1, 4, dtype=torch.int32), 128, 3, "relu")
    part = First(torch.ones(1, 1), torch.ones(1, 1, 1), torch.ones(1), None, "relu")
    one, blocks = torch.zeros(1, dtype=torch.int32), RowBlocks.between((1,), torch.device("cpu"))
    with pytest.raises(ValueError, match="`layers` may be 32 wide with 16 outputs at most, got 128 and 3"):
        fused_mlp(part, torch.ones(1, 1), layers, one, one, one, blocks, torch.ones(1, 1), loss="mse")
    other = LayerTable(torch.zeros(1, 4, dtype=torch.int32), 16, 3, "tanh")
    with pytest.raises(ValueError, match="`inputs` have activation 'relu', `layers` 'tanh'"):
        fused_mlp(part, torch.ones(1, 1), other, one, one, one, blocks, torch.ones(1, 1), loss="mse")
