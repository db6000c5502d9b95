"""The command line: how a command ends, and the command info; the modules beside this one add the other commands."""

from __future__ import annotations

import argparse
import errno
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__
from ..executors import TaskFailed
from . import checks, completion, estimating, experiments
from .exits import BAD_INPUT, ENDED_EARLY, FAILED, FULL_DISK, INTERRUPTED, NOTHING_KEPT
from .measuring import add_json, as_json

if TYPE_CHECKING:
    from ..backends import Backend


_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITTEN = (errno.EROFS, errno.ESTALE, errno.EIO)


class _Parser(argparse.ArgumentParser):
    """Answers a bad option with one sentence and exit code 2, without the usage lines."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    A command that fails prints one sentence on standard error, and where the user's own task was refused, a second
    line with the command that looks at it more closely. The codes are in `exits.py`, and in docs/cli.md.

    Args:
        arguments: the words after `basinvol`; None for those of this process.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int | None] = options.command
    try:
        return command(options) or 0
    except ModuleNotFoundError as error:
        return _end(BAD_INPUT, _what_to_install(error))
    except ValueError as error:
        return _end(BAD_INPUT, str(error), _advice(options))
    except RuntimeError as error:
        if not isinstance(error, TaskFailed) and not isinstance(error.__cause__, TaskFailed):
            if type(error).__name__ != "RaySearchFailed":  # by name, as it is defined where torch is
                raise
            return _end(ENDED_EARLY, str(error))
        return _end(FAILED, f"{error} {options.kept[0].upper()}{options.kept[1:]}")
    except KeyboardInterrupt:
        return _end(INTERRUPTED, f"interrupted; {options.kept}")
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in (*_FULL, *_NOT_WRITTEN):
            raise
        what, remedy = "the disk is full", "free some space"
        if error.errno in _NOT_WRITTEN:
            what, remedy = "the storage cannot be written", "make it writable"
        return _end(
            FULL_DISK, f"{what} ({error.strerror}); what was measured is kept: {remedy} and repeat the command."
        )
    except Exception as error:
        # By name, because the help of a command needs no torch, and these are defined where torch is.
        if type(error).__name__ not in ("BudgetSpent", "RaySearchFailed"):
            raise
        return _end(ENDED_EARLY, str(error))


def _end(code: int, sentence: str, advice: str = "") -> int:
    print(f"basinvol: {' '.join(sentence.split())}{advice}", file=sys.stderr)
    return code


def _advice(options: argparse.Namespace) -> str:
    """The command that looks at the user's task, on a line of its own, where a task was loaded and then refused."""
    task = getattr(options, "loaded_task", None)
    if task is None or options.command is checks.doctor:
        return ""
    cutoff, scaling = getattr(options, "cutoff", None), getattr(options, "scaling", "filter")
    smallest = min(cutoff) if isinstance(cutoff, tuple) else cutoff
    words = ["basinvol doctor", task]
    words += [] if smallest is None else [f"--cutoff {smallest:g}"]
    words += [] if scaling == "filter" else [f"--scaling {scaling}"]
    return f"\nbasinvol: what stands in the way is found by: {' '.join(words)}"


def _what_to_install(error: ModuleNotFoundError) -> str:
    if str(error).startswith("No module named"):
        return f"{error.name} is not installed: pip install 'basinvol[data]'."
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="basinvol", description="How large is the basin that a network fell into?")
    parser.add_argument("--version", action="version", version=__version__)
    commands: Any = parser.add_subparsers(required=True, metavar="command", parser_class=_Parser)
    estimating.add_commands(commands)
    checks.add_commands(commands)
    experiments.add_experiment_commands(commands)
    info = commands.add_parser("info", help="show versions, backends and what each can do here")
    add_json(info)
    info.set_defaults(command=_info, kept=NOTHING_KEPT)
    completion.add_command(commands, _parser)
    return parser


def _where(backend: Backend) -> str:
    """The devices of this machine on which the backend is usable, or the reason why there are none."""
    import torch

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    refusals = {device: backend.unusable(torch.device(device)) for device in devices}
    usable = [device for device, refusal in refusals.items() if refusal is None]
    return f"usable on {' and '.join(usable)}" if usable else str(refusals[devices[-1]])


def _info(options: argparse.Namespace) -> None:
    import torch

    from .. import _native
    from ..backends import backends

    build = _native.build_info()
    cuda = f"built with CUDA {build['cuda']}" if build["cuda"] else "built without CUDA"
    devices = ", ".join(build["cuda_devices"]) or "no device"
    found = {
        "version": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "instruction sets": ", ".join(_native.instruction_sets()) + " (the first is used)",
        "extension": f"{build['compiler']}, {cuda}, {devices}",
        "backends": {name: _where(backend) for name, backend in backends().items()},
    }
    if options.json:
        print(as_json(found))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            for key, state in value.items():
                print(f"{'backend ' + key:<18} {state}")
        else:
            print(f"{name:<18} {value}")
