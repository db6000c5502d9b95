"""A file to which finished parts of a long computation are added, so that it can be killed and go on.

A record is a key, some bytes and a digest of both. What a kill has cut off at the end is not whole, and is dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any

fcntl: Any
try:
    fcntl = import_module("fcntl")
except ModuleNotFoundError:  # there is none on Windows: two processes with one file are not kept apart there
    fcntl = None

_MAGIC = b"basinvol resume file 1\n"
_HEAD = struct.Struct("<IQ16s")  # lengths of key and bytes, digest
_CALL = "call"
_DIGEST = "digest "  # begins a value of which only a digest is known


class Journal:
    """The finished parts of one call, by key. Made by `Journal.opened`."""

    def __init__(self, file: IO[bytes], records: dict[str, bytes]) -> None:
        self._file, self._records = file, records

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path, call: Mapping[str, str]) -> Iterator[Journal]:
        """The journal of a call, new or as the call left it; closed at the end of the `with`.

        Args:
            path: the file; it is made if there is none.
            call: everything that determines the result, by the names of the arguments.

        Raises:
            ValueError: the file is something else, belongs to another call, is in use, or cannot be written.
        """
        try:
            file = path.open("a+b")
        except OSError as error:
            raise ValueError(f"`resume` is {path}, which cannot be written: {error.strerror or error}.") from error
        with file:
            _lock(file, path)
            records = _read(file, path)
            there = json.loads(records.pop(_CALL, b"null"))
            journal = cls(file, records)
            if there is None:
                file.truncate(0)
                file.write(_MAGIC)
                journal._append(_CALL, json.dumps(dict(call)).encode())
            elif there != call:
                raise ValueError(
                    f"`resume` is {path}, which belongs to another call: {_differences(there, call)}; repeat that "
                    "call, or choose another file."
                )
            yield journal

    def get(self, key: str) -> bytes | None:
        """The bytes of a finished part, or None."""
        return self._records.get(key)

    def add(self, key: str, content: bytes) -> None:
        """Keeps a finished part; it is on the disk when this returns."""
        self._records[key] = content
        self._append(key, content)

    def _append(self, key: str, content: bytes) -> None:
        name = key.encode()
        self._file.write(_HEAD.pack(len(name), len(content), _digest(name, content)) + name + content)
        self._file.flush()
        os.fsync(self._file.fileno())


def of_digest(digest: str) -> str:
    """How a value of a call is kept that is too large to be told: data, parameters."""
    return _DIGEST + digest


def _read(file: IO[bytes], path: Path) -> dict[str, bytes]:
    """All whole records; what follows them is cut off."""
    file.seek(0)
    start = file.read(len(_MAGIC))
    if not _MAGIC.startswith(start):
        raise ValueError(f"`resume` is {path}, which is not a resume file of basinvol; choose another name.")
    records: dict[str, bytes] = {}
    end = file.tell()
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        key_length, length, digest = _HEAD.unpack(head)
        rest = os.fstat(file.fileno()).st_size - file.tell()
        if key_length + length > rest:
            break
        name, content = file.read(key_length), file.read(length)
        if _digest(name, content) != digest:
            break
        records[name.decode()] = content
        end = file.tell()
    file.truncate(end)
    file.seek(end)
    return records


def _digest(name: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(name + content, digest_size=16).digest()


def _lock(file: IO[bytes], path: Path) -> None:
    """Keeps other processes out; the system releases the lock when this process ends, however it ends."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"`resume` is {path}, which another process is using; wait for it.") from error


def _differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    parts = []
    for name in {**there, **here}:
        before, after = there.get(name, "nothing"), here.get(name, "nothing")
        if before != after:
            is_long = before.startswith(_DIGEST) or after.startswith(_DIGEST)
            parts.append(f"`{name}` has other values" if is_long else f"`{name}` was {before} and is {after}")
    return ", ".join(parts)
