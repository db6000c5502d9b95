"""The commands calibrate and doctor."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inputs.arguments import whole_number
from .exits import LINES_KEPT, NOTHING_KEPT, PROBLEMS
from .lines import measured_lines
from .measuring import add_basics, add_executor, add_json, add_user_task, as_json, loaded
from .style import highlighted

if TYPE_CHECKING:
    from ..ground_truth import Case


def add_commands(commands: Any) -> None:
    """Adds `calibrate` and `doctor` to the command line."""
    _add_calibrate(commands)
    parser = commands.add_parser("doctor", help="find what stands between your model and a number that can be trusted")
    add_user_task(parser)
    parser.add_argument("--cutoff", type=float, default=0.1, help="loss that bounds the basin (0.1)")
    add_basics(parser)
    parser.add_argument("--backend", default="auto", help="what evaluates the loss, as for estimate (auto)")
    add_json(parser, "a JSON list of findings")
    parser.set_defaults(command=doctor, kept=NOTHING_KEPT)


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
    bodies.add_argument(
        "--drawn",
        type=int,
        metavar="N",
        help="use N bodies of all these kinds, whose shapes --bodies-seed draws at random",
    )
    calibrate.add_argument("--bodies-seed", type=int, default=0, help="seed of the shapes of --drawn (0)")
    calibrate.add_argument(
        "--most-parameters", type=int, help="use the cases of at most so many parameters; draw none larger (200)"
    )
    calibrate.add_argument("--only", help="use the cases whose name contains this text")
    calibrate.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="add a JSON line to FILE for every number, and measure only what it lacks",
    )
    add_executor(calibrate)
    add_json(calibrate, "a JSON list; what is infinite is null")
    calibrate.set_defaults(command=_calibrate, kept=NOTHING_KEPT)


def doctor(options: argparse.Namespace) -> int:
    """Prints the findings about the user's task; the exit code says whether one of them is a problem."""
    from ..probing.doctor import examine

    model, loss_fn, data = loaded(options, options.user_task)
    settings = (options.cutoff, options.directions, options.seed, options.scaling, options.backend)
    report = examine(model, loss_fn, data, *settings, progress=True)
    if options.json:
        print(as_json([dataclasses.asdict(finding) for finding in report.findings]))
    else:
        for finding, line in zip(report.findings, str(report).splitlines(), strict=True):
            print(highlighted(line, finding.state))
    return PROBLEMS if report.has_problems else 0


def _calibrate(options: argparse.Namespace) -> None:
    from ..calibration import calibrate, calibration_by_method, calibration_summary, calibration_table

    cases = _cases(options)
    whole_number("--seeds", options.seeds, least=1)
    settings = [(method, options.seed + number) for method in options.method for number in range(options.seeds)]
    chosen = {"num_directions": options.directions, "measure": options.measure}
    if options.out is not None:
        options.kept = LINES_KEPT
        scores = measured_lines(options.out, cases, settings, chosen, options.executor)
        if options.json:
            records = [dataclasses.asdict(score) for score in scores]
            print(as_json([{name: _finite(value) for name, value in record.items()} for record in records]))
        else:
            print(calibration_by_method(scores))
        return
    rows = []
    for number, (method, seed) in enumerate(settings, 1):
        purpose = f"{method} ({number} of {len(settings)})"
        where = {"progress": True, "purpose": purpose, "executor": options.executor}
        rows += calibrate(cases, method=method, seed=seed, **where, **chosen)
    if options.json:
        records = [{"case": row.case.name, "truth": _finite(row.truth), **row.estimate.to_dict()} for row in rows]
        print(as_json(records))
    elif len(settings) > 1:
        print(calibration_by_method(rows))
    else:
        print(calibration_table(rows))
        if len(rows) > 1:
            print(calibration_summary(rows))


def _finite(value: Any) -> Any:
    """The value, or None for a number that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cases(options: argparse.Namespace) -> list[Case]:
    """The landscapes of the options.

    Raises:
        ValueError: no landscape fits, or none can be drawn.
    """
    most = math.inf if options.most_parameters is None else options.most_parameters
    every = _every_case(options)
    cases = [case for case in every if case.dim <= most and (options.only is None or options.only in case.name)]
    if not cases:
        raise ValueError(
            f"no case is called {options.only!r} and has at most {most} parameters; there are: "
            f"{'; '.join(case.name for case in every)}."
        )
    return cases


def _every_case(options: argparse.Namespace) -> tuple[Case, ...]:
    """The landscapes to choose from: a table, both, or drawn ones."""
    from ..ground_truth import drawn_bodies, hard_table, table

    if options.drawn is not None:
        whole_number("--drawn", options.drawn, least=1)
        whole_number("--bodies-seed", options.bodies_seed, least=0)
        most = 200 if options.most_parameters is None else options.most_parameters
        return drawn_bodies(options.drawn, options.bodies_seed, most)
    return (*table(), *hard_table()) if options.all else hard_table() if options.hard else table()
