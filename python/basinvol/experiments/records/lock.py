"""The lock of a run directory: it names who holds it, and is taken over when its holder is gone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .storage import create, modified, write_atomically

BEAT = 10.0  # seconds between two signs of life of a holder
GONE = 6 * BEAT  # seconds without one after which a holder on another machine counts as gone


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host, process: machine and number of the process.
        started: when the process was started, in ticks of its machine, so that a number that is used again is not
            mistaken for it; empty where the system does not tell.
        since: when it took the lock, for people.
        token: a name that no other holder has.
    """

    host: str
    process: int
    started: str
    since: str
    token: str

    @classmethod
    def here(cls) -> Holder:
        """This process, with a new token."""
        process, now = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S %Z")
        return cls(socket.gethostname(), process, _started(process), now, uuid.uuid4().hex)

    @property
    def is_gone(self) -> bool | None:
        """Whether its process has ended; None on another machine, of which only signs of life tell."""
        if self.host != socket.gethostname():
            return None
        return _started(self.process) != self.started if self.started else not _is_alive(self.process)

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


@contextlib.contextmanager
def locked(path: Path, what: Path) -> Iterator[None]:
    """Holds the lock at `path` inside the `with`, and renews it meanwhile.

    The lock saves work and protects no number: whatever two holders write at once is the same, file by file.

    Args:
        path: of the lock.
        what: what it is for, in messages.

    Raises:
        ValueError: another process holds it, and is alive as far as can be known.
    """
    holder = Holder.here()
    content = json.dumps(asdict(holder)).encode()
    while not create(path, content):
        there = _holder(path)
        if there is None:  # released between two looks, or not readable
            _remove(path, None)
        elif _has_ended(path, there):
            _remove(path, there)
        else:
            raise ValueError(
                f"another process is at work in {what} ({there}); wait for it, or use another `out`. It is taken over "
                f"by itself when its holder has shown no sign of life for {GONE:.0f} seconds."
            )
    ended = threading.Event()
    beats = threading.Thread(target=_renew, args=(path, holder, content, ended), daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        _remove(path, holder)


def _has_ended(path: Path, there: Holder) -> bool:
    is_gone = there.is_gone
    if is_gone is not None:
        return is_gone
    # By the clock of the storage: those of two machines differ.
    probe = path.with_name(f".clock-{uuid.uuid4().hex}.tmp")
    try:
        write_atomically(probe, b"")
        return modified(probe) - modified(path) > GONE
    except FileNotFoundError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            probe.unlink()


def _holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _remove(path: Path, there: Holder | None) -> None:
    """Removes the lock unless it has another holder by now."""
    if _holder(path) == there:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _renew(path: Path, holder: Holder, content: bytes, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        if _holder(path) != holder:  # taken over by someone who thought this process gone
            return
        with contextlib.suppress(OSError):  # a disk that is full now may not be at the next beat
            write_atomically(path, content)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(process: int) -> str:
    """The start of a process in ticks since its machine's, with the name of that; empty where it cannot be known."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return ""
    return "" if stat[0] in "ZX" else f"{boot}-{stat[19]}"
