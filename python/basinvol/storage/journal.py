"""A file to which finished parts of a long computation are added, so that it can be killed and go on.

A record is a key, some bytes and a digest of both. What a kill has cut off at the end is not whole, and is dropped. Of
records with one key the last counts; the others are left out when the file is written anew, which is when they are the
larger part of it.
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
from typing import IO, Any, NamedTuple

fcntl: Any
try:
    fcntl = import_module("fcntl")
except ModuleNotFoundError:  # there is none on Windows: two processes with one file are not kept apart there
    fcntl = None

_MAGIC = b"basinvol resume file 1\n"
_HEAD = struct.Struct("<IQ16s")  # lengths of key and bytes, digest
_CALL = "call"
_DIGEST = "digest "  # begins a value of which only a digest is known
_LEAST_SUPERSEDED = 2**20  # bytes of superseded records that are worth writing the file anew


class _Span(NamedTuple):
    """Where a record is in the file, and where its content begins."""

    start: int
    content: int
    stop: int


class Journal:
    """The finished parts of one call, by key. Made by `Journal.opened`.

    Args:
        file: the file, locked.
        path: its name.
        records: where each record is in it, by key.
    """

    def __init__(self, file: IO[bytes], path: Path, records: dict[str, _Span]) -> None:
        self._file, self._path, self._records = file, path, records

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
        journal = cls(*_opened(path))
        try:
            there = json.loads(journal.get(_CALL) or b"null")
            if there is None:
                journal._file.truncate(0)
                journal._file.write(_MAGIC)
                journal.add(_CALL, json.dumps(dict(call)).encode())
            elif there != call:
                raise ValueError(
                    f"`resume` is {path}, which belongs to another call: {_differences(there, call)}; repeat that "
                    "call, or choose another file."
                )
            yield journal
        finally:
            journal._file.close()

    def get(self, key: str) -> bytes | None:
        """The bytes of a finished part, or None."""
        span = self._records.get(key)
        if span is None:
            return None
        self._file.seek(span.content)
        return self._file.read(span.stop - span.content)

    def add(self, key: str, content: bytes) -> None:
        """Keeps a finished part, in place of an earlier one of this key; it is on the disk when this returns."""
        name = key.encode()
        start = self._file.seek(0, os.SEEK_END)
        for part in (_HEAD.pack(len(name), len(content), _digest(name, content)), name, content):
            self._file.write(part)
        _flush(self._file)
        stop = self._file.tell()
        self._records[key] = _Span(start, stop - len(content), stop)
        live = sum(span.stop - span.start for span in self._records.values())
        if stop - live > max(live, _LEAST_SUPERSEDED):
            # It goes on growing on a full disk, and on Windows, where an open file cannot be replaced.
            with contextlib.suppress(OSError):
                self._write_anew()

    def _write_anew(self) -> None:
        """Replaces the file, at once, by one of the records that count."""
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        file, records = temporary.open("w+b"), dict[str, _Span]()
        try:
            _lock(file, self._path)
            file.write(_MAGIC)
            for key, span in self._records.items():
                start = file.tell()
                self._file.seek(span.start)
                file.write(self._file.read(span.stop - span.start))
                records[key] = _Span(start, start + span.content - span.start, file.tell())
            _flush(file)
            temporary.replace(self._path)
        except BaseException:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
        self._file.close()
        self._file, self._records = file, records


def of_digest(digest: str) -> str:
    """How a value of a call is kept that is too large to be told: data, parameters."""
    return _DIGEST + digest


def _opened(path: Path) -> tuple[IO[bytes], Path, dict[str, _Span]]:
    """The locked file with its whole records; it is made if there is none."""
    while True:
        try:
            file = path.open("a+b")
        except OSError as error:
            raise ValueError(f"`resume` is {path}, which cannot be written: {error.strerror or error}.") from error
        try:
            _lock(file, path)
            # Its owner may have replaced the file between the two lines above.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, path, _read(file, path)
        except BaseException:
            file.close()
            raise
        file.close()


def _read(file: IO[bytes], path: Path) -> dict[str, _Span]:
    """All whole records; what follows them is cut off."""
    file.seek(0)
    start = file.read(len(_MAGIC))
    if not _MAGIC.startswith(start):
        raise ValueError(f"`resume` is {path}, which is not a resume file of basinvol; choose another name.")
    records: dict[str, _Span] = {}
    end = file.tell()
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        key_length, length, digest = _HEAD.unpack(head)
        rest = os.fstat(file.fileno()).st_size - file.tell()
        if key_length + length > rest:
            break
        name, content = file.read(key_length), file.read(length)
        if _digest(name, content) != digest:
            break
        records[name.decode()] = _Span(end, file.tell() - length, file.tell())
        end = file.tell()
    file.truncate(end)
    return records


def _flush(file: IO[bytes]) -> None:
    """Returns when all that was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _digest(name: bytes, content: bytes) -> bytes:
    digest = hashlib.blake2b(name, digest_size=16)
    digest.update(content)
    return digest.digest()


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
