"""Models and data in half precision: measured in float32, byte for byte as the model that the user would convert."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.inputs.half import HALF, measured_dtype

CUTOFF = 0.5


@pytest.fixture(params=HALF, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


class Embedded(nn.Module):
    """Codes in, a normalization with buffers, and a head that shares its weight with the table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(6, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 6, bias=False)
        self.head.weight = self.table.weight

    def forward(self, codes: Tensor) -> Tensor:
        return self.head(self.norm(self.table(codes)))


def assert_measured_as_in_float32(half: nn.Module, data: tuple[Tensor, Tensor], **options: object) -> bv.VolumeEstimate:
    before = {name: value.clone() for name, value in half.state_dict().items()}
    found = bv.estimate_volume(half, F.cross_entropy, data, CUTOFF, num_directions=12, **options)
    wide = tuple(part.float() if part.dtype in HALF else part for part in data)
    expected = bv.estimate_volume(copy.deepcopy(half).float(), F.cross_entropy, wide, CUTOFF, 12, **options)
    assert found.log_volume == expected.log_volume
    if expected.radii is not None:
        for name in ("lower", "upper", "value_lower", "value_upper"):
            first, second = getattr(found.radii, name), getattr(expected.radii, name)
            assert first.numpy().tobytes() == second.numpy().tobytes(), name
    after = half.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())
    return found


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_a_perceptron_is_measured_as_its_copy_in_float32(trained, blobs, dtype, backend) -> None:
    half = copy.deepcopy(trained).to(dtype)
    assert_measured_as_in_float32(half, (blobs[0].to(dtype), blobs[1]), backend=backend)
    assert_measured_as_in_float32(half, blobs, backend=backend)


@pytest.mark.parametrize("options", [{"method": "paper"}, {"method": "preconditioned", "include": "4.weight"}])
def test_every_way_to_a_volume_takes_it(trained, blobs, options) -> None:
    half = copy.deepcopy(trained).bfloat16()
    assert_measured_as_in_float32(half, blobs, **options)


def test_buffers_tied_weights_and_whole_numbers_are_taken_as_they_are(dtype) -> None:
    model = Embedded().eval()
    codes = torch.randint(6, (40,))
    found = assert_measured_as_in_float32(model.to(dtype), (codes, codes), backend="torch")
    assert found.backend == "torch"


def test_dictionaries_of_numbers_in_half_precision_are_widened(trained, blobs) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = copy.deepcopy(trained)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": F.cross_entropy(self.net(x), labels)}

    half = Named().bfloat16()
    inputs = blobs[0].bfloat16()
    found = bv.estimate_volume(half, None, {"x": inputs, "labels": blobs[1]}, CUTOFF, 12)
    wide = {"x": inputs.float(), "labels": blobs[1]}
    expected = bv.estimate_volume(copy.deepcopy(half).float(), None, wide, CUTOFF, 12)
    assert found.log_volume == expected.log_volume


def test_a_model_that_insists_on_half_precision_is_refused_in_a_sentence(blobs) -> None:
    class Casts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.bfloat16())

    with pytest.raises(ValueError, match=r"`model` fails .* The model is in half precision and is measured in float32"):
        bv.estimate_volume(Casts().bfloat16(), F.cross_entropy, blobs, 2.0, 8)


def test_types_are_measured_in_float32_or_in_their_own() -> None:
    assert [measured_dtype(kind) for kind in (*HALF, torch.float32, torch.float64)] == [
        torch.float32,
        torch.float32,
        torch.float32,
        torch.float64,
    ]
