"""Progress bars with the time left, on terminals and in notebooks, and silence everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    """What a stage of work tells about itself."""

    def update(self, n: int = 1) -> object:
        """Says that `n` more units are done."""
        ...


class _Silence:
    """Shows nothing. Even a disabled bar of tqdm makes a semaphore, which a process that is killed leaves behind."""

    def update(self, n: int = 1) -> None:
        """Says nothing."""


def is_watched() -> bool:
    """Whether somebody can see a bar: standard error is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or _in_notebook()


@contextmanager
def progress_bar(shown: bool, total: int, purpose: str, unit: str = "step") -> Iterator[Bar]:
    """A bar with the time left, for the length of a `with`; silent where it is not wanted or nobody can see it.

    Args:
        shown: whether a bar is wanted.
        total: how many units of work there are, as far as is known.
        purpose: what the work is for, before the bar.
        unit: what the work is counted in.
    """
    if not shown or not is_watched():
        yield _Silence()
        return
    with _tqdm()(total=total, desc=purpose, unit=unit, leave=False, disable=False, dynamic_ncols=True) as bar:
        yield bar


def _tqdm() -> Any:
    """The bar of a notebook or of a terminal; a notebook without ipywidgets gets that of a terminal."""
    if _in_notebook():
        from tqdm.auto import tqdm as automatic

        return automatic
    from tqdm import tqdm as plain

    return plain


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    found = None if shell is None else shell.get_ipython()
    return found is not None and "IPKernelApp" in found.config
