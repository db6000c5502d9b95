"""Ways to estimate a volume: one file each, all with `estimate(task, options) -> Outcome`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from .task import Outcome, Task

__all__ = ["METHODS", "Estimator", "Outcome", "Task", "check_method", "run"]

# method -> module; "star" and "gaussian" differ in what they measure, "paper" in how it searches.
_MODULES = {
    "star": "star",
    "paper": "star",
    "gaussian": "star",
    "preconditioned": "preconditioned",
    "annealed": "annealed",
    "splitting": "splitting",
    "hit-and-run": "hit_and_run",
}
METHODS = tuple(_MODULES)


class Estimator(Protocol):
    """A module of this package: `Options`, a dataclass of its own settings, and `estimate`."""

    Options: type[Any]

    @staticmethod
    def estimate(task: Task, options: Any) -> Outcome:
        """The volume of the task's basin."""
        ...


def run(method: str, task: Task, options: Mapping[str, Any]) -> Outcome:
    """The outcome of one method.

    Raises:
        ValueError: unknown method, or an option that it does not have.
    """
    check_method(method)
    module: Any = import_module(f".{_MODULES[method]}", __name__)
    known = [part.name for part in dataclasses.fields(module.Options)]
    for name in options:
        if name not in known:
            offered = ", ".join(map(repr, known)) or "none"
            raise ValueError(f"`method_options` of method {method!r} are {offered}, got {name!r}.")
    outcome: Outcome = module.estimate(task, module.Options(**options))
    return outcome


def check_method(method: str) -> None:
    """Refuses an unknown method."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}, got {method!r}.")
