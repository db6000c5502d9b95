"""Commands and options about trust: what is measured, how it is checked, calibrate, doctor."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any


def add_estimate_options(parser: argparse.ArgumentParser) -> None:
    """Options of `estimate` about measure and checks."""
    parser.add_argument("--measure", default="lebesgue", help="lebesgue, gaussian or ball (lebesgue)")
    parser.add_argument("--sigma", type=float, help="of the Gaussian measure, in units of the scale")
    parser.add_argument("--radius", type=float, help="of the ball, in units of the scale")
    parser.add_argument("--check", help="a second method, to agree with the first")
    parser.add_argument("--probe-rays", type=int, default=0, help="rays followed beyond their radius (0)")
    parser.add_argument(
        "--probe",
        action=argparse.BooleanOptionalAction,
        help="look for unbounded and longer directions (before a number is called trustworthy, and where it is cheap)",
    )


def estimate_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Those options as arguments of `estimate_volume`."""
    names = ("measure", "sigma", "radius", "check", "probe", "probe_rays")
    return {name: getattr(options, name) for name in names}


def add_commands(commands: Any) -> None:
    """The commands calibrate and doctor."""
    calibrate = commands.add_parser("calibrate", help="any setting on landscapes whose volume is known")
    calibrate.add_argument("--method", default="star", help="see estimate_volume (star)")
    calibrate.add_argument("--directions", type=int, default=500, help="number of random directions (500)")
    calibrate.add_argument("--seed", type=int, default=0, help="of the directions (0)")
    calibrate.add_argument("--measure", default="lebesgue", help="lebesgue or gaussian (lebesgue)")
    calibrate.add_argument("--only", help="cases whose name contains this")
    calibrate.add_argument("--json", action="store_true", help="print a JSON list; an infinite truth is null")
    calibrate.set_defaults(command=_calibrate)

    doctor = commands.add_parser("doctor", help="what stands between your model and a number one can trust")
    doctor.add_argument("task", metavar="module:make_task", help="make_task() returns (model, loss_fn, data)")
    doctor.add_argument("--cutoff", type=float, default=0.1, help="loss that bounds the basin (0.1)")
    doctor.add_argument("--directions", type=int, default=500, help="for the forecast (500)")
    doctor.add_argument("--seed", type=int, default=0, help="of the directions (0)")
    doctor.add_argument("--scaling", default="filter", help="filter or none (filter)")
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> None:
    from ..probing.doctor import examine
    from .loading import load_task

    model, loss_fn, data = load_task(options.task)
    print(examine(model, loss_fn, data, options.cutoff, options.directions, options.seed, options.scaling))


def _calibrate(options: argparse.Namespace) -> None:
    from ..calibration import calibrate, calibration_table
    from ..ground_truth import table

    cases = [case for case in table() if options.only is None or options.only in case.name]
    if not cases:
        raise ValueError(f"no case is called {options.only!r}; there are: {'; '.join(case.name for case in table())}.")
    rows = calibrate(
        cases,
        method=options.method,
        num_directions=options.directions,
        seed=options.seed,
        measure=options.measure,
    )
    if options.json:
        known = [row.truth if math.isfinite(row.truth) else None for row in rows]
        records = [
            {"case": row.case.name, "truth": truth, **row.estimate.to_dict()}
            for row, truth in zip(rows, known, strict=True)
        ]
        print(json.dumps(records, indent=2, allow_nan=False))
    else:
        print(calibration_table(rows))
