"""How an experiment is run, apart from what it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ...progress import Bar, progress_bar


@dataclass(frozen=True)
class Execution:
    """How a sweep is run. Of these settings, only `backend`, `resolve` and `device` can change a number in the records.

    Attributes:
        backend, resolve: see `basinvol.find_radii`.
        num_threads: number of threads of each process.
        device: where to train and measure, for example "cuda"; None for the CPU.
        data_dir: folder with published data files.
        progress: whether bars are shown, on a terminal or in a notebook.
    """

    backend: str = "auto"
    resolve: str = "all"
    num_threads: int = 1
    device: str | None = None
    data_dir: Path | None = None
    progress: bool = False

    def bar(self, total: int, description: str, unit: str) -> AbstractContextManager[Bar]:
        """A progress bar with the time left, or one that shows nothing.

        Args:
            total: number of steps.
            description: what is done.
            unit: what one step is called.
        """
        return progress_bar(self.progress, total, description, unit)
