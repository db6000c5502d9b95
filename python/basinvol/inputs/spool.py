"""Tensors that grow batch by batch: in memory up to a limit, and beyond it in temporary files that are mapped."""

from __future__ import annotations

import contextlib
import io
import mmap
import sys
import tempfile
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import IO, cast

import torch
from torch import Tensor

from .chunks import chunks
from .memory import available_memory

_SHARE = 4  # of the memory that is available, data take one part, and a second one while their array grows
# Python 3.12 and older have no name for it; this is its number on x86 and ARM.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def memory_limit() -> int:
    """The bytes that data may take before they are written to files, by the memory that is available now."""
    return available_memory() // _SHARE


class Spool:
    """Tensors by name, to whose ends rows are added.

    The files have no name in the temporary folder: the system deletes them when the last tensor that reads them is
    gone, however the process ends.

    Args:
        limit: bytes that all of them together may take in memory; default a quarter of what is available.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = memory_limit() if limit is None else limit
        self._columns: dict[str, _Column] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for column in self._columns.values():
            column.close()

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Adds one batch to the tensors of these names.

        Args:
            parts: the rows of each tensor. [n, ...] each

        Raises:
            RuntimeError: the rows do not fit to those before, in torch's words.
            ValueError: the temporary folder cannot take them.
        """
        with self._writing():
            for name, part in parts.items():
                self._columns.setdefault(name, _Column()).add(part.detach())
            columns = self._columns.values()
            # The largest first: labels stay in memory, where images do not fit.
            while sum(column.bytes_in_memory for column in columns) > self._limit:
                max(columns, key=lambda column: column.bytes_in_memory).move_to_file()

    def lengths(self) -> dict[str, int]:
        """The rows that each tensor has so far."""
        return {name: column.num_rows for name, column in self._columns.items()}

    def flush(self) -> None:
        """Writes what is still on its way to the files, before `rows` reads them.

        Raises:
            ValueError: the temporary folder cannot take them.
        """
        with self._writing():
            for column in self._columns.values():
                column.flush()

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """The rows of a tensor, or as many of them as it has. [n, ...]

        Args:
            name: which tensor.
            first, last: the rows, without `last`.
        """
        return self._columns[name].rows(first, last)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, whole; what is in files is mapped, and read from there when it is used. [N, ...] each

        Raises:
            ValueError: the temporary folder cannot take them.
        """
        with self._writing():
            return {name: column.tensor() for name, column in self._columns.items()}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Puts what the system says of files into one sentence."""
        try:
            yield
        except OSError as error:
            needed = sum(column.num_bytes for column in self._columns.values())
            raise ValueError(
                f"`data` take more than the {_size(self._limit)} that are theirs in memory, and the temporary folder "
                f"{_folder()} cannot take them ({error.strerror or error}) after {_size(needed)} so far; set the "
                "environment variable TMPDIR to a folder with more room."
            ) from error


