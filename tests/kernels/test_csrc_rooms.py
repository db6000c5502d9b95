"""A folder of csrc says what a file in it may include, and a constant of a header has one value."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
TOP = ""  # scalar code for host and device, and what crosses the boundary
MAY_INCLUDE = {
    TOP: {TOP},
    "cpu": {TOP, "cpu"},
    "cuda": {TOP, "cuda"},
    "bindings": {TOP, "cpu", "cuda", "bindings"},
}


def sources() -> list[str]:
    return sorted(str(path.relative_to(CSRC)) for path in CSRC.rglob("*") if path.suffix in {".h", ".cpp", ".cu"})


def room_of(name: str) -> str:
    return name.rpartition("/")[0]


def includes_of(name: str) -> list[tuple[str, str]]:
    """The bracket or quote, and the name, of each file that is included."""
    return re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', (CSRC / name).read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", sources())
def test_a_file_includes_only_what_its_room_may(name: str) -> None:
    room = room_of(name)
    assert room in MAY_INCLUDE, f"{name} is in a folder that has no rule"
    for mark, included in includes_of(name):
        if mark == '"':
            # From csrc, never beside the file: `#include "rows.h"` would mean another file in each room.
            assert (CSRC / included).is_file(), f"{name} includes {included}, which csrc does not have"
            assert room_of(included) in MAY_INCLUDE[room], f"{name} includes {included}"
        elif included.startswith(("pybind11/", "Python.h", "numpy/")):
            assert room == "bindings", f"{name} includes {included}"
        elif included.startswith("cuda"):
            assert room == "cuda", f"{name} includes {included}"


def test_there_is_something_in_every_room() -> None:
    found = [(name, included) for name in sources() for mark, included in includes_of(name) if mark == '"']
    assert {room_of(name) for name, _ in found} == set(MAY_INCLUDE)
    assert {"cpu/engine.h", "cuda/engine.h"} <= {included for name, included in found if room_of(name) == "bindings"}


def test_a_constant_of_a_header_has_its_name_for_itself() -> None:
    # The rows of a block were 96 on the CPU and 128 on the device under one name, and a header saw both.
    files_of = defaultdict(set)
    for name in sources():
        for constant in re.findall(r"^constexpr [^(;{]*?\b(k[A-Z]\w*) =", (CSRC / name).read_text(), re.MULTILINE):
            files_of[constant].add(name)
    assert len(files_of) > 10
    for constant, files in files_of.items():
        if any(name.endswith(".h") for name in files):
            assert len(files) == 1, f"{constant} is defined in {sorted(files)}"
