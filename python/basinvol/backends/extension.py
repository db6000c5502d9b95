"""The compiled extension, for everything in Python that uses it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def compiled_extension() -> Any:
    """The compiled extension module, loaded on first use."""
    # Here, after torch, so that the process has one OpenMP runtime.
    return import_module("basinvol._native")