class _Column:
    """One of the tensors: its rows in an array that doubles when it is full, or as bytes in a file.

    A list of batches would do, but small ones that stay, between large ones that go to a file, leave holes that the
    allocator cannot use again: memory would grow with the data.
    """

    def __init__(self) -> None:
        self._held: Tensor | None = None
        self._file: IO[bytes] | None = None
        self._like: Tensor | None = None  # no rows, in the shape, the type and on the device of all
        self._num_batches = 0
        self.num_rows = 0

    @property
    def num_bytes(self) -> int:
        return 0 if self._like is None else self.num_rows * _row_bytes(self._like)

    @property
    def bytes_in_memory(self) -> int:
        """What moving to a file would free; batches on a device are not in memory."""
        is_here = self._file is None and self._like is not None and self._like.device.type == "cpu"
        return self.num_bytes if is_here else 0

    def add(self, part: Tensor) -> None:
        if self._like is None:
            if part.ndim == 0:
                raise RuntimeError("a batch is a single number, without a dimension of examples")
            self._like = part[:0].clone()
        self._check(part)
        self._num_batches += 1
        # Types widen as torch.cat widens them.
        if part.dtype != self._like.dtype:
            self._widen(torch.promote_types(self._like.dtype, part.dtype))
        if self._file is None:
            self._hold(part)
        else:
            _write(self._file, part.to(self._like.dtype))
        self.num_rows += len(part)

    def move_to_file(self) -> None:
        # Without a name from the beginning, or deleted when it is closed, where files in use must have one.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (it is closed with the spool)
        if self._held is not None:
            _write(self._file, self._held[: self.num_rows])
            self._held = None

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def rows(self, first: int, last: int) -> Tensor:
        if self._file is None:
            return self.tensor()[first:last]
        like, last = self._known(), min(last, self.num_rows)
        # Read and not mapped: what is mapped counts as this process's memory until others want it.
        self._file.seek(first * _row_bytes(like))
        raw = torch.empty(max(0, last - first) * _row_bytes(like), dtype=torch.uint8)
        cast(io.BufferedRandom, self._file).readinto(raw.numpy().data)
        return raw.view(like.dtype).reshape(-1, *like.shape[1:])

    def tensor(self) -> Tensor:
        like = self._known()
        if self._file is None:
            return like if self._held is None else self._held[: self.num_rows]
        return torch.frombuffer(mapped(self._file), dtype=like.dtype).reshape(-1, *like.shape[1:])

    def close(self) -> None:
        self._held = None
        if self._file is not None:
            # What a full disk did not take is still in the buffer, and nobody wants it any more.
            with contextlib.suppress(OSError):
                self._file.close()

    def _widen(self, dtype: torch.dtype) -> None:
        """Goes on in another type, in which a file is written again."""
        like = self._known()
        if dtype != like.dtype and self._file is not None:
            narrow, old = self.tensor(), self._file
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            old.close()  # what is mapped stays
            for first, last in chunks(narrow):
                _write(self._file, narrow[first:last].to(dtype))
        self._held = None if self._held is None else self._held.to(dtype)
        self._like = like.to(dtype)

    def _hold(self, part: Tensor) -> None:
        first, last = self.num_rows, self.num_rows + len(part)
        if self._held is None or last > len(self._held):
            # Pages of the second half that are never written take no memory.
            larger = self._known().new_empty(max(last, 2 * first), *part.shape[1:])
            if self._held is not None:
                larger[:first] = self._held[:first]
            self._held = larger
        self._held[first:last] = part

    def _check(self, part: Tensor) -> None:
        like = self._known()
        if part.device != like.device:
            raise RuntimeError(f"some are on {like.device}, and others on {part.device}")
        if part.ndim == 0 or part.shape[1:] != like.shape[1:]:
            # torch says what is wrong, with the number of the batch; one row of each is enough.
            row = torch.empty(1, *like.shape[1:])
            torch.cat([row] * self._num_batches + [torch.empty(part.shape if part.ndim == 0 else (1, *part.shape[1:]))])

    def _known(self) -> Tensor:
        assert self._like is not None, "no batch was added"
        return self._like


def mapped(file: IO[bytes]) -> mmap.mmap:
    """The bytes of a file as memory that is read when it is used; whoever writes there changes a copy of the page."""
    file.flush()
    if sys.platform == "win32":
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    # Without a reservation: Linux refuses one for copies of more pages than it has memory.
    flags = mmap.MAP_PRIVATE | _NO_RESERVE
    return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _write(file: IO[bytes], rows: Tensor) -> None:
    plain = rows.resolve_conj().resolve_neg().contiguous()
    # As one row of bytes; a stride of 0, which NumPy gives an axis of one, cannot be viewed as another type.
    file.write(plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy().data)


def _row_bytes(like: Tensor) -> int:
    return like.shape[1:].numel() * like.element_size()


def _folder() -> str:
    try:
        return repr(tempfile.gettempdir())
    except OSError:  # none of those that are tried can be written to
        return "(there is none)"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.3g} GiB"
