"""The command line: estimate, profile and info; the modules beside this one add the other commands."""

from __future__ import annotations

import argparse
import errno
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .. import __version__
from ..executors import TaskFailed
from .checks import add_commands, add_estimate_options, estimate_settings
from .exits import BAD_INPUT, FAILED, FULL_DISK, INTERRUPTED, NOTHING_KEPT
from .experiments import add_execution, add_executor, add_experiment_commands
from .loading import load_user_task

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

    A command that fails prints one sentence on standard error: 2 is for bad input, 3 for a disk that is full or cannot
    be written, 130 for an interrupt (Ctrl-C), and 1 for a worker that failed.

    Args:
        arguments: the words after `basinvol`; None for those of this process.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except ModuleNotFoundError as error:
        print(f"basinvol: {error.name} is not installed: pip install 'basinvol[data]'.", file=sys.stderr)
        return BAD_INPUT
    except ValueError as error:
        message = " ".join(str(error).split())
        print(f"basinvol: {message}", file=sys.stderr)
        return BAD_INPUT
    except RuntimeError as error:
        if not isinstance(error, TaskFailed) and not isinstance(error.__cause__, TaskFailed):
            raise
        print(f"basinvol: {error} {options.kept[0].upper()}{options.kept[1:]}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"basinvol: interrupted; {options.kept}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in (*_FULL, *_NOT_WRITTEN):
            raise
        what, remedy = "the disk is full", "free some space"
        if error.errno in _NOT_WRITTEN:
            what, remedy = "the storage cannot be written", "make it writable"
        print(
            f"basinvol: {what} ({error.strerror}); what was measured is kept: {remedy} and repeat the command.",
            file=sys.stderr,
        )
        return FULL_DISK
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="basinvol", description="How large is the basin that a network fell into?")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command", parser_class=_Parser)

    estimate = commands.add_parser("estimate", help="measure the basin volume of your own model")
    estimate.add_argument("user_task", metavar="module:make_task", help="make_task() returns (model, loss_fn, data)")
    estimate.add_argument("--cutoff", type=float, default=0.1, help="loss that bounds the basin (0.1)")
    estimate.add_argument("--directions", type=int, default=500, help="number of random directions (500)")
    estimate.add_argument("--seed", type=int, default=0, help="seed of the directions (0)")
    estimate.add_argument("--scaling", default="filter", help="units of the directions: filter or none (filter)")
    estimate.add_argument(
        "--search", default="interpolate", help="how a radius is searched: interpolate, bisect or grid (interpolate)"
    )
    estimate.add_argument("--method", default="star", help="estimator: star, preconditioned, annealed, ... (star)")
    estimate.add_argument("--rtol", type=float, default=1e-4, help="relative width of the brackets (1e-4)")
    estimate.add_argument(
        "--radius-max", type=float, help="radius at which a ray that is still inside counts as censored"
    )
    estimate.add_argument(
        "--on-censored", default="raise", help="what to do with censored rays: raise, drop or bound (raise)"
    )
    estimate.add_argument("--device", help="where to evaluate, for example cuda; default: where the model is")
    estimate.add_argument(
        "--precision", help="precision of matrix products: fp32, fp16x3, tf32x3 or tf32; default: as exact as float32"
    )
    estimate.add_argument(
        "--compile", action="store_true", help="evaluate the model through torch.compile, on the backend torch"
    )
    add_estimate_options(estimate)
    add_executor(estimate)
    add_execution(estimate)
    estimate.add_argument("--json", action="store_true", help="print one JSON object")
    estimate.set_defaults(command=_estimate, kept=NOTHING_KEPT)
    add_commands(commands)

    profile = commands.add_parser(
        "profile", help="show the loss against the radius along random directions, to choose a cutoff"
    )
    profile.add_argument("user_task", metavar="module:make_task", help="make_task() returns (model, loss_fn, data)")
    profile.add_argument("--directions", type=int, default=32, help="number of random directions (32)")
    profile.add_argument("--radii", type=int, default=25, help="number of radii (25)")
    profile.add_argument("--seed", type=int, default=0, help="seed of the directions (0)")
    profile.add_argument("--scaling", default="filter", help="units of the directions: filter or none (filter)")
    profile.add_argument("--backend", default="auto", help="what evaluates the loss: auto, native or reference (auto)")
    profile.add_argument(
        "--threads", type=int, help="number of threads; default: as many as torch uses; changes no result"
    )
    profile.add_argument("--figure", type=Path, help="file to draw the profile to, ending in .svg, .pdf or .png")
    profile.add_argument("--json", action="store_true", help="print one JSON object")
    profile.set_defaults(command=_profile, kept=NOTHING_KEPT)

    add_experiment_commands(commands)

    info = commands.add_parser("info", help="show versions, backends and what each can do here")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(command=_info, kept=NOTHING_KEPT)
    return parser


def _estimate(options: argparse.Namespace) -> None:
    from ..estimate import estimate_volume

    model, loss_fn, data = load_user_task(options.user_task)
    estimate = estimate_volume(
        model,
        loss_fn,
        data,
        cutoff=options.cutoff,
        num_directions=options.directions,
        seed=options.seed,
        scaling=options.scaling,
        search=options.search,
        method=options.method,
        rtol=options.rtol,
        radius_max=options.radius_max,
        resolve=options.resolve,
        on_censored=options.on_censored,
        backend=options.backend,
        device=options.device,
        num_threads=options.threads,
        precision=options.precision,
        compile=options.compile,
        progress=True,
        executor=options.executor,
        **estimate_settings(options),
    )
    print(json.dumps(estimate.to_dict(), indent=2) if options.json else estimate)


def _profile(options: argparse.Namespace) -> None:
    from ..profile import loss_profile

    kinds = (".svg", ".pdf", ".png")
    if options.figure is not None and options.figure.suffix not in kinds:
        raise ValueError(f"`figure` must end in {', '.join(kinds)}, got {str(options.figure)!r}.")
    model, loss_fn, data = load_user_task(options.user_task)
    profile = loss_profile(
        model,
        loss_fn,
        data,
        num_directions=options.directions,
        num_radii=options.radii,
        seed=options.seed,
        scaling=options.scaling,
        backend=options.backend,
        num_threads=options.threads,
    )
    print(json.dumps(profile.to_dict(), indent=2) if options.json else profile)
    if options.figure is not None:
        profile.plot().savefig(options.figure, dpi=200)


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
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            for key, state in value.items():
                print(f"{'backend ' + key:<18} {state}")
        else:
            print(f"{name:<18} {value}")
