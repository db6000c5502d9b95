"""The commands estimate, compare, learning-coefficient, profile and show."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exits import CALL_KEPT, NOTHING_KEPT
from .measuring import (
    add_basics,
    add_figure,
    add_json,
    add_measuring,
    add_method_options,
    add_user_task,
    as_json,
    check_figure,
    check_folder,
    loaded,
    measure,
    method_options,
)
from .style import highlighted

if TYPE_CHECKING:
    from ..trust.volume_estimate import VolumeEstimate


def add_commands(commands: Any) -> None:
    """Adds these commands to the command line."""
    _add_estimate(commands)
    _add_compare(commands)
    _add_learning(commands)
    _add_profile(commands)
    show = commands.add_parser("show", help="print a result that was saved with --save, or by save() in Python")
    show.add_argument("file", type=Path, help="the file")
    add_json(show)
    show.set_defaults(command=_show, kept=NOTHING_KEPT)


def _add_estimate(commands: Any) -> None:
    estimate = commands.add_parser("estimate", help="measure the basin volume of your own model")
    add_user_task(estimate)
    add_measuring(estimate)
    estimate.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep solved rays in FILE, and go on from it after a kill"
    )
    estimate.add_argument("--save", type=Path, metavar="FILE", help="write the result to FILE, for show and `compare`")
    add_figure(estimate, "the radii and their weights")
    add_json(estimate, "one JSON object, or a list of them for several cutoffs")
    estimate.set_defaults(command=_estimate, kept=NOTHING_KEPT)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser("compare", help="rank minima by their volumes, along the same directions")
    compare.add_argument(
        "minima", nargs="+", metavar="minimum", help="module:make_task, or a file that `estimate --save` wrote"
    )
    compare.add_argument("--names", help="names of the minima, with commas between them; default: as they are given")
    add_measuring(compare)
    compare.add_argument("--save", type=Path, metavar="FILE", help="write the comparison to FILE, for show")
    add_json(compare)
    compare.set_defaults(command=_compare, kept=NOTHING_KEPT)


def _add_learning(commands: Any) -> None:
    learning = commands.add_parser("learning-coefficient", help="measure the slope of the log mass of your own minimum")
    add_user_task(learning)
    learning.add_argument("--cutoff", type=float, help="smallest loss that chains go down to; default: by the loss")
    learning.add_argument("--sigma", type=float, default=1.0, help="width of the Gaussian measure (1)")
    learning.add_argument("--scaling", default="none", help="units of sigma: none or filter (none)")
    learning.add_argument("--method", default="annealed", help="annealed or splitting (annealed)")
    add_method_options(learning)
    learning.add_argument("--seed", type=int, default=0, help="seed of the chains (0)")
    learning.add_argument("--save", type=Path, metavar="FILE", help="write the result to FILE, for show")
    add_figure(learning, "the log mass and the line")
    add_json(learning)
    learning.set_defaults(command=_learning, kept=NOTHING_KEPT)


def _add_profile(commands: Any) -> None:
    profile = commands.add_parser(
        "profile", help="show the loss against the radius along random directions, to choose a cutoff"
    )
    add_user_task(profile)
    add_basics(profile, directions=32)
    profile.add_argument("--radii", type=int, default=25, help="number of radii (25)")
    profile.add_argument("--backend", default="auto", help="what evaluates the loss: auto, native or reference (auto)")
    profile.add_argument("--device", help="where to evaluate, for example cuda; default: where the model is")
    profile.add_argument(
        "--threads", type=int, help="number of threads; default: as many as torch uses; changes no result"
    )
    profile.add_argument("--save", type=Path, metavar="FILE", help="write the profile to FILE, for show")
    add_figure(profile, "the profile")
    add_json(profile)
    profile.set_defaults(command=_profile, kept=NOTHING_KEPT)


def _estimate(options: argparse.Namespace) -> None:
    check_figure(options.figure)
    check_folder("--save", options.save)
    if len(options.cutoff) > 1 and (options.save or options.figure):
        raise ValueError("`--save` and `--figure` are for one cutoff; run the command once for each.")
    if options.resume is not None:
        options.kept = CALL_KEPT
    found = measure(options, options.user_task, resume=options.resume)
    if options.save is not None:
        found[0].save(options.save)
    if options.figure is not None:
        found[0].plot().savefig(options.figure, dpi=200)
    if options.json:
        records = [estimate.to_dict() for estimate in found]
        print(as_json(records if len(records) > 1 else records[0]))
    else:
        print("\n\n".join(_text(estimate) for estimate in found))


def _text(estimate: VolumeEstimate) -> str:
    return highlighted(str(estimate), str(estimate.diagnostics.verdict))


def _compare(options: argparse.Namespace) -> None:
    from ..trust.comparison import compare

    check_folder("--save", options.save)
    if len(options.cutoff) > 1:
        raise ValueError("`--cutoff` must be one number here; run the command once for each.")
    names = options.minima if options.names is None else options.names.split(",")
    if len(set(names)) != len(options.minima):
        raise ValueError(f"`--names` must be {len(options.minima)} different names, got {','.join(names)}.")
    found = compare([_minimum(options, minimum) for minimum in options.minima], names)
    if options.save is not None:
        found.save(options.save)
    print(as_json(found.to_dict()) if options.json else found)


def _minimum(options: argparse.Namespace, minimum: str) -> VolumeEstimate:
    """The estimate in a file, or that of a task."""
    from ..saved import load
    from ..trust.volume_estimate import VolumeEstimate

    if not Path(minimum).is_file():
        return measure(options, minimum)[0]
    found = load(minimum)
    if not isinstance(found, VolumeEstimate):
        raise ValueError(f"{minimum} holds a {type(found).__name__}, and compare needs estimates.")
    return found


def _learning(options: argparse.Namespace) -> None:
    from ..learning import learning_coefficient

    check_figure(options.figure)
    check_folder("--save", options.save)
    found = learning_coefficient(
        *loaded(options, options.user_task),
        options.cutoff,
        sigma=options.sigma,
        scaling=options.scaling,
        method=options.method,
        method_options=method_options(options),
        seed=options.seed,
        progress=True,
    )
    if options.save is not None:
        found.save(options.save)
    if options.figure is not None:
        found.plot().savefig(options.figure, dpi=200)
    verdict = str(found.estimate.diagnostics.verdict)
    print(as_json(found.to_dict()) if options.json else highlighted(str(found), verdict))


def _profile(options: argparse.Namespace) -> None:
    from ..profile import loss_profile

    check_figure(options.figure)
    check_folder("--save", options.save)
    profile = loss_profile(
        *loaded(options, options.user_task),
        num_directions=options.directions,
        num_radii=options.radii,
        seed=options.seed,
        scaling=options.scaling,
        backend=options.backend,
        device=options.device,
        num_threads=options.threads,
        progress=True,
    )
    if options.save is not None:
        profile.save(options.save)
    print(as_json(profile.to_dict()) if options.json else profile)
    if options.figure is not None:
        profile.plot().savefig(options.figure, dpi=200)


def _show(options: argparse.Namespace) -> None:
    from ..saved import load
    from ..trust.volume_estimate import VolumeEstimate

    found = load(options.file)
    if options.json:
        print(as_json(found.to_dict()))
    else:
        print(_text(found) if isinstance(found, VolumeEstimate) else found)
