"""How an experiment is run, apart from what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tqdm import tqdm


class Bar(Protocol):
    """A progress bar, open inside its `with`."""

    def update(self, steps: int = 1, /) -> object:
        """Counts steps that were done."""

    def __enter__(self) -> Bar: ...

    def __exit__(self, *_: object) -> object: ...


@dataclass(frozen=True)
class Execution:
    """How a sweep is run. Of these settings, only `backend`, `resolve` and `device` can change a number in the records.

    Attributes:
        backend, resolve: see `basinvol.find_radii`.
        num_threads: number of threads of each process.
        device: where to train and measure, for example "cuda"; None for the CPU.
        data_dir: folder with published data files.
        progress: whether bars are shown, if standard error is a terminal.
    """

    backend: str = "auto"
    resolve: str = "all"
    num_threads: int = 1
    device: str | None = None
    data_dir: Path | None = None
    progress: bool = False

    def bar(self, total: int, description: str, unit: str) -> Bar:
        """A progress bar on standard error, or one that shows nothing.

        Args:
            total: number of steps.
            description: what is done.
            unit: what one step is called.
        """
        if not self.progress:
            return _NoBar()
        bar: Bar = tqdm(total=total, desc=description, unit=unit, leave=False, disable=None)
        return bar


class _NoBar:
    """Shows nothing. Even a disabled bar of tqdm makes a semaphore, which a worker that is ended would leave behind."""

    def update(self, steps: int = 1) -> None:
        """Does nothing."""

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing."""
