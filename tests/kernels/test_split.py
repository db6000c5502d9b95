"""Directions split over several devices: here, over several native engines."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.split import SplitEngine

TENSORS = ("lower", "upper", "radius", "value_lower", "value_upper", "slope", "status_code", "num_evaluations")


@pytest.mark.parametrize("resolve", ["all", "decisive"])
@pytest.mark.parametrize("count", [1, 2, 41])
def test_the_radii_are_those_of_one_device(trained, blobs, resolve: str, count: int) -> None:
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    directions = bv.Directions(bv.ParameterSpace.of(trained), count)

    def solver() -> bv.RaySolver:
        return bv.RaySolver(landscape, directions, [0.5], resolve=resolve, backend="native")

    expected, split = solver().solve_all(), solver()
    split.engine = SplitEngine([solver().engine for _ in range(3)])
    found = split.solve_all()
    for name in TENSORS:
        assert torch.equal(getattr(found, name).nan_to_num(), getattr(expected, name).nan_to_num()), name
    assert split.description.startswith("3 x ")


def test_a_failure_on_one_device_is_a_failure(trained, blobs) -> None:
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    solver = bv.RaySolver(landscape, bv.Directions(bv.ParameterSpace.of(trained), 8), [0.5], backend="native")

    class Broken:
        def __getattr__(self, name: str):
            return getattr(solver_engine, name)

        def solve(self, *arguments):
            raise RuntimeError("device lost")

    solver_engine = solver.engine
    solver.engine = SplitEngine([solver_engine, Broken()])
    with pytest.raises(RuntimeError, match="device lost"):
        solver.solve_all()
