"""What a search has looked at is kept, and brackets of other cutoffs start from what it says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from basinvol import Directions, Landscape, ParameterSpace, RaySolver, Status
from basinvol.search import RUNNING, Queries
from basinvol.search.recording import Recording, known_radii
from basinvol.search.trace import Trace

LEVELS, COUNT = (20, 90), 12
NAN, INF = math.nan, math.inf


def queries(rays: list[int], radius: list[float], level: list[int]) -> Queries:
    return Queries(torch.tensor(rays), torch.tensor(radius, dtype=torch.float64), torch.tensor(level))


def test_evaluations_are_kept_ray_by_ray_in_the_order_in_which_they_were_made() -> None:
    seen = Recording(2)
    seen.add(queries([0, 2], [1.0, 2.0], [1, 1]), torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64))
    seen.add(queries([2, 0], [4.0, 0.5], [1, 1]), torch.tensor([[0.5, 0.6], [0.7, 0.8]], dtype=torch.float64))
    trace = seen.trace()
    assert trace.ray.tolist() == [0, 0, 2, 2]
    assert trace.radius.tolist() == [1.0, 0.5, 2.0, 4.0]
    assert trace.losses.tolist() == [[0.1, 0.2], [0.7, 0.8], [0.3, 0.4], [0.5, 0.6]]


def test_losses_above_a_probes_level_are_unknown_and_not_failures() -> None:
    seen = Recording(3)
    seen.add(queries([0, 1], [1.0, 1.0], [0, 1]), torch.tensor([[0.1, NAN], [0.3, 0.4]], dtype=torch.float64))
    expected = torch.tensor([[0.1, NAN, NAN], [0.3, 0.4, NAN]], dtype=torch.float64)
    torch.testing.assert_close(seen.trace().losses, expected, rtol=0, atol=0, equal_nan=True)


def test_loss_that_was_evaluated_and_is_not_a_number_is_infinite() -> None:
    seen = Recording(2)
    seen.add(queries([0], [1.0], [0]), torch.tensor([[NAN, NAN]], dtype=torch.float64))
    expected = torch.tensor([[INF, NAN]], dtype=torch.float64)
    torch.testing.assert_close(seen.trace().losses, expected, rtol=0, atol=0, equal_nan=True)


def test_recording_of_nothing_is_an_empty_trace() -> None:
    trace = Recording(3).trace()
    assert trace.losses.shape == (0, 3)
    known = known_radii(trace, 2, torch.zeros(3), (1, 2, 3), (0.5,), rtol=0.1)
    assert known.lower.tolist() == [[[0.0, 0.0]]] * 3
    assert known.upper.tolist() == [[[INF, INF]]] * 3


def first_crossing(points: list[tuple[float, float]], cutoff: float) -> tuple[float, float]:
    """The smallest radius outside, and the largest inside below it, one point after the other."""
    upper = min((r for r, loss in points if loss > cutoff), default=INF)
    return max((r for r, loss in points if loss <= cutoff and r < upper), default=0.0), upper


POINTS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20)), max_size=12, unique_by=lambda point: point[0])


@example(rays=[[(1, 0), (2, 9)]], cutoff=5, rtol=0.5)  # just closed
@given(rays=st.lists(POINTS, min_size=1, max_size=4), cutoff=st.integers(0, 20), rtol=st.sampled_from([0.05, 0.5, INF]))
def test_bracket_of_any_losses_holds_the_first_crossing(rays: list, cutoff: int, rtol: float) -> None:
    flat = [(ray, r, loss) for ray, points in enumerate(rays) for r, loss in points]
    columns = torch.tensor(flat, dtype=torch.float64).reshape(-1, 3)
    trace = Trace(columns[:, 0].long(), columns[:, 1], columns[:, 2:])
    known = known_radii(trace, len(rays), torch.zeros(1), (9,), (float(cutoff),), rtol).at()
    for ray, points in enumerate(rays):
        lower, upper = first_crossing(points, cutoff)
        losses = {0.0: 0.0, **dict(points)}
        assert (float(known.lower[ray]), float(known.upper[ray])) == (lower, upper)
        assert float(known.value_lower[ray]) == losses[lower]
        assert upper == INF or float(known.value_upper[ray]) == losses[upper]
        is_closed = upper < INF and upper - lower <= rtol * upper
        assert int(known.status_code[ray]) == (Status.CROSSED.code if is_closed else RUNNING)
    assert bool(known.radius.isnan().all()), "a search has to say where in the bracket"
    assert known.num_evaluations.tolist() == [0] * len(rays), "what is known costs nothing again"


def test_slope_of_a_search_that_goes_on_is_that_of_a_quadratic_or_the_one_given() -> None:
    slope = torch.full((2, 1, 2), 7.0, dtype=torch.float64)
    arguments = (some_trace(), 2, torch.tensor([0.0, 0.6]), (5, 9), (0.65,), 1e-3)
    assert known_radii(*arguments).slope.unique().tolist() == [2.0]
    assert torch.equal(known_radii(*arguments, slope=slope).slope, slope)


def solver(model: nn.Module, data: tuple[Tensor, Tensor], backend: str, cutoffs: list[float]) -> RaySolver:
    landscape = Landscape(model, F.cross_entropy, data, LEVELS)
    directions = Directions(ParameterSpace.of(model), COUNT, seed=3)
    return RaySolver(landscape, directions, cutoffs, backend=backend, num_threads=1)


def some_trace() -> Trace:
    """Two rays: one leaves at 2 and comes back, the other never leaves; the second level was seen once."""
    nan = math.nan
    return Trace(
        torch.tensor([0, 0, 0, 1]),
        torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64),
        torch.tensor([[0.1, nan], [0.9, 0.7], [0.2, nan], [0.1, nan]], dtype=torch.float64),
    )


def test_the_first_crossing_counts_and_what_was_not_seen_is_not_known() -> None:
    known = known_radii(some_trace(), 2, torch.tensor([0.0, 0.6]), (5, 9), (0.5,), rtol=1e-3)
    assert known.lower[0, 0].tolist() == [1.0, 1.0]
    assert known.upper[0, 0].tolist() == [2.0, math.inf]
    assert known.value_lower[0, 0].tolist() == [0.1, 0.1]
    assert known.value_upper[0, 0, 0] == 0.9
    assert known.status_code[0, 0].tolist() == [RUNNING, RUNNING]
    assert [status.name for status in known.at(9, 0.5).status] == ["CENTER_OUTSIDE"] * 2
    higher = known_radii(some_trace(), 2, torch.tensor([0.0, 0.6]), (5, 9), (0.65,), rtol=1e-3)
    assert higher.lower[1, 0].tolist() == [0.0, 0.0]
    assert higher.upper[1, 0].tolist() == [2.0, math.inf]
    assert higher.value_lower[1, 0].tolist() == [pytest.approx(0.6)] * 2


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_another_cutoff_continued_from_the_trace_is_certified_and_cheaper(
    backend: str, trained: nn.Sequential, blobs: tuple[Tensor, Tensor]
) -> None:
    first = solver(trained, blobs, backend, [0.1, 0.5]).solve(0, COUNT)
    assert first.trace is not None
    later = solver(trained, blobs, backend, [0.2])
    known = known_radii(first.trace, COUNT, later.center_losses, LEVELS, (0.2,), rtol=1e-4)
    assert bool((known.status_code == RUNNING).any())
    found = later.engine.refine(range(COUNT), known, 1e-4)
    fresh = later.solve(0, COUNT)
    assert bool(found.is_status(Status.CROSSED).all())
    assert bool(((found.upper - found.lower) <= 1e-4 * found.upper).all())
    # Both brackets hold the crossing, so they overlap.
    assert bool((torch.maximum(found.lower, fresh.lower) <= torch.minimum(found.upper, fresh.upper)).all())
    assert int(found.num_evaluations.sum()) < int(fresh.num_evaluations.sum())


def test_a_loss_that_is_not_a_number_is_kept_as_outside(trained: nn.Sequential, blobs: tuple[Tensor, Tensor]) -> None:
    def breaks(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(outputs, targets)
        return torch.where(loss > 0.2, math.nan, loss)

    landscape = Landscape(trained, breaks, blobs)
    directions = Directions(ParameterSpace.of(trained), 2)
    radii = RaySolver(landscape, directions, [0.3], backend="reference", num_threads=1).solve(0, 2)
    assert radii.trace is not None
    assert bool(torch.isinf(radii.trace.losses).any())
    known = known_radii(radii.trace, 2, torch.zeros(1), (90,), (0.3,), rtol=1e-4)
    assert bool(known.is_status(Status.NON_FINITE).all())
