"""Methods to estimate a volume: one file each, and an interface that other packages can implement."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

from ..inputs.arguments import one_of
from .task import CenterOutsideError, Outcome, SharedRays, Task

__all__ = ["METHODS", "CenterOutsideError", "Method", "Outcome", "SharedRays", "Task", "find_method"]

ENTRY_POINTS = "basinvol.methods"

# method -> module; "star" and "gaussian" differ in what they measure.
_MODULES = {
    "star": "star",
    "paper": "paper",
    "gaussian": "star",
    "preconditioned": "preconditioned",
    "annealed": "annealed",
    "splitting": "splitting",
    "direct": "direct",
    "hit-and-run": "hit_and_run",
}
METHODS = tuple(_MODULES)


@runtime_checkable
class Method(Protocol):
    """A way to estimate a volume. Any object with these members may be passed as `method`.

    A package registers a method by name through an entry point of the group "basinvol.methods" that gives a class or
    function; it is called with the `method_options` and returns the object.
    """

    @property
    def name(self) -> str:
        """The name of the method in results."""
        ...

    def estimate(self, task: Task) -> Outcome:
        """The volume of the task's basin, with a verdict on it."""
        ...


@dataclass(frozen=True)
class _BuiltIn:
    """A module of this package, which has `Options`, a dataclass, and `estimate(task, options)`."""

    name: str
    options: Any

    def estimate(self, task: Task) -> Outcome:
        module = import_module(f".{_MODULES[self.name]}", __name__)
        return cast(Outcome, module.estimate(task, self.options))


def find_method(method: str | Method, options: Mapping[str, Any] | None = None) -> Method:
    """The method of this name, or the object itself.

    Args:
        method: a name in `METHODS`, that of an entry point of the group "basinvol.methods", or an object with `name`
            and `estimate(task)`.
        options: the method's own settings, by name.

    Raises:
        ValueError: the method is unknown, the object is not a method, or the method does not have such an option.
    """
    chosen = dict(options or {})
    if not isinstance(method, str):
        return _checked(method, chosen)
    if method in _MODULES:
        return _built_in(method, chosen)
    registered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    one_of("method", method, (*METHODS, *registered))
    try:
        return _checked(registered[method].load()(**chosen), {})
    except TypeError as error:
        raise ValueError(f"`method_options` do not fit method {method!r}: {error}.") from error


def _built_in(name: str, chosen: Mapping[str, Any]) -> Method:
    kind = import_module(f".{_MODULES[name]}", __name__).Options
    known = [part.name for part in dataclasses.fields(kind)]
    for option in chosen:
        if option not in known:
            offered = ", ".join(map(repr, known)) or "none"
            raise ValueError(f"`method_options` of method {name!r} are {offered}, got {option!r}.")
    return _BuiltIn(name, kind(**chosen))


def _checked(method: object, chosen: Mapping[str, Any]) -> Method:
    if isinstance(method, type) or not isinstance(method, Method):
        what = f"the class {method.__name__}" if isinstance(method, type) else f"a {type(method).__name__}"
        raise ValueError(f"`method` must be a name or an object with `name` and `estimate(task)`, got {what}.")
    if chosen:
        raise ValueError(
            f"`method_options` are for methods by name, got {list(chosen)}; set them on the object itself."
        )
    return method
