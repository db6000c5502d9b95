"""A run on disk: config.json, models/, radii/, timings.csv, volumes.csv, figures/, report.html.

Nothing here needs torch. Every file is written under a temporary name and renamed, so that a reader, or
the same command after a kill, finds whole files only.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

VOLUME_COLUMNS = (
    "experiment",
    "model_seed",
    "data_seed",
    "model_level",
    "model_size",
    "landscape_level",
    "landscape_size",
    "cutoff",
    "num_params",
    "num_directions",
    "num_crossed",
    "log_mean_power",
    "log_volume",
    "log_unit_ball",
    "log_det_scale",
    "standard_error",
    "lower_bound",
    "ess",
    "max_share",
    "z",
    "k_hat",
    "split_nats",
    "cutoff_slope",
    "verdict",
    "reason",
    "landscape_loss",
    "ends_at",
    "train_loss",
    "test_loss",
    "test_accuracy",
    "backend",
    "seconds",
)


class RunDirectory:
    """The files of one run.

    Args:
        path: created if it does not exist.

    Raises:
        ValueError: it can not be created or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            for part in ("models", "radii", "figures"):
                (path / part).mkdir(parents=True, exist_ok=True)
            probe = path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"`out` can not be written: {error.strerror or error} ({path}); choose another directory."
            ) from error

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Writes config.json, or checks that the run that is here was made with the same settings.

        Raises:
            ValueError: another configuration is here; nothing is changed.
        """
        path = self.path / "config.json"
        wanted = json.loads(json.dumps(settings))
        if path.exists():
            there = read_config(self.path)["settings"]
            changed = sorted(key for key in {*there, *wanted} if there.get(key) != wanted.get(key))
            if changed:
                raise ValueError(
                    f"{self.path} holds a run with other settings ({', '.join(changed)} differ); "
                    "use another `out`, or the same options to continue it."
                )
            return
        config = {"settings": wanted, "versions": _versions(), "machine": machine(), "commit": _commit()}
        write_atomically(path, json.dumps(config, indent=2).encode() + b"\n")

    def model_path(self, name: str) -> Path:
        """Weights of one model."""
        return self.path / "models" / f"{name}.safetensors"

    def block_path(self, name: str, block: int) -> Path:
        """Radii of one block of directions."""
        return self.path / "radii" / f"{name}-block{block:04d}.parquet"

    def refined_path(self, name: str) -> Path:
        """Radii of the directions that decide, narrowed further than in their blocks."""
        return self.path / "radii" / f"{name}-refined.parquet"

    def add_timing(self, part: str, seconds: float) -> None:
        """Notes how long a part took; timings are the only bytes that differ between two equal runs."""
        with (self.path / "timings.csv").open("a") as file:
            file.write(f"{part},{seconds:.6f}\n")

    def timings(self) -> dict[str, float]:
        """Seconds by part."""
        path = self.path / "timings.csv"
        if not path.exists():
            return {}
        rows = [line.rpartition(",") for line in path.read_text().splitlines()]
        return {part: float(seconds) for part, _, seconds in rows}

    def write_volumes(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """volumes.csv, one row per model, landscape and cutoff."""
        text = io.StringIO()
        writer = csv.DictWriter(text, VOLUME_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / "volumes.csv", text.getvalue().encode())


def write_atomically(path: Path, content: bytes) -> None:
    """The file appears whole or not at all; the error of a full disk passes through, with the old file in place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
        ValueError: there is no run at `path`.
    """
    try:
        config: dict[str, Any] = json.loads((path / "config.json").read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path} holds no run: there is no config.json; give the `--out` of a reproduce.") from error
    return config


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in ("basinvol", "torch", "numpy")}


def machine() -> dict[str, Any]:
    """Operating system, processor and cores."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"system": platform.system(), "cpu": model, "cores": os.cpu_count()}


def _commit() -> str | None:
    """The commit of the checkout this package runs from, if it does."""
    here = Path(__file__).resolve().parent
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
