"""The user task: the model, loss and data that `module:make_task` on the command line stands for."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def load_user_task(name: str) -> tuple[Any, Any, Any]:
    """Imports `module:make_task` from the current folder or the path, calls it and returns (model, loss_fn, data).

    Raises:
        ValueError: the name has another form, there is no such function, or it returns something else.
    """
    module_name, _, function = name.partition(":")
    if not module_name or not function:
        raise ValueError(f"the task must be module:make_task, got {name!r}.")
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"the task {name!r} cannot be imported: {error}.") from error
    if not hasattr(module, function):
        raise ValueError(f"the task's module {module_name!r} has no function {function!r}.")
    made = getattr(module, function)()
    if not isinstance(made, tuple) or len(made) != 3:
        raise ValueError(f"{name} must return (model, loss_fn, data), got {_what(made)}.")
    model, loss_fn, data = made
    return model, loss_fn, data


def _what(made: object) -> str:
    return f"a tuple of {len(made)}" if isinstance(made, tuple) else f"a value of type {type(made).__name__}"
