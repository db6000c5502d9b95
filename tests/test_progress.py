"""Bars are shown where somebody can see them, with the time left, for every method, and nowhere else."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import basinvol as bv
from basinvol import progress


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal; called in a test, as pytest sets its own between the fixtures and the test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


SMALL: dict[str, dict[str, Any]] = {
    "star": {},
    "gaussian": {"sigma": 1.0},
    "preconditioned": {},
    "hit-and-run": {"method_options": {"num_walkers": 32, "num_groups": 2, "num_steps": 4}},
    "annealed": {"method_options": {"num_chains": 32, "num_windows": 2, "window": 4, "num_final": 2, "rounds": 1}},
    "splitting": {"sigma": 1.0, "measure": "gaussian", "method_options": {"num_chains": 64, "rounds": 1}},
    "direct": {"sigma": 0.5, "measure": "gaussian"},
}


PURPOSES = {
    "preconditioned": ("pilot", "uniform rays", "stretched rays"),
    "hit-and-run": ("directions", "walk"),
    "annealed": ("directions", "warm-up", "annealing"),
    "splitting": ("directions", "splitting"),
    "direct": ("directions", "drawing"),
}


@pytest.mark.parametrize("method", SMALL)
def test_every_method_shows_how_far_it_is_and_the_time_left(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    case = bv.ground_truth.ball(3)
    settings = {"num_directions": 40, "scaling": "none", "method": method, "probe": False, **SMALL[method]}
    bv.estimate_volume(*case.task(), cutoff=1.0, **settings, progress=True)
    shown = stream.getvalue()
    for purpose in PURPOSES.get(method, ("directions",)):
        assert f"{purpose}: " in shown
    assert "<" in shown  # the time that went by < the time left


def test_nothing_is_shown_unasked_or_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    case = bv.ground_truth.ball(3)
    settings = {"cutoff": 1.0, "num_directions": 8, "scaling": "none"}
    bv.estimate_volume(*case.task(), **settings)
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    bv.estimate_volume(*case.task(), **settings, progress=True)
    assert stream.getvalue() == pipe.getvalue() == ""


def test_a_notebook_has_a_bar_although_its_standard_error_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert progress.is_watched()
    with progress.progress_bar(True, 3, "work") as bar:
        bar.update(2)
    assert "work" in pipe.getvalue()
    shell.config.clear()  # IPython in a terminal
    assert not progress.is_watched()
