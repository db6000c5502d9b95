"""Times the operations of the CPU engine one by one, with pytest-benchmark: `python -m pytest benchmarks`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import basinvol as bv
from basinvol import _native

from .cases import Case, mnist_5000, perceptron

INSTRUCTION_SETS = _native.instruction_sets()


@pytest.fixture(scope="module")
def case() -> Case:
    return mnist_5000()


def solver(case: Case, instruction_set: str, resolve: str = "all", count: int = 500) -> bv.RaySolver:
    landscape = bv.Landscape(case.model, case.loss_fn, (case.inputs, case.targets))
    directions = bv.Directions(bv.ParameterSpace.of(case.model), count)
    return bv.RaySolver(landscape, directions, case.cutoffs, resolve=resolve, instruction_set=instruction_set)


def dense_inputs(num_inputs: int) -> torch.Tensor:
    """Inputs that are drawn. [20,000, num_inputs] float32"""
    return torch.randn(20_000, num_inputs, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_generator(benchmark: Any, instruction_set: str) -> None:
    """One thread generates a million normals."""
    found = benchmark(_native.philox_normals, 0, 0, 0, 10**6, instruction_set)
    assert abs(float(found.std()) - 1.0) < 0.01


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_preparation(benchmark: Any, case: Case, instruction_set: str) -> None:
    """The engine arranges the inputs, multiplies them by the first layer, and evaluates the center."""
    prepared = benchmark(solver, case, instruction_set)
    assert float(prepared.center_losses[0]) < case.cutoffs[0]


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_first_layer_along_16_directions(benchmark: Any, case: Case, instruction_set: str) -> None:
    """Each direction is evaluated once: the generator, and the product of the inputs that later evaluations share."""
    landscape = bv.Landscape(case.model, case.loss_fn, (case.inputs, case.targets))
    directions = bv.Directions(bv.ParameterSpace.of(case.model), 16)
    grid = bv.RaySolver(
        landscape, directions, case.cutoffs, search="grid", grid=[1e-9], instruction_set=instruction_set
    )
    radii = benchmark(grid.engine.solve, range(16), grid.generic_guess)
    assert bool(radii.is_status(bv.Status.CENSORED).all())


@pytest.mark.parametrize("num_inputs", [784, 3072])
def test_dense_inputs_along_4_directions(benchmark: Any, num_inputs: int) -> None:
    """Each direction is evaluated once, on inputs without a background that could be left out."""
    model, inputs = perceptron([num_inputs, 256, 128, 10]), dense_inputs(num_inputs)
    targets = torch.arange(len(inputs)) % 10
    landscape = bv.Landscape(model, torch.nn.functional.cross_entropy, (inputs, targets))
    directions = bv.Directions(bv.ParameterSpace.of(model), 4)
    grid = bv.RaySolver(landscape, directions, [1e9], search="grid", grid=[1e-9])
    radii = benchmark(grid.engine.solve, range(4), grid.generic_guess)
    assert bool(radii.is_status(bv.Status.CENSORED).all())


@pytest.mark.parametrize("num_inputs", [784, 3072])
def test_dense_inputs_by_torch(benchmark: Any, num_inputs: int) -> None:
    """torch multiplies the same inputs by four first weights, and does nothing else."""
    inputs, weights = dense_inputs(num_inputs), torch.randn(4, num_inputs, 256)
    out = torch.empty(len(inputs), 256)
    benchmark(lambda: [torch.mm(inputs, weight, out=out) for weight in weights])
    torch.testing.assert_close(out[:8], inputs[:8] @ weights[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_evaluations", [1, 11])
def test_evaluations_along_16_directions(benchmark: Any, case: Case, num_evaluations: int) -> None:
    """The difference of the two times is the cost of ten further evaluations, without the first layer."""
    landscape = bv.Landscape(case.model, case.loss_fn, (case.inputs, case.targets))
    directions = bv.Directions(bv.ParameterSpace.of(case.model), 16)
    points = [1e-9 * (1 + k) for k in range(num_evaluations)]
    grid = bv.RaySolver(landscape, directions, case.cutoffs, search="grid", grid=points)
    radii = benchmark(grid.engine.solve, range(16), grid.generic_guess)
    assert radii.num_evaluations.tolist() == [num_evaluations] * 16


@pytest.mark.parametrize("resolve", ["all", "decisive"])
def test_whole_search(benchmark: Any, case: Case, resolve: str) -> None:
    """The engine solves 100 directions, from the model to the radii."""
    radii = benchmark.pedantic(lambda: solver(case, "", resolve, 100).solve_all(), rounds=3)
    assert not bool(torch.isnan(radii.lower).any())
