"""Long work says how long it will take before it is done."""

from __future__ import annotations

import warnings

import pytest
from torch.nn import functional as F

import basinvol as bv
from basinvol.rays import announcement


def test_long_work_is_announced_once(trained, blobs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(announcement, "_LONG", 0.0)
    landscape, space = bv.Landscape(trained, F.cross_entropy, blobs), bv.ParameterSpace.of(trained)
    with pytest.warns(
        UserWarning, match=r"200 directions take about \d+ seconds longer; lower `num_directions`, or"
    ) as all_:
        bv.find_radii(landscape, bv.Directions(space, 200), [0.1], num_threads=1)
    assert len(all_) == 1


def test_short_work_is_not_announced(trained, blobs):
    landscape, space = bv.Landscape(trained, F.cross_entropy, blobs), bv.ParameterSpace.of(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bv.find_radii(landscape, bv.Directions(space, 200), [0.1], num_threads=1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90.0, "90 seconds"), (7199.0, "120 minutes"), (7200.0, "2 hours"), (1e6, "12 days"), (1e9, "32 years")],
)
def test_durations_are_in_the_largest_unit_that_comes_to_two(seconds: float, text: str):
    assert announcement._duration(seconds) == text


def test_a_billion_directions_are_announced_before_they_are_done(trained, blobs):
    """The run is ended by its own announcement, turned into an error."""
    landscape, space = bv.Landscape(trained, F.cross_entropy, blobs), bv.ParameterSpace.of(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"1,000,000,000 directions take about .* longer"):
            bv.find_radii(landscape, bv.Directions(space, 10**9), [0.1], num_threads=1)


def test_a_slow_first_block_says_nothing_of_the_others(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(announcement.time, "perf_counter", lambda: clock[0])
    announced = announcement.Announcement(500, is_shown=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seconds in (900.0, *[10.0] * 20):  # 64 directions are solved with the first block, the others proved short
            clock[0] += seconds
            announced.update(22)
    announced = announcement.Announcement(500, is_shown=False)
    for seconds in (1.0, 100.0):
        clock[0] += seconds
        announced.update(22)
    clock[0] += 100.0
    with pytest.warns(UserWarning, match="500 directions take about 33 minutes longer"):
        announced.update(22)
