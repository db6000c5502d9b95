"""The options of every command that measures a model of the user: all arguments of `estimate_volume`."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .loading import load_user_task

if TYPE_CHECKING:
    from ..trust.volume_estimate import VolumeEstimate

Number = TypeVar("Number", int, float)
# Options whose names are those of the arguments.
_SAME_NAMES = (
    *("seed", "scaling", "search", "method", "rtol", "radius_max", "max_steps", "resolve", "on_censored", "backend"),
    *("device", "batch_size", "precision", "compile", "include", "exclude", "trainable_only", "measure", "sigma"),
    *("radius", "check", "probe", "probe_rays", "budget_seconds"),
)
FIGURES = (".svg", ".pdf", ".png")


def numbers(kind: Callable[[str], Number]) -> Callable[[str], tuple[Number, ...]]:
    """A type of option: numbers of one kind with commas between them."""

    def parse(text: str) -> tuple[Number, ...]:
        return tuple(kind(part) for part in text.split(","))

    parse.__name__ = "list of numbers"  # argparse puts it into its message
    return parse


def add_user_task(parser: argparse.ArgumentParser) -> None:
    """Adds the name of the user's function."""
    parser.add_argument("user_task", metavar="module:make_task", help="make_task() returns (model, loss_fn, data)")


def add_json(parser: argparse.ArgumentParser, what: str = "one JSON object") -> None:
    """Adds the option to print for programs."""
    parser.add_argument("--json", action="store_true", help=f"print {what}")


def add_basics(parser: argparse.ArgumentParser, directions: int = 500) -> None:
    """Adds the directions, their seed and their units."""
    parser.add_argument(
        "--directions", type=int, default=directions, help=f"number of random directions ({directions})"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the directions and of chains (0)")
    parser.add_argument("--scaling", default="filter", help="units of the directions: filter or none (filter)")


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Adds the options of how radii are found."""
    parser.add_argument(
        "--backend",
        default="auto",
        help="what evaluates the loss: auto, native, triton, cuda, torch or reference (auto)",
    )
    parser.add_argument(
        "--resolve", default="all", help="which radii are solved: all, or decisive, those that can matter (all)"
    )
    parser.add_argument(
        "--threads", type=int, help="number of threads of each process; changes no result of the native backend"
    )


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says where the work is done."""
    parser.add_argument(
        "--executor",
        metavar="WHERE",
        help="where to compute: local:N (processes), ray or ray:ADDRESS (a cluster), slurm:PARTITION, or "
        "module:make_executor; default: here; changes no result",
    )


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Adds the settings that belong to one method."""
    parser.add_argument(
        "--method-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the method, for example num_chains=256; may be repeated",
    )


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Adds all arguments of `estimate_volume`."""
    parser.add_argument(
        "--cutoff", type=numbers(float), default=(0.1,), help="loss that bounds the basin; several as 0.05,0.1 (0.1)"
    )
    add_basics(parser)
    parser.add_argument(
        "--search", default="interpolate", help="how a radius is searched: interpolate, bisect or grid (interpolate)"
    )
    parser.add_argument("--method", default="star", help="estimator: star, preconditioned, annealed, ... (star)")
    add_method_options(parser)
    parser.add_argument("--rtol", type=float, default=1e-4, help="relative width of the brackets (1e-4)")
    parser.add_argument(
        "--radius-max", type=float, help="radius at which a ray that is still inside counts as censored"
    )
    parser.add_argument("--max-steps", type=int, default=100, help="most evaluations of one ray (100)")
    parser.add_argument(
        "--on-censored", default="raise", help="what to do with censored rays: raise, drop or bound (raise)"
    )
    parser.add_argument("--measure", default="lebesgue", help="what is measured: lebesgue, gaussian or ball (lebesgue)")
    parser.add_argument("--sigma", type=float, help="standard deviation of the Gaussian measure, in units of the scale")
    parser.add_argument("--radius", type=float, help="radius of the ball, in units of the scale")
    parser.add_argument(
        "--include", action="append", metavar="GLOB", help="perturb only the parameters of these names; may be repeated"
    )
    parser.add_argument(
        "--exclude", action="append", metavar="GLOB", help="do not perturb parameters of these names; may be repeated"
    )
    parser.add_argument("--trainable-only", action="store_true", help="do not perturb frozen parameters")
    parser.add_argument("--check", help="a second method, which must agree with the first")
    parser.add_argument(
        "--probe-rays", type=int, default=0, help="number of rays that are followed beyond their radius (0)"
    )
    parser.add_argument(
        "--probe",
        action=argparse.BooleanOptionalAction,
        help="look for unbounded and longer directions; default: before a number is called trustworthy, and where this "
        "is cheap",
    )
    parser.add_argument("--device", help="where to evaluate, for example cuda; default: where the model is")
    parser.add_argument("--batch-size", type=int, help="most examples of a forward pass in torch")
    parser.add_argument(
        "--precision", help="precision of matrix products: fp32, fp16x3, tf32x3 or tf32; default: as exact as float32"
    )
    parser.add_argument(
        "--compile", action="store_true", help="evaluate the model through torch.compile, on the backend torch"
    )
    add_execution(parser)
    add_executor(parser)
    parser.add_argument("--budget-seconds", type=float, help="end after so many seconds, with exit code 5")


def measure(options: argparse.Namespace, user_task: str, **settings: Any) -> list[VolumeEstimate]:
    """The estimates of a task of the user, one for each cutoff.

    Args:
        options: those of `add_measuring`.
        user_task: module:make_task.
        settings: further arguments.
    """
    from ..estimate import estimate_volume

    model, loss_fn, data = loaded(options, user_task)
    found: list[VolumeEstimate] = estimate_volume(
        model,
        loss_fn,
        data,
        cutoff=options.cutoff,
        num_directions=options.directions,
        num_threads=options.threads,
        method_options=method_options(options),
        progress=True,
        **{name: getattr(options, name) for name in _SAME_NAMES},
        **settings,
    )
    return found


def loaded(options: argparse.Namespace, user_task: str) -> tuple[Any, Any, Any]:
    """The user's (model, loss_fn, data); from now on a refusal is about them, and `doctor` may know more."""
    made = load_user_task(user_task)
    options.loaded_task = user_task
    return made


def method_options(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the method by name; values are Python's literals, and texts otherwise.

    Raises:
        ValueError: one of them is not NAME=VALUE.
    """
    found = {}
    for text in options.method_option:
        name, is_there, value = text.partition("=")
        if not is_there or not name.isidentifier():
            raise ValueError(f"`--method-option` must be NAME=VALUE, got {text!r}.")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def add_figure(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds a file to draw the result to."""
    parser.add_argument("--figure", type=Path, metavar="FILE", help=f"file to draw {what} to: .svg, .pdf or .png")


def check_figure(figure: Path | None) -> None:
    """Refuses a figure of an unknown kind before any work.

    Raises:
        ValueError: the file has another ending.
    """
    if figure is not None and figure.suffix not in FIGURES:
        raise ValueError(f"`figure` must end in {', '.join(FIGURES)}, got {str(figure)!r}.")


def check_folder(option: str, path: Path | None) -> None:
    """Refuses an output in a folder that does not exist before any work.

    Raises:
        ValueError: the folder does not exist.
    """
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"`{option}` is {path}, in a folder that does not exist; make {path.parent} first.")


def as_json(found: Any) -> str:
    """The text of a result for programs, in which nothing is NaN or infinite."""
    return json.dumps(found, indent=2, allow_nan=False)
