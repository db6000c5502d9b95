"""How much memory this machine has."""

from __future__ import annotations

import contextlib
import os

_FALLBACK = 4 * 2**30  # bytes that are assumed where the system does not say


def physical_memory() -> int:
    """The bytes of memory that this machine has."""
    return _pages("SC_PHYS_PAGES") or _FALLBACK


def available_memory() -> int:
    """The bytes of memory that programs can have now without pushing others out."""
    # Linux fills what is free with pages of files, which it gives back: "free" alone would be far too little.
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _pages("SC_AVPHYS_PAGES") or physical_memory() // 2


def _pages(name: str) -> int:
    """A number of pages in bytes; 0 where the system does not know it."""
    try:
        return max(0, os.sysconf(name) * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return 0
