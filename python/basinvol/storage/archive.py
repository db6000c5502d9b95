"""One result in one file: an .npz archive of NumPy, whose entry "document" is JSON and whose others are arrays.

Nothing else has to be installed, nothing is pickled, and equal results give equal bytes.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .codec import Arrays, decode, encode

_DOCUMENT = "document"
_FORMAT = 1  # raised when an older version could not read a file any more


class Saveable:
    """A result that can be written to a file, from which `basinvol.load` makes it again."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the result to one file, whole or not at all; `basinvol.load` reads it.

        The file is an .npz archive without pickle: `numpy.load(path)` shows the arrays by the names of their fields,
        and "document" is JSON. It needs nothing but NumPy.

        Args:
            path: the file; an older one of this name is replaced.

        Raises:
            ValueError: the folder does not exist, or a value in `details` cannot be saved.
        """
        write_whole(Path(path), to_bytes(self))


def to_bytes(value: Any) -> bytes:
    """The value as the bytes of an archive."""
    arrays: Arrays = {}
    document = {"format": _FORMAT, "basinvol": _version(), "value": encode(value, arrays)}
    file = io.BytesIO()
    text = np.array(json.dumps(document, allow_nan=False))
    entries: dict[str, Any] = {_DOCUMENT: text, **arrays}
    np.savez(file, **entries)
    return file.getvalue()


def from_bytes(content: bytes, types: Mapping[str, type], name: str) -> Any:
    """The value in the bytes of an archive.

    Args:
        content: what `to_bytes` returned.
        types: dataclasses and enums by name.
        name: where the bytes are from, for messages.

    Raises:
        ValueError: they are no such archive, or one of a version that this one cannot read.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        document = json.loads(str(arrays.pop(_DOCUMENT)))
        number, writer = document["format"], document["basinvol"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} is not a file that basinvol saved: {error}.") from error
    if number != _FORMAT:
        raise ValueError(f"{name} was saved by basinvol {writer} in format {number}, and this one reads {_FORMAT}.")
    try:
        return decode(document["value"], arrays, types)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{name} was saved by basinvol {writer} and cannot be read here: {error}.") from error


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it, so that it is whole or not there.

    Raises:
        ValueError: the folder does not exist.
    """
    if not path.parent.is_dir():
        raise ValueError(f"`path` is {path}, in a folder that does not exist; make {path.parent} first.")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp keeps others out, as no other way to write a file does
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _version() -> str:
    try:
        return version("basinvol")
    except PackageNotFoundError:  # copied into a path without its metadata
        return "unknown"
