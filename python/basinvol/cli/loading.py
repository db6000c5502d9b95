"""The user's own task, from module:make_task on the command line."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def load_task(name: str) -> tuple[Any, Any, Any]:
    """The (model, loss_fn, data) of module:make_task."""
    module_name, _, function = name.partition(":")
    if not module_name or not function:
        raise ValueError(f"the task must be module:make_task, got {name!r}.")
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        make_task = getattr(importlib.import_module(module_name), function)
    except ModuleNotFoundError as error:
        raise ValueError(f"the task {name!r} cannot be imported: {error}.") from error
    except AttributeError as error:
        raise ValueError(f"the task's module {module_name!r} has no function {function!r}.") from error
    task = make_task()
    if not isinstance(task, tuple) or len(task) != 3:
        raise ValueError(f"{name} must return (model, loss_fn, data), got a {type(task).__name__}.")
    return task
