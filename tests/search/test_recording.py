"""Evaluations are kept where they were made, and come together as one trace."""

from __future__ import annotations

import math

import pytest
import torch

from basinvol.backends.triton import memory
from basinvol.search import Queries
from basinvol.search.recording import Recording


def queries(rays: list[int], radius: float, level: list[int]) -> Queries:
    at = torch.full((len(rays),), radius, dtype=torch.float64)
    return Queries(torch.tensor(rays), at, torch.tensor(level))


def test_parts_of_any_number_of_levels_become_one_trace_ray_by_ray() -> None:
    recording = Recording(3)
    assert len(recording.trace().ray) == 0
    nan = math.nan
    recording.add(queries([1, 0], 0.5, [0, 0]), torch.tensor([[1.0], [nan]], dtype=torch.float64))
    recording.add(queries([1], 0.7, [1]), torch.tensor([[2.0, 3.0, 9.0]], dtype=torch.float64))
    trace = recording.trace()
    assert trace.ray.tolist() == [0, 1, 1]
    assert trace.radius.tolist() == [0.5, 0.5, 0.7]
    # A loss that is not a number is kept as infinity; NaN is what was not evaluated.
    assert torch.equal(
        trace.losses.nan_to_num(nan=-1.0, posinf=-2.0)[:2], torch.tensor([[-2.0, -1, -1], [1, -1, -1]]).double()
    )
    assert trace.losses[2, :2].tolist() == [2.0, 3.0]


def test_memory_that_torch_holds_without_using_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 6 * 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2 * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (16 * 2**30, 80 * 2**30))
    assert memory.kept_bytes(device, None) == int(0.65 * 20 * 2**30)
    assert memory.scratch_bytes(device, None) == int(0.15 * 20 * 2**30)
    assert memory.kept_bytes(device, 10**6) == 10**6
    assert memory.scratch_bytes(torch.device("cpu"), None) == 2**28
