"""Packages that basinvol does not need, imported when they are, with a sentence where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingPackage(ModuleNotFoundError):
    """The error for a package that is not installed; the message says what to install."""


def optional(name: str, extra: str, purpose: str) -> Any:
    """The module of this name.

    Args:
        name: name of the module.
        extra: the extra of basinvol that installs it.
        purpose: what needs it, as the subject of a sentence.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".")[0]
        if (error.name or "").split(".")[0] != package:  # it is there, and lacks something of its own
            raise
        raise MissingPackage(
            f"{purpose} needs {package}, which is not installed: pip install 'basinvol[{extra}]'.", name=package
        ) from error
