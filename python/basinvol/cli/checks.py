"""The commands calibrate and doctor, and the options of `estimate` that say what is measured and how it is checked."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inputs.arguments import whole_number
from .exits import LINES_KEPT, NOTHING_KEPT
from .lines import measured_lines
from .loading import load_user_task

if TYPE_CHECKING:
    from ..ground_truth import Case


def add_estimate_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `estimate` about its measure and its checks."""
    parser.add_argument("--measure", default="lebesgue", help="what is measured: lebesgue, gaussian or ball (lebesgue)")
    parser.add_argument("--sigma", type=float, help="standard deviation of the Gaussian measure, in units of the scale")
    parser.add_argument("--radius", type=float, help="radius of the ball, in units of the scale")
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


def estimate_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The values of those options as arguments of `estimate_volume`."""
    names = ("measure", "sigma", "radius", "check", "probe", "probe_rays")
    return {name: getattr(options, name) for name in names}


def add_commands(commands: Any) -> None:
    """Adds `calibrate` and `doctor` to the command line."""
    _add_calibrate(commands)
    doctor = commands.add_parser("doctor", help="find what stands between your model and a number that can be trusted")
    doctor.add_argument("user_task", metavar="module:make_task", help="make_task() returns (model, loss_fn, data)")
    doctor.add_argument("--cutoff", type=float, default=0.1, help="loss that bounds the basin (0.1)")
    doctor.add_argument(
        "--directions", type=int, default=500, help="number of directions that the forecast is for (500)"
    )
    doctor.add_argument("--seed", type=int, default=0, help="seed of the directions (0)")
    doctor.add_argument("--scaling", default="filter", help="units of the directions: filter or none (filter)")
    doctor.set_defaults(command=_doctor, kept=NOTHING_KEPT)


def _add_calibrate(commands: Any) -> None:
    calibrate = commands.add_parser("calibrate", help="compare methods with landscapes whose volume is known")
    calibrate.add_argument(
        "--method",
        nargs="+",
        default=["star"],
        help="estimators, as for estimate (star); several are counted by method, and their misses are listed",
    )
    calibrate.add_argument("--directions", type=int, default=500, help="number of random directions (500)")
    calibrate.add_argument("--seed", type=int, default=0, help="seed of the directions (0)")
    calibrate.add_argument("--seeds", type=int, default=1, help="number of seeds, from --seed on (1)")
    calibrate.add_argument("--measure", default="lebesgue", help="what is measured: lebesgue or gaussian (lebesgue)")
    bodies = calibrate.add_mutually_exclusive_group()
    bodies.add_argument(
        "--hard", action="store_true", help="use over 120 bodies that mislead estimates, instead of the usual table"
    )
    bodies.add_argument("--all", action="store_true", help="use the usual table and the bodies that mislead estimates")
    calibrate.add_argument("--most-parameters", type=int, help="use the cases of at most so many parameters")
    calibrate.add_argument("--only", help="use the cases whose name contains this text")
    calibrate.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="add a JSON line to FILE for every number, and measure only what it lacks",
    )
    calibrate.add_argument("--json", action="store_true", help="print a JSON list; an infinite truth is null")
    calibrate.set_defaults(command=_calibrate, kept=NOTHING_KEPT)


def _doctor(options: argparse.Namespace) -> None:
    from ..probing.doctor import examine

    model, loss_fn, data = load_user_task(options.user_task)
    print(examine(model, loss_fn, data, options.cutoff, options.directions, options.seed, options.scaling))


def _calibrate(options: argparse.Namespace) -> None:
    from ..calibration import calibrate, calibration_by_method, calibration_summary, calibration_table

    cases = _cases(options)
    whole_number("--seeds", options.seeds, least=1)
    settings = [(method, options.seed + number) for method in options.method for number in range(options.seeds)]
    chosen = {"num_directions": options.directions, "measure": options.measure}
    if options.out is not None:
        options.kept = LINES_KEPT
        print(calibration_by_method(measured_lines(options.out, cases, settings, chosen)))
        return
    rows = [row for method, seed in settings for row in calibrate(cases, method=method, seed=seed, **chosen)]
    if options.json:
        known = [row.truth if math.isfinite(row.truth) else None for row in rows]
        records = [
            {"case": row.case.name, "truth": truth, **row.estimate.to_dict()}
            for row, truth in zip(rows, known, strict=True)
        ]
        print(json.dumps(records, indent=2, allow_nan=False))
    elif len(settings) > 1:
        print(calibration_by_method(rows))
    else:
        print(calibration_table(rows))
        if len(rows) > 1:
            print(calibration_summary(rows))


def _cases(options: argparse.Namespace) -> list[Case]:
    """The landscapes of the options.

    Raises:
        ValueError: no landscape fits.
    """
    from ..ground_truth import hard_table, table

    every = (*table(), *hard_table()) if options.all else hard_table() if options.hard else table()
    most = math.inf if options.most_parameters is None else options.most_parameters
    cases = [case for case in every if case.dim <= most and (options.only is None or options.only in case.name)]
    if not cases:
        raise ValueError(
            f"no case is called {options.only!r} and has at most {most} parameters; there are: "
            f"{'; '.join(case.name for case in every)}."
        )
    return cases
