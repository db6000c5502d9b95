"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

EXAMPLES = [
    "basinvol.callbacks.recorder",
    "basinvol.estimate",
    "basinvol.model.directions",
    "basinvol.model.parameters",
    "basinvol.saved",
    "basinvol.search.radii",
    "basinvol.trust.measures",
    "basinvol.trust.volume",
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_a_module_hold(name: str):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
