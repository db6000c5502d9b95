"""The command completion, which prints what a shell needs to complete commands, options and their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..inputs.optional import optional
from .exits import NOTHING_KEPT

SHELLS = ("bash", "zsh", "tcsh")

# Values that a shell offers. They are not the parser's own `choices`: the library refuses what it does not know, and
# says why.
_VALUES = {
    "--backend": ("auto", "native", "triton", "cuda", "torch", "reference"),
    "--check": ("star", "gaussian", "preconditioned", "annealed", "splitting", "direct", "hit-and-run"),
    "--measure": ("lebesgue", "gaussian", "ball"),
    "--method": ("star", "paper", "gaussian", "preconditioned", "annealed", "splitting", "direct", "hit-and-run"),
    "--on-censored": ("raise", "drop", "bound"),
    "--precision": ("fp32", "fp16x3", "tf32x3", "tf32"),
    "--preset": ("smoke", "small", "paper"),
    "--resolve": ("all", "decisive"),
    "--scaling": ("filter", "none"),
    "--search": ("interpolate", "bisect", "grid"),
}
_FILES = ("--save", "--resume", "--figure", "--out", "file", "minima", "out")


def add_command(commands: Any, parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Adds `completion` to the command line.

    Args:
        commands: the other commands.
        parser: makes the whole parser, which is described to the shell.
    """
    completion = commands.add_parser("completion", help="print a script with which your shell completes commands")
    completion.add_argument("shell", help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}")
    completion.set_defaults(command=_print_script, kept=NOTHING_KEPT, parser=parser)


def _print_script(options: argparse.Namespace) -> None:
    if options.shell not in SHELLS:
        raise ValueError(f"`shell` must be one of {', '.join(SHELLS)}, got {options.shell!r}.")
    shtab = optional("shtab", "cli", "completion")
    parser = options.parser()
    _describe(parser, shtab)
    print(shtab.complete(parser, options.shell))


def _describe(parser: argparse.ArgumentParser, shtab: Any) -> None:
    """Adds to every option of every command the values that a shell offers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                _describe(part, shtab)
            continue
        name = next((option for option in (*action.option_strings, action.dest) if option in (*_VALUES, *_FILES)), None)
        if name in _VALUES:
            action.choices = _VALUES[name]
        elif name in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
