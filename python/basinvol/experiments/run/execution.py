"""How an experiment is run, apart from what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True)
class Execution:
    """How a sweep is run; no number but the timings depends on it, except on `backend`, `resolve` and `device`.

    Attributes:
        backend, resolve: see `basinvol.find_radii`.
        num_threads: of each process, while it measures.
        device: where to train and measure, for example "cuda"; None for the CPU.
        data_dir: folder with published data files.
        progress: show bars, if standard error is a terminal.
    """

    backend: str = "auto"
    resolve: str = "all"
    num_threads: int = 1
    device: str | None = None
    data_dir: Path | None = None
    progress: bool = False

    def bar(self, total: int, description: str, unit: str) -> Any:
        """A progress bar, or nothing."""
        disabled = None if self.progress else True
        return tqdm(total=total, desc=description, unit=unit, leave=False, disable=disabled)
