"""Executors from the words of a command line: local:N, ray[:ADDRESS], slurm:PARTITION or module:make_executor."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor

from ..inputs.arguments import whole_number
from .local import LocalExecutor

FORMS = "local:N, ray, ray:ADDRESS, slurm:PARTITION or module:make_executor"


@contextlib.contextmanager
def opened(executor: Executor | str | None, num_threads: int = 1, num_gpus: int = 0) -> Iterator[Executor | None]:
    """An executor inside a `with`: the caller's own, which stays open, or one that is made from words and closed.

    Args:
        executor: an executor, or one in words, see `open_executor`; None stays None.
        num_threads: threads of each call, which Ray and Slurm set aside for it.
        num_gpus: devices of each call.

    Raises:
        ValueError: it is none of these.
    """
    if executor is None or isinstance(executor, Executor):
        yield executor
    elif isinstance(executor, str):
        with open_executor(executor, num_threads, num_gpus) as made:
            yield made
    else:
        raise ValueError(
            f"`executor` must be a concurrent.futures.Executor, or one of {FORMS}, got a {type(executor).__name__}."
        )


def open_executor(words: str, num_threads: int = 1, num_gpus: int = 0) -> Executor:
    """The executor that words stand for; leaving its `with` closes it.

    Args:
        words: "local:N", N processes of this machine; "ray", a Ray cluster that runs here or that RAY_ADDRESS names,
            or one that is started on this machine; "ray:ADDRESS", the cluster there; "slurm:PARTITION", jobs of a
            partition; "module:make_executor", what this function without arguments returns.
        num_threads: threads of each call, which Ray and Slurm set aside for it.
        num_gpus: devices of each call.

    Raises:
        ValueError: the words have another form, a package is not installed, there is no cluster at the address, or the
            function does not return an executor.
    """
    kind, _, rest = words.partition(":")
    if kind == "local":
        if not rest.isdecimal():
            raise ValueError(f"`executor` must say how many processes, such as local:2, got {words!r}.")
        return LocalExecutor(whole_number("executor local:N", int(rest), least=1), num_threads)
    if kind == "ray":
        from .on_ray import RayExecutor

        return RayExecutor(rest or None, num_threads, num_gpus)
    if kind == "slurm":
        from .on_slurm import SlurmExecutor

        if not rest:
            raise ValueError(f"`executor` must name the partition, such as slurm:gpu, got {words!r}.")
        return SlurmExecutor(rest, num_threads, num_gpus)
    if not kind or not rest:
        raise ValueError(f"`executor` must be {FORMS}, got {words!r}.")
    return _made_by(kind, rest)


def _made_by(module_name: str, function: str) -> Executor:
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"the executor's module {module_name!r} cannot be imported: {error}.") from error
    make = getattr(module, function, None)
    if make is None:
        raise ValueError(f"the executor's module {module_name!r} has no function {function!r}.")
    made = make()
    if not isinstance(made, Executor):
        raise ValueError(
            f"{module_name}:{function} must return a concurrent.futures.Executor, got a {type(made).__name__}."
        )
    return made
