"""The unit vector of a direction has the same bits whatever writes it, and is made once."""

from __future__ import annotations

import pytest
import torch

import basinvol as bv
from basinvol.backends.unit_vector import unit_vector_into
from basinvol.backends.working_copy import Together

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def space(dtype: torch.dtype = torch.float32) -> bv.ParameterSpace:
    """Tensors of odd sizes, of which one takes several programs of the kernel, and one is a single number."""
    shapes = tuple(torch.Size(shape) for shape in ((3,), (41, 67), (1,), (5, 1, 2)))
    return bv.ParameterSpace(tuple("abcd"), shapes, (dtype,) * 4)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")
def test_the_device_writes_the_bits_of_the_extension() -> None:
    pytest.importorskip("triton", reason="triton is not installed on this platform")
    from basinvol.backends.triton.unit_vector import DeviceVector

    directions = bv.Directions(space(), 2**32, seed=2**64 - 3)
    out, expected = torch.empty(directions.space.dim, device=_DEVICE), torch.empty(directions.space.dim)
    on_device, by_extension = DeviceVector(out, directions), unit_vector_into(expected, directions)
    for index in (7, 0, 2**32 - 1):
        norm = on_device(index)
        assert norm == pytest.approx(by_extension(index), rel=1e-15)
        assert torch.equal(out.cpu(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("generator", ["philox", "legacy"])
def test_vectors_and_norms_are_those_of_the_directions(generator: str, dtype: torch.dtype) -> None:
    directions = bv.Directions(space(dtype), 5, seed=3, generator=generator)
    out = torch.empty(directions.space.dim, dtype=dtype)
    norm = unit_vector_into(out, directions)(4)
    assert norm == pytest.approx(float(directions.norms([4])[0]), rel=1e-6)
    torch.testing.assert_close(out, directions.materialize([4], dtype)[0], rtol=1e-5, atol=1e-7)


def test_a_vector_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, normals = [], bv.Directions.normals
    monkeypatch.setattr(bv.Directions, "normals", lambda self, *given: calls.append(given) or normals(self, *given))
    directions = bv.Directions(space(torch.float64), 5)
    unit_vector_into(torch.empty(directions.space.dim, dtype=torch.float64), directions)(2)
    assert len(calls) == 1


def test_vectors_of_a_class_of_ones_own_are_its_own() -> None:
    class Mirrored(bv.Directions):
        def materialize(self, *arguments, **options):
            return -super().materialize(*arguments, **options)

    directions = Mirrored(space(), 5)
    out = torch.empty(directions.space.dim)
    unit_vector_into(out, directions)(1)
    assert torch.equal(out, directions.materialize([1])[0])


@pytest.mark.parametrize("radius", [0.0, 0.37, 1e6])
def test_parameters_that_are_placed_together_have_the_bits_of_those_placed_alone(radius: float) -> None:
    places = [
        tuple(torch.randn(shape, device=_DEVICE) for _ in range(3)) for shape in ((3,), (41, 67), (1,), (5, 1, 2))
    ]
    Together(places).place(radius)
    for center, move, perturbed in places:
        expected = torch.add(center, move, alpha=radius) if radius else center
        assert torch.equal(perturbed, expected)
