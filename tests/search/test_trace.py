"""Every evaluation is kept, and follows its ray."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basinvol import Directions, Landscape, ParameterSpace, Radii, RaySolver
from basinvol.search.recording import known_radii
from basinvol.search.trace import Trace

LEVELS, COUNT = (20, 90), 12


def solver(
    model: nn.Module, data: tuple[Tensor, Tensor], backend: str, cutoffs: list[float], **options: str
) -> RaySolver:
    landscape = Landscape(model, F.cross_entropy, data, LEVELS)
    directions = Directions(ParameterSpace.of(model), COUNT, seed=3)
    return RaySolver(landscape, directions, cutoffs, backend=backend, num_threads=1, **options)


@pytest.mark.parametrize("search", ["interpolate", "grid"])
@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_the_trace_holds_every_evaluation_and_the_ends_of_every_bracket(
    backend: str, search: str, trained: nn.Sequential, blobs: tuple[Tensor, Tensor]
) -> None:
    made = solver(trained, blobs, backend, [0.1, 0.5], search=search)
    radii = made.solve(0, COUNT)
    trace = radii.trace
    assert trace is not None
    counts = torch.bincount(trace.ray, minlength=COUNT)
    counts[0] += made.pilot.scan[1]  # with a few examples, for the first radius
    torch.testing.assert_close(counts, radii.num_evaluations, rtol=0, atol=0)
    known = known_radii(trace, COUNT, torch.zeros(2), LEVELS, (0.1, 0.5), rtol=math.inf)
    # A bracket is not narrowed any more once it is closed, though other targets evaluate inside it.
    assert bool(((radii.lower <= known.lower) & (known.upper <= radii.upper)).all())
    for ends in (radii.lower, radii.upper):
        assert bool(torch.isin(ends[ends > 0], trace.radius).all())


def test_the_trace_of_scouts_is_left_out_and_that_of_refined_rays_grows(make_mlp, blobs: tuple[Tensor, Tensor]) -> None:
    model = make_mlp([12, 16, 3])
    inputs = blobs[0].repeat(60, 1)[:5000] + 0.1 * torch.randn(5000, 12)
    data = inputs, blobs[1].repeat(60)[:5000]
    landscape = Landscape(model, F.cross_entropy, data, [60, 5000])
    directions = Directions(ParameterSpace.of(model), 6)
    engine = RaySolver(landscape, directions, [2.0], rtol=1e-2, backend="native", num_threads=1)
    assert len(engine.engine.levels) > 2  # there are scouts
    radii = engine.solve(0, 6)
    assert radii.trace is not None
    assert radii.trace.losses.shape[1] == 2
    assert bool((~torch.isnan(radii.trace.losses)).any(dim=1).all())
    refined = engine.refine(radii)
    assert refined.trace is not None
    grown = int((refined.num_evaluations - radii.num_evaluations).sum())
    assert grown > 0
    assert len(refined.trace.ray) == len(radii.trace.ray) + grown


def some_trace() -> Trace:
    """Two rays: one leaves at 2 and comes back, the other never leaves; the second level was seen once."""
    nan = math.nan
    return Trace(
        torch.tensor([0, 0, 0, 1]),
        torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64),
        torch.tensor([[0.1, nan], [0.9, 0.7], [0.2, nan], [0.1, nan]], dtype=torch.float64),
    )


def test_traces_follow_their_rays() -> None:
    trace = some_trace()
    swapped = trace.take(torch.tensor([1, 0]))
    assert swapped.ray.tolist() == [0, 1, 1, 1]
    assert swapped.radius.tolist() == [1.0, 1.0, 2.0, 3.0]
    assert swapped.at_rays(torch.tensor([1, 0])).ray.tolist() == [1, 0, 0, 0]
    assert trace.without(torch.tensor([0])).ray.tolist() == [1]
    assert trace.only([1]).radius.tolist() == [2.0]
    assert Trace.joined([trace, trace]).ray.tolist() == [0] * 6 + [1] * 2


def test_radii_without_a_trace_stay_without_one(trained: nn.Sequential, blobs: tuple[Tensor, Tensor]) -> None:
    radii = solver(trained, blobs, "native", [0.1]).solve(0, COUNT)
    bare = dataclasses.replace(radii, trace=None)
    assert Radii.concatenate([bare, radii]).trace is None
    assert bare.replaced(torch.tensor([0]), radii.take(torch.tensor([0]))).trace is None
    assert bare.take(torch.tensor([1])).trace is None
