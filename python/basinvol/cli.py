"""The command line: estimate, doctor, calibrate, reproduce, report, info."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .cli_checks import add_commands, add_estimate_options, estimate_settings

BAD_INPUT = 2


class _Parser(argparse.ArgumentParser):
    """One sentence and exit code 2, without the usage lines."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 2 with one sentence on standard error for bad input."""
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
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="basinvol", description="How large is the basin a network fell into?")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command", parser_class=_Parser)

    estimate = commands.add_parser("estimate", help="the basin volume of your own model")
    estimate.add_argument("task", metavar="module:make_task", help="make_task() returns (model, loss_fn, data)")
    estimate.add_argument("--cutoff", type=float, default=0.1, help="loss that bounds the basin (0.1)")
    estimate.add_argument("--directions", type=int, default=500, help="number of random directions (500)")
    estimate.add_argument("--seed", type=int, default=0, help="of the directions (0)")
    estimate.add_argument("--scaling", default="filter", help="filter or none (filter)")
    estimate.add_argument("--search", default="interpolate", help="interpolate, bisect or grid (interpolate)")
    estimate.add_argument("--method", default="star", help="star, preconditioned, annealed, ... (star)")
    estimate.add_argument("--rtol", type=float, default=1e-4, help="relative width of the brackets (1e-4)")
    estimate.add_argument("--radius-max", type=float, help="rays still inside there are censored")
    estimate.add_argument("--on-censored", default="raise", help="raise, drop or bound (raise)")
    estimate.add_argument("--device", help="where the reference backend evaluates; default the model's")
    add_estimate_options(estimate)
    _add_execution(estimate)
    estimate.add_argument("--json", action="store_true", help="print one JSON object")
    estimate.set_defaults(command=_estimate)
    add_commands(commands)

    reproduce = commands.add_parser("reproduce", help="one of the paper's experiments, from data to report")
    reproduce.add_argument("name", help="for example mnist-data-scaling")
    reproduce.add_argument("--preset", default="small", help="smoke, small or paper, where there is one (small)")
    reproduce.add_argument("--out", type=Path, help="run directory; default runs/NAME-PRESET")
    reproduce.add_argument("--seeds", type=_integers, help="model seeds, for example 0,1,2")
    reproduce.add_argument("--directions", type=int, help="number of random directions")
    reproduce.add_argument("--method", help="star, or paper: the published grid, rounding and generators (star)")
    reproduce.add_argument("--cutoffs", type=_floats, help="for example 0.05,0.1")
    _add_execution(reproduce)
    reproduce.add_argument("--json", action="store_true", help="print volumes.csv as JSON instead of the table")
    reproduce.set_defaults(command=_reproduce)

    report = commands.add_parser("report", help="figures and report.html again, from the records of a run")
    report.add_argument("out", type=Path, help="run directory")
    report.add_argument("--json", action="store_true", help="print volumes.csv as JSON instead of the table")
    report.set_defaults(command=_report)

    info = commands.add_parser("info", help="versions, backends and what each can do here")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(command=_info)
    return parser


def _add_execution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", default="auto", help="auto, native or reference (auto)")
    parser.add_argument("--resolve", default="all", help="all radii, or decisive: only those that can matter (all)")
    parser.add_argument("--threads", type=int, help="default torch's number; changes no result")


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _floats(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _estimate(options: argparse.Namespace) -> None:
    from .estimate import estimate_volume

    model, loss_fn, data = load_task(options.task)
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
        progress=True,
        **estimate_settings(options),
    )
    print(json.dumps(estimate.to_dict(), indent=2) if options.json else estimate)


def load_task(name: str) -> tuple[Any, Any, Any]:
    """The (model, loss_fn, data) of module:make_task."""
    module_name, _, function = name.partition(":")
    if not module_name or not function:
        raise ValueError(f"the task must be module:make_task, got {name!r}.")
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        make_task = getattr(importlib.import_module(module_name), function)
    except ModuleNotFoundError as error:
        raise ValueError(f"the task {name!r} can not be imported: {error}.") from error
    except AttributeError as error:
        raise ValueError(f"the task's module {module_name!r} has no function {function!r}.") from error
    task = make_task()
    if not isinstance(task, tuple) or len(task) != 3:
        raise ValueError(f"{name} must return (model, loss_fn, data), got a {type(task).__name__}.")
    return task


def _reproduce(options: argparse.Namespace) -> None:
    from .experiments.description import describe

    experiment = describe(options.name, options.preset)
    changes = {
        field: value
        for field, value in (
            ("seeds", options.seeds),
            ("num_directions", options.directions),
            ("cutoffs", options.cutoffs),
            ("method", options.method),
        )
        if value is not None
    }
    experiment = dataclasses.replace(experiment, **changes)
    out = options.out or Path("runs") / f"{options.name}-{options.preset}"

    from .experiments.sweep import Sweep

    Sweep(experiment, out, options.backend, options.resolve, options.threads, progress=True).run()
    _show(out, options.json)


def _report(options: argparse.Namespace) -> None:
    _show(options.out, options.json)


def _show(out: Path, as_json: bool) -> None:
    from .experiments.report import read_volumes, text_table, write_report

    page = write_report(out)
    volumes = read_volumes(out)
    if as_json:
        print(volumes.to_json(orient="records", indent=2))
    else:
        print(text_table(volumes))
        print(f"report: {page}")


def _info(options: argparse.Namespace) -> None:
    import torch

    from . import _native
    from .backends import backends

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
        "backends": {
            name: backend.unusable(torch.device("cpu")) or "usable on the cpu" for name, backend in backends().items()
        },
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
