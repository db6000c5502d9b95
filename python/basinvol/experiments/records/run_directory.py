"""A run on disk: its configuration, models, radii, rows, masses, slices, timings, tables, figures and report.

Nothing here needs torch. Every file appears whole, so that a reader, or the same command after a kill, finds only whole
files. One process at a time directs the work in a directory, and its workers may write from any machine.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import platform
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..describe.description import NO_VARIATION, Mass
from .columns import MASS_COLUMNS, SECONDS, VOLUME_COLUMNS, check_columns, in_order
from .lock import locked
from .storage import is_local, write_atomically


def model_name(seed: int, level: int, variant: str) -> str:
    """The name of a model in all files.

    Args:
        seed: model seed.
        level: number of pool examples that it was trained on.
        variant: label of its variant.
    """
    return f"m{seed}-level{level}" + ("" if variant == NO_VARIATION else "-" + variant.lower().replace(" ", ""))


class RunDirectory:
    """The files of one run.

    Args:
        path: of the directory, which is created if it does not exist.

    Raises:
        ValueError: it cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            for part in ("models", "radii", "rows", "masses", "slices", "figures", "timings"):
                (path / part).mkdir(parents=True, exist_ok=True)
            probe = path / f".writable-{uuid.uuid4().hex}.tmp"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"`out` cannot be written: {error.strerror or error} ({path}); choose another directory."
            ) from error

    @classmethod
    def of_worker(cls, path: Path, settings: Mapping[str, Any]) -> RunDirectory:
        """The directory of a run that another process directs, perhaps on another machine.

        Args:
            path: of the directory, as that process sees it.
            settings: those with which it claimed the directory.

        Raises:
            ValueError: this machine has no such directory, or another run there, or it cannot be written.
        """
        try:
            found = read_config(path)["settings"]
        except (ValueError, OSError):
            found = None
        if found is None or {**found, "cutoffs": ()} != {**json.loads(json.dumps(settings)), "cutoffs": ()}:
            raise ValueError(
                f"`out` is {path}, which is not the same directory on {socket.gethostname()}, where a worker runs; put "
                "it on storage that all machines share, such as a network folder or s3://bucket/run."
            )
        return cls(path)

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Writes config.json, or checks that the run in the directory was begun with the same settings.

        Cutoffs may be added to a run: `passes` tells which are searched for in the first pass and in each later one.

        Raises:
            ValueError: the directory holds a run with other settings; nothing is changed.
        """
        path = self.path / "config.json"
        wanted = json.loads(json.dumps(settings))
        if path.exists():
            config = read_config(self.path)
            there, asked = config["settings"], wanted["cutoffs"]
            wanted = {**wanted, "cutoffs": there["cutoffs"]}
            changed = sorted(key for key in {*there, *wanted} if there.get(key) != wanted.get(key))
            if changed:
                raise ValueError(
                    f"{self.path} holds a run with other settings ({', '.join(changed)} differ); "
                    "use another `out`, or the same options to continue it."
                )
            known = {cutoff for cutoffs in self.passes() for cutoff in cutoffs}
            added = [cutoff for cutoff in asked if cutoff not in known]
            if added:
                config["added_cutoffs"].append(added)
                write_atomically(path, _as_json(config))
            return
        config = {
            "settings": wanted,
            "added_cutoffs": [],
            "masses": [],
            "versions": _versions(),
            "machine": machine(),
            "commit": _commit(),
        }
        write_atomically(path, _as_json(config))

    def passes(self) -> list[tuple[float, ...]]:
        """The cutoffs of the first pass, and those that later commands added, pass by pass."""
        config = read_config(self.path)
        return [tuple(cutoffs) for cutoffs in (config["settings"]["cutoffs"], *config["added_cutoffs"])]

    def add_mass(self, mass: Mass) -> None:
        """Notes that chains measure every basin, too; `masses` has all that was noted."""
        if mass not in self.masses():
            config = read_config(self.path)
            config["masses"] = [*config.get("masses", []), dataclasses.asdict(mass)]
            write_atomically(self.path / "config.json", _as_json(config))

    def masses(self) -> list[Mass]:
        """What chains measure of every basin; nothing in a run of rays alone."""
        return [Mass(**mass) for mass in read_config(self.path).get("masses", [])]

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes out that would direct the work; a lock whose holder is gone is taken over.

        Raises:
            ValueError: another process is at work in the directory; the message names it.
        """
        return locked(self.path / ".lock", self.path)

    def remove_unfinished(self) -> None:
        """Deletes the temporary files of a process that was killed."""
        if is_local(self.path):  # elsewhere there are none
            for path in self.path.rglob(".*.tmp"):
                path.unlink(missing_ok=True)

    def model_path(self, name: str) -> Path:
        """The file with the weights of one model."""
        return self.path / "models" / f"{name}.safetensors"

    def block_path(self, name: str, block: int) -> Path:
        """The file with the radii of one block of directions."""
        return self.path / "radii" / f"{name}-block{block:04d}.parquet"

    def refined_path(self, name: str) -> Path:
        """The file with the radii of the directions that decide, narrowed further than in their blocks."""
        return self.path / "radii" / f"{name}-refined.parquet"

    def pass_path(self, name: str, number: int) -> Path:
        """The file with the radii of all directions at cutoffs that were added."""
        return self.path / "radii" / f"{pass_name(name, number)}.parquet"

    def mass_path(self, name: str, size: int, cutoff: float, mass: Mass) -> Path:
        """The file with the row of masses.csv of one basin.

        Args:
            name: of the model, in file names.
            size: number of examples of the landscape.
            cutoff: of the basin.
            mass: what is measured.
        """
        return self.path / "masses" / f"{name}-{mass.label}-on{size}-below{cutoff:g}.json"

    def slices_path(self, seed: int) -> Path:
        """The file with the losses in the plane through three minima of one seed."""
        return self.path / "slices" / f"m{seed}.parquet"

    def write_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the rows of volumes.csv that one search pass of a model gives, without their seconds.

        It is the last file of the pass: where it is, the pass is finished.

        Raises:
            ValueError: a column is missing or unknown.
        """
        complete = [in_order(row, without=(SECONDS,)) for row in rows]
        write_atomically(self._rows_path(name), json.dumps(complete, indent=1).encode())

    def has_rows(self, name: str) -> bool:
        """Whether a search pass of a model is finished."""
        return self._rows_path(name).exists()

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """Reads back what `write_rows` wrote.

        Raises:
            ValueError: a column is missing, because another version wrote the file.
        """
        path = self._rows_path(name)
        rows: list[dict[str, Any]] = json.loads(path.read_text())
        for row in rows:
            check_columns(str(path), [*row, SECONDS])
        return rows

    def _rows_path(self, name: str) -> Path:
        return self.path / "rows" / f"{name}.json"

    def check_data(self, data_seed: int, fingerprint: str) -> None:
        """Notes which examples a data seed stands for, or checks that they are those that were noted.

        Raises:
            ValueError: they are others.
        """
        path = self.path / "rows" / f"data-seed{data_seed}.sha256"
        if not path.exists():
            write_atomically(path, fingerprint.encode() + b"\n")
        elif path.read_text().strip() != fingerprint:
            raise ValueError(
                f"the examples of data seed {data_seed} are not those that {self.path} was begun with; use the same "
                "data, or another `out`."
            )

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Notes how long a part took; timings are the only bytes that differ between two equal runs.

        Each part has a file of its own, which any worker may write; `gather_timings` makes them one.
        """
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        write_atomically(self.path / "timings" / f"{part.replace('/', '--')}.csv", f"{part},{seconds:.6f}\n".encode())

    def gather_timings(self) -> None:
        """Puts the timings of all parts into timings.csv."""
        parts = self._timing_parts()
        if parts:
            lines = [f"{part},{seconds:.6f}\n" for part, seconds in self.timings().items()]
            write_atomically(self.path / "timings.csv", "".join(lines).encode())
            for path in parts:
                path.unlink()

    def timings(self) -> dict[str, float]:
        """Seconds that each part took, by name."""
        path = self.path / "timings.csv"
        text = path.read_text() if path.exists() else ""
        lines = (text + "".join(part.read_text() for part in self._timing_parts())).split()
        rows = [line.rpartition(",") for line in lines]
        return {part: float(seconds) for part, _, seconds in rows if part and seconds}

    def _timing_parts(self) -> list[Path]:
        return sorted((self.path / "timings").glob("*.csv"))

    def write_volumes(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes volumes.csv, one row per model, landscape and cutoff.

        Raises:
            ValueError: a column is missing or unknown.
        """
        self._write_table("volumes.csv", VOLUME_COLUMNS, map(in_order, rows))

    def write_masses(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes masses.csv, one row per model, landscape, cutoff and measurement by chains."""
        self._write_table("masses.csv", MASS_COLUMNS, rows)

    def _write_table(self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / name, text.getvalue().encode())


def pass_name(name: str, number: int) -> str:
    """The name of one search pass of a model in all files."""
    return name if number == 0 else f"{name}-cutoffs{number:02d}"


def _as_json(config: Mapping[str, Any]) -> bytes:
    return json.dumps(config, indent=2).encode() + b"\n"


def read_config(path: Path) -> dict[str, Any]:
    """Reads the configuration of a run.

    Raises:
        ValueError: there is no run at `path`.
    """
    try:
        config: dict[str, Any] = json.loads((path / "config.json").read_text())
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} holds no run: there is no config.json; give the `--out` of a `reproduce` command."
        ) from error
    return config


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in ("basinvol", "torch", "numpy")}


def machine() -> dict[str, Any]:
    """The operating system, the processor and the number of cores."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"system": platform.system(), "cpu": model, "cores": os.cpu_count()}


def _commit() -> str | None:
    """The commit of the checkout that this package runs from; None if it is installed."""
    here = Path(__file__).resolve().parent
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
