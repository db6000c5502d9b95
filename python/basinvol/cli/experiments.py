"""The commands of the experiments: reproduce and report."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exits import RECORDS_KEPT, RUN_KEPT
from .measuring import add_execution, add_executor, numbers

if TYPE_CHECKING:
    from ..experiments.describe.description import Experiment, Mass


def add_experiment_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds `reproduce` and `report` to the command line."""
    reproduce = commands.add_parser("reproduce", help="repeat one of the paper's experiments, from data to report")
    reproduce.add_argument("name", help="for example mnist-data-scaling")
    reproduce.add_argument("--preset", default="small", help="size of the experiment: smoke, small or paper (small)")
    reproduce.add_argument(
        "--out", help="run directory, also on shared storage such as s3://bucket/run; default: runs/NAME-PRESET"
    )
    reproduce.add_argument("--seeds", type=numbers(int), help="model seeds, for example 0,1,2")
    reproduce.add_argument(
        "--levels",
        type=numbers(int),
        help="numbers of examples taken from the pool, one training each, for example 0,340,1940",
    )
    reproduce.add_argument("--cutoffs", type=numbers(float), help="losses that bound the basins, for example 0.05,0.1")
    reproduce.add_argument("--directions", type=int, help="number of random directions")
    reproduce.add_argument(
        "--method",
        help="star, or paper: the published grid, rounding and generators (star); annealed, splitting or direct: "
        "chains or draws that measure the mass of every basin, besides the rays, also of a run that is finished",
    )
    reproduce.add_argument(
        "--sigma", type=float, help="width of the Gaussian of this mass, in units of the scale (0.1)"
    )
    reproduce.add_argument(
        "--data-dir", type=Path, help="folder with the published data files; default: OpenML, for images"
    )
    reproduce.add_argument("--device", help="where to train and measure, for example cuda (cpu)")
    reproduce.add_argument("--jobs", type=int, help="number of processes; default: one per core; changes no result")
    add_executor(reproduce)
    add_execution(reproduce)
    reproduce.add_argument("--json", action="store_true", help="print volumes.csv as JSON instead of the table")
    reproduce.add_argument(
        "--static",
        action="store_true",
        help="write report-static.html instead, a plain page without scripts that can be sent alone",
    )
    reproduce.set_defaults(command=_reproduce, kept=RUN_KEPT)

    report = commands.add_parser("report", help="write figures and report.html again, from the records of a run")
    report.add_argument("out", help="run directory")
    report.add_argument("--json", action="store_true", help="print volumes.csv as JSON instead of the table")
    report.add_argument(
        "--static",
        action="store_true",
        help="write report-static.html instead, a plain page without scripts that can be sent alone",
    )
    report.set_defaults(command=_report, kept=RECORDS_KEPT)


def _reproduce(options: argparse.Namespace) -> None:
    from ..experiments.describe.families import describe
    from ..experiments.records.storage import place

    mass = _mass(options)
    experiment = _changed(describe(options.name, options.preset), options)
    out = place(options.out or f"runs/{options.name}-{options.preset}")
    jobs = (os.cpu_count() or 1) if options.jobs is None else options.jobs
    if jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, got {jobs}.")
    if options.jobs is not None and options.executor is not None:
        raise ValueError("`jobs` is for processes of this machine; leave it out, or say --executor local:N.")

    from ..experiments.run.execution import Execution
    from ..experiments.run.sweep import Sweep

    execution = Execution(
        backend=options.backend,
        resolve=options.resolve,
        num_threads=options.threads or 1,
        device=options.device,
        data_dir=options.data_dir,
        progress=True,
    )
    Sweep(experiment, out, execution, mass).run(jobs, options.executor)
    _show(out, options)


def _mass(options: argparse.Namespace) -> Mass | None:
    """What chains measure besides the rays."""
    from ..experiments.describe.description import MASS_METHODS, RAY_METHODS, Mass
    from ..inputs.arguments import one_of

    one_of("method", options.method or "star", (*RAY_METHODS, *MASS_METHODS))
    if options.method in MASS_METHODS:
        return Mass(options.method, 0.1 if options.sigma is None else options.sigma)
    if options.sigma is not None:
        raise ValueError(f"`sigma` is for the methods {', '.join(MASS_METHODS)}, got method={options.method!r}.")
    return None


def _changed(experiment: Experiment, options: argparse.Namespace) -> Experiment:
    """The experiment with the changes that the command line asks for."""
    changes: dict[str, Any] = {
        field: value
        for field, value in (
            ("seeds", options.seeds),
            ("num_directions", options.directions),
            ("cutoffs", options.cutoffs),
            ("method", None if _mass(options) else options.method),
        )
        if value is not None
    }
    if options.levels:
        experiment = experiment.with_levels(options.levels)
    return dataclasses.replace(experiment, **changes)


def _report(options: argparse.Namespace) -> None:
    from ..experiments.records.storage import place

    _show(place(options.out), options)


def _show(out: Path, options: argparse.Namespace) -> None:
    from ..experiments.report.report import read_volumes, text_table, write_report

    page = write_report(out, options.static)
    volumes = read_volumes(out)
    if options.json:
        print(volumes.to_json(orient="records", indent=2))
    else:
        print(text_table(out))
        print(f"report: {page}")
