"""Where a run lies: a folder of this machine, or a place that fsspec knows, such as s3://bucket/run.

A place of fsspec is a `UPath`, which has the members of `pathlib.Path` that are used here and is passed on as one.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

# Of these, an upload appears whole when it is complete; a rename would be a second copy.
_OBJECT_STORES = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2")


def place(words: str | Path) -> Path:
    """The place that a command line names: a folder, or an address such as s3://bucket/run.

    Raises:
        ValueError: it is an address, and the package for it is not installed or does not know it.
    """
    if not isinstance(words, str) or "://" not in words:
        return Path(words) if isinstance(words, str) else words
    if words.startswith("file://"):
        return Path(unquote(urlsplit(words).path))
    try:
        from upath import UPath
    except ModuleNotFoundError as error:
        raise ValueError(
            f"`out` is {words}, for which universal-pathlib is not installed: pip install 'basinvol[storage]'."
        ) from error
    try:
        path = UPath(words)
        _ = path.fs  # what the protocol needs is loaded here
    except (ImportError, ValueError) as error:
        raise ValueError(f"`out` is {words}, which fsspec cannot open: {error}.") from error
    return cast(Path, path)


def is_local(path: Path) -> bool:
    """Whether the path is in a file system of this machine, which a network may serve."""
    return isinstance(path, Path)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all, whoever else writes the same one.

    The error of a full disk passes through, and leaves the old file in place.
    """
    if not is_local(path) and _file_system(path).protocol_is_store:
        path.write_bytes(content)
        return
    # No two writers share a name: processes of two machines may have the same number.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    if not is_local(path):
        temporary.write_bytes(content)
        _file_system(path).move(temporary, path)
        return
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create(path: Path, content: bytes) -> bool:
    """Writes a file if there is none of this name yet; whether it did. Of two that try at once, one does."""
    if not is_local(path):
        return _file_system(path).create(path, content)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.link(temporary, path)  # atomic on network file systems too, and the file is whole when it appears
    except FileExistsError:
        return False
    except PermissionError:  # a file system without links
        return _created(path, content)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _created(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def modified(path: Path) -> float:
    """When the file was last written, in seconds by the clock of the storage.

    Raises:
        FileNotFoundError: there is none.
    """
    if is_local(path):
        return path.stat().st_mtime
    return _file_system(path).modified(path)


class _FileSystem:
    """What fsspec has beyond `pathlib`."""

    def __init__(self, path: Path) -> None:
        self._fs: Any = cast(Any, path).fs
        names = self._fs.protocol
        self._protocols = {names} if isinstance(names, str) else set(names)

    @property
    def protocol_is_store(self) -> bool:
        return bool(self._protocols & set(_OBJECT_STORES))

    def move(self, source: Path, target: Path) -> None:
        self._fs.mv(_inside(source), _inside(target))

    def create(self, path: Path, content: bytes) -> bool:
        try:
            self._fs.pipe_file(_inside(path), content, mode="create")
        except FileExistsError:
            return False
        return True

    def modified(self, path: Path) -> float:
        self._fs.invalidate_cache()
        return float(self._fs.modified(_inside(path)).timestamp())


def _file_system(path: Path) -> _FileSystem:
    return _FileSystem(path)


def _inside(path: Path) -> str:
    found: str = cast(Any, path).path
    return found
