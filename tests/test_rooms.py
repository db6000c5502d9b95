"""The map of the code: who may import whom, read from the imports themselves."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import basinvol

PACKAGE = Path(basinvol.__file__).parent

# From the ground up: a room imports from rooms before it, and from itself. Files of one line share a floor.
FLOORS = (
    ("inputs", "figures", "progress"),
    ("storage",),
    ("model", "search", "executors"),
    ("backends",),
    ("rays",),
    ("trust",),
    ("estimators",),
    ("probing", "resuming"),
    ("estimate", "profile", "ground_truth"),
    ("calibration", "comparing", "learning", "callbacks"),
    ("experiments", "saved"),
    ("cli",),
)
EXPERIMENT_FLOORS = (("describe",), ("data", "records"), ("run", "report"))
OPTIONAL_OR_LAZY = {
    "backends/__init__.py",  # a backend that is not used is not loaded
    "backends/triton/backend.py",  # basin_triton needs triton
    "backends/unit_vector.py",  # the same
    "executors/specification.py",  # Ray and submitit
    "cli",  # the help of a command needs no torch
    "trust/volume_estimate.py",  # matplotlib
    "profile.py",
    "learning.py",
}


@functools.cache
def modules() -> dict[str, Path]:
    """Dotted name of every module below the package, and its file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def tree(path: Path) -> ast.Module:
    """What a file says, read once."""
    return ast.parse(path.read_text())


def imports(name: str, path: Path) -> Iterator[tuple[str, ast.ImportFrom]]:
    """Modules of ours that a file imports, wherever in the file, and the statement."""
    known = modules()
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [part for part in here if part]
            base = base[: len(base) - (node.level - 1)] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                longer = ".".join([*base, alias.name])
                yield (longer if longer in known else ".".join(base)), node


def arrows(depth: int = 1, below: str = "") -> set[tuple[str, str, str]]:
    """(room, room that it imports, file), for the rooms right below `below`."""
    found = set()
    prefix = f"{below}." if below else ""
    for name, path in modules().items():
        for target, _ in imports(name, path):
            if name.startswith(prefix) and target.startswith(prefix) and name and target:
                source, goal = (part.removeprefix(prefix).split(".")[0] for part in (name, target))
                found.add((source, goal, str(path.relative_to(PACKAGE))))
    return {arrow for arrow in found if arrow[0] != arrow[1]}


def check(floors: tuple[tuple[str, ...], ...], found: set[tuple[str, str, str]]) -> None:
    floor_of = {room: floor for floor, rooms in enumerate(floors) for room in rooms}
    unknown = {room for arrow in found for room in arrow[:2]} - set(floor_of)
    assert not unknown, f"rooms without a floor: {unknown}"
    upward = [arrow for arrow in sorted(found) if floor_of[arrow[1]] >= floor_of[arrow[0]]]
    assert not upward


def test_rooms_import_downward_only() -> None:
    found = {arrow for arrow in arrows() if "__init__" not in arrow[:2] and "__main__" not in arrow[0]}
    assert len(found) > 50  # or nothing was read
    check(FLOORS, found)


def test_rooms_of_experiments_import_downward_only() -> None:
    check(EXPERIMENT_FLOORS, arrows(below="experiments"))


def test_no_two_files_import_each_other() -> None:
    graph = {name: {target for target, _ in imports(name, path) if target} - {name} for name, path in modules().items()}
    finished: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle of imports: {' -> '.join((*way, name))}"
        if name not in finished:
            for target in sorted(graph.get(name, ())):
                visit(target, (*way, name))
            finished.add(name)

    for name in graph:
        if name:  # the package itself names everything for type checkers
            visit(name, ())


def test_imports_inside_functions_are_for_optional_packages_and_lazy_backends() -> None:
    inside = []
    for name, path in modules().items():
        file = str(path.relative_to(PACKAGE))
        top = set()
        for statement in tree(path).body:
            blocks = [statement] if not isinstance(statement, ast.If) else statement.body
            top |= {node.lineno for node in blocks if isinstance(node, ast.ImportFrom)}
        lazy = {file, file.split("/")[0]} & OPTIONAL_OR_LAZY
        inside += [f"{file}:{node.lineno}" for _, node in imports(name, path) if node.lineno not in top and not lazy]
    assert not inside
