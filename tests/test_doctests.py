"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

import basinvol

PUBLIC = {name: getattr(basinvol, name) for name in basinvol.__all__ if name != "__version__"}
FUNCTIONS = sorted(name for name, found in PUBLIC.items() if inspect.isfunction(found))
# The files in which public names are defined, and those whose examples explain a definition.
MODULES = sorted(
    {found.__name__ if inspect.ismodule(found) else found.__module__ for found in PUBLIC.values()}
    | {"basinvol.trust.volume", "basinvol.callbacks.recorder"}
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_hold(name: str):
    found = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert found.failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_has_an_example(name: str):
    assert doctest.DocTestParser().get_examples(inspect.getdoc(PUBLIC[name]) or "")
