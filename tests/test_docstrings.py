"""Every public name says what it returns or does, and every function of many arguments says what each of them is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import basinvol

PACKAGE = Path(basinvol.__file__).parent

# Rooms and single files that are held to the rules; the experiments and the command line are not yet.
ROOMS = (
    "inputs",
    "figures",
    "progress.py",
    "storage",
    "model",
    "search",
    "backends",
    "rays",
    "trust",
    "estimators",
    "probing",
    "experiments",
    "cli",
    "__init__.py",
    "resuming.py",
    "estimate.py",
    "saved.py",
    "callbacks",
    "profile.py",
    "ground_truth",
    "calibration.py",
    "comparing.py",
    "executors",
)
FEWEST_WORDS = 4
FEWEST_ARGUMENTS = 3  # besides self or cls, from which on a docstring says what each is

# A first line is a sentence, or ends with the shape or the type of what is returned.
_END = re.compile(r"(\.|(\]|\b(float32|float64|int8|int64|bool))( each)?)$")


@dataclass(frozen=True)
class Public:
    """A public module, class or function: where it is, what it is called, and what is known about it."""

    place: str
    name: str
    docstring: str | None
    arguments: tuple[str, ...] = ()
    is_of_protocol: bool = False

    def __str__(self) -> str:
        return f"{self.place} {self.name}"

    @property
    def refers(self) -> bool:
        """The docstring only names the member that has the full one."""
        return (self.docstring or "").startswith("See `")


def files() -> Iterator[Path]:
    for room in ROOMS:
        path = PACKAGE / room
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def public(path: Path) -> Iterator[Public]:
    """The module, and its public classes, functions and methods."""
    tree = ast.parse(path.read_text())
    file = path.relative_to(PACKAGE.parent)
    yield Public(f"{file}:1", "module", ast.get_docstring(tree))
    yield from _members(tree, f"{file}", None)


def _members(owner: ast.Module | ast.ClassDef, file: str, of_class: ast.ClassDef | None) -> Iterator[Public]:
    prefix = f"{of_class.name}." if of_class else ""
    is_protocol = of_class is not None and any(ast.unparse(base).endswith("Protocol") for base in of_class.bases)
    for node in owner.body:
        place = f"{file}:{node.lineno}"
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield Public(place, prefix + node.name, ast.get_docstring(node), _arguments_of_class(node))
            yield from _members(node, file, node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _is_hidden(node):
            yield Public(place, prefix + node.name, ast.get_docstring(node), _arguments(node), is_protocol)


def _is_hidden(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is private, or one signature of several whose implementation has the docstring."""
    return node.name.startswith("_") or any(ast.unparse(part) == "overload" for part in node.decorator_list)


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return tuple(name for name in names if name not in ("self", "cls"))


def _arguments_of_class(node: ast.ClassDef) -> tuple[str, ...]:
    """Those of __init__, which the docstring of the class explains."""
    inits = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    return _arguments(inits[0]) if inits else ()


def everything() -> list[Public]:
    return [part for path in files() for part in public(path)]


def refuse(found: list[Public], what: str) -> None:
    if found:
        pytest.fail(f"{what}:" + "".join(f"\n  {part}" for part in found), pytrace=False)


def test_every_public_name_has_a_docstring() -> None:
    parts = everything()
    assert len(parts) > 300  # or nothing was read
    bare = [part for part in parts if not part.docstring and not part.is_of_protocol]
    refuse(bare, "public names without a docstring")


def test_first_lines_are_sentences_or_end_with_a_shape() -> None:
    found = []
    for part in everything():
        if not part.docstring or part.refers:
            continue
        first = part.docstring.splitlines()[0].rstrip()
        words = re.findall(r"[^\W\d_][\w'.-]*", re.sub(r"\[[^]]*\]$", "", first))
        if not _END.search(first) or len(words) < FEWEST_WORDS:
            found.append(part)
    refuse(found, f"first lines that do not end with a period, [shape] or type, or have under {FEWEST_WORDS} words")


def test_functions_of_many_arguments_say_what_each_is() -> None:
    found = [
        part
        for part in everything()
        if len(part.arguments) >= FEWEST_ARGUMENTS
        and "Args:" not in (part.docstring or "")
        and not part.is_of_protocol
        and not part.refers
    ]
    refuse(found, f"functions of {FEWEST_ARGUMENTS} or more arguments without an Args section")
