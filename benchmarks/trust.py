"""Measures the estimators on known volumes and on networks: `python -m benchmarks.trust bodies swiss-roll figures`.

The parts `bodies`, `verdicts`, `swiss-roll` and `mnist` add lines to benchmarks/results/trust.jsonl. From these lines,
`figures` draws docs/figures/trust-*.svg, and `tables` prints the tables of docs/trust.md. Seeds are fixed. On two
cores, `bodies` and `verdicts` take a minute or two each, and `swiss-roll` and `mnist` half an hour or more.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth as gt
from basinvol.experiments.data.examples import load
from basinvol.experiments.describe.families import describe
from basinvol.experiments.run.training import build_network, loss_function, train
from basinvol.figures.style import COLORS, house_style

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "trust.jsonl"
FIGURES = ROOT / "docs" / "figures"
COLOR_OF = {
    "star": COLORS[0],
    "gaussian": COLORS[0],
    "annealed": COLORS[1],
    "preconditioned": COLORS[2],
    "splitting": COLORS[3],
    "hit-and-run": COLORS[4],
}
PLAIN = {"method": "star", "num_directions": 1000}

BODIES: list[tuple[gt.Case, dict[str, Any]]] = [
    (gt.ellipsoid(1000, 1000.0), {"method": "preconditioned", "num_directions": 1000}),
    (gt.ellipsoid(100, 100.0, rotated=True), {"method": "preconditioned", "method_options": {"fit": "secant"}}),
    (gt.ellipsoid(1000, 1000.0), {"method": "annealed"}),
    (gt.ellipsoid(100, 100.0, rotated=True), {"method": "annealed"}),
    (gt.mixed([4.0] * 200, np.logspace(0, 1, 200).tolist()), {"method": "annealed"}),
    (gt.mixed([1.0, 2.0, 3.0, 6.0] * 50, np.logspace(-0.5, 0.5, 200).tolist()), {"method": "annealed"}),
    (gt.lp_ball(200, 1.0), {"method": "annealed"}),
    (gt.needle(10, 1e4, 0.5), {"method": "annealed"}),
    (gt.ellipsoid(20, 100.0, rotated=True), {"method": "hit-and-run", "num_directions": 100}),
]


def record(**line: Any) -> None:
    """Add one line to the results, and print it."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def row(est: bv.VolumeEstimate) -> dict[str, Any]:
    """Return what a line of results keeps of an estimate."""
    found = est.diagnostics
    return {
        "estimate": est.log_volume,
        "error_bar": est.standard_error if math.isfinite(est.standard_error) else None,
        "verdict": str(found.verdict),
        "reason": found.reason,
        "ess": found.ess,
        "evaluations": est.num_evaluations,
        "seconds": round(est.seconds, 1),
        "details": est.to_dict() and {k: v for k, v in est.details.items() if isinstance(v, (int, float, str, bool))},
    }


def bodies() -> None:
    """Measure bodies of known volume with better methods, and with the plain one, at seeds 0 to 2."""
    for case, options in [*BODIES, *((case, PLAIN) for case in {case.name: case for case, _ in BODIES}.values())]:
        for seed in range(3):
            est = bv.estimate_volume(
                *case.task(),
                cutoff=case.cutoff,
                scaling="none",
                on_censored="bound",
                seed=seed,
                num_threads=16,
                **{"num_directions": 500, **options},
            )
            record(part="bodies", case=case.name, seed=seed, method=est.method, truth=case.log_volume, **row(est))


def verdicts() -> None:
    """Measure bodies of all kinds with the plain method, for the figure that sets verdicts against errors."""
    sys.path.insert(0, str(ROOT / "tests" / "ground_truth"))
    from test_verdicts import bodies as kinds

    for seed in range(8):
        for line in bv.calibrate(kinds(seed), num_directions=200, seed=seed, num_threads=16):
            truth = line.truth if math.isfinite(line.truth) else None
            record(part="verdicts", case=line.case.name, seed=seed, truth=truth, **row(line.estimate))


def networks(name: str, preset: str, model_seed: int, size: int) -> Iterator[tuple[int, torch.nn.Module, Any]]:
    """Yield minima of an experiment, trained on more and more examples, each with the first `size` examples.

    Args:
        name: The name of the experiment, as in `basinvol reproduce`.
        preset: "smoke", "small" or "paper".
        model_seed: The seed of the initialization; the data use the seed 10 + model_seed.
        size: The number of examples of the landscape, and the least number to train on.

    Yields:
        The number of examples of the training, the network, and the data of the landscape (inputs, targets).
    """
    experiment = describe(name, preset)
    split = load(experiment, 10 + model_seed)
    for examples in (experiment.base + level for level in experiment.levels):
        if examples < size:
            continue
        network = build_network(experiment.network, model_seed)
        data = split.inputs[:examples], split.targets[:examples]
        train(network, loss_function(experiment.loss), *data, experiment.training)
        yield examples, network, (split.inputs[:size], split.targets[:size])


def swiss_roll() -> None:
    """Measure four swiss-roll minima on the landscape of 100 points: P = 4,353, Gaussian of sigma 0.1 filter norms."""
    methods = {
        "gaussian": {},
        "preconditioned": {},
        "annealed": {"target_error": 0.2},
        "splitting": {"num_chains": 512, "num_moves": 25},
    }
    for examples, network, data in networks("swiss-roll", "paper", 1, 100):
        _measure("swiss-roll", examples, network, F.binary_cross_entropy_with_logits, data, 1000, methods)


def mnist() -> None:
    """Measure four MNIST minima on the landscape of 60 digits: P = 235,146, Gaussian of sigma 0.1 filter norms."""
    methods = {"gaussian": {}, "annealed": {}, "splitting": {}}
    for examples, network, data in networks("mnist-data-scaling", "small", 0, 60):
        _measure("mnist", examples, network, F.cross_entropy, data, 100, methods)


def _measure(
    part: str, examples: int, network: Any, loss_fn: Any, data: Any, count: int, methods: dict[str, Any]
) -> None:
    plain = bv.estimate_volume(network, loss_fn, data, 0.1, count, probe=False)
    record(part=part, trained_on=examples, method="star", mean_power=plain.log_mean_power, **row(plain))
    for method, options in methods.items():
        est = bv.estimate_volume(
            network,
            loss_fn,
            data,
            0.1,
            count,
            method=method,
            measure="gaussian",
            sigma=0.1,
            method_options=options,
            probe=False,
        )
        record(part=part, trained_on=examples, method=method, **row(est))


def figures() -> None:
    """Draw the figures of docs/trust.md from the recorded lines."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    FIGURES.mkdir(exist_ok=True)
    with house_style():
        _draw_bodies([line for line in lines if line["part"] == "bodies"])
        _draw_verdicts([line for line in lines if line["part"] == "verdicts"])
        _draw_networks(lines)


def tables() -> None:
    """Print the tables of docs/trust.md from the recorded lines."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    chosen = [line for line in lines if line["part"] == "bodies"]
    print("| body | method | errors of three seeds, nats | error bars | verdicts | evaluations |")
    print("|---|---|---|---|---|---|")
    for case, method in dict.fromkeys((line["case"], line["method"]) for line in chosen):
        rows = [line for line in chosen if (line["case"], line["method"]) == (case, method)]
        errors = ", ".join(f"{line['estimate'] - line['truth']:+.2f}" for line in rows)
        bars = ", ".join(f"{line['error_bar']:.2f}" for line in rows)
        verdicts = ", ".join(dict.fromkeys(line["verdict"] for line in rows))
        evaluations = round(sum(line["evaluations"] for line in rows) / len(rows))
        print(f"| {case} | {method} | {errors} | {bars} | {verdicts} | {evaluations:,} |")
    for part in ("swiss-roll", "mnist"):
        _network_table([line for line in lines if line["part"] == part])


def _network_table(lines: list[dict[str, Any]]) -> None:
    methods = [method for method in dict.fromkeys(line["method"] for line in lines) if method != "star"]
    print(
        f"\n| trained on | published number, log mean r^P | {' | '.join(methods)} |\n|---|---|{'---|' * len(methods)}"
    )
    for size in sorted({line["trained_on"] for line in lines}):
        row = {line["method"]: line for line in lines if line["trained_on"] == size}
        cells = [
            f"{row[m]['estimate']:,.1f} +- {row[m]['error_bar']:.1f}, {row[m]['verdict']}" if m in row else "-"
            for m in methods
        ]
        power = f"{row['star']['mean_power']:,.0f}" if "star" in row else "-"
        print(f"| {size:,} | {power} | {' | '.join(cells)} |")


def _draw_bodies(lines: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(line["case"] for line in lines))
    methods = list(dict.fromkeys(line["method"] for line in lines))
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    axes = figure.subplots()
    for method in methods:
        chosen = [line for line in lines if line["method"] == method]
        axes.scatter(
            [abs(line["estimate"] - line["truth"]) + 1e-3 for line in chosen],
            [names.index(line["case"]) for line in chosen],
            label="plain" if method == "star" else method,
            color=COLOR_OF[method],
            s=28,
            marker="x" if method == "star" else "o",
            facecolors=None if method == "star" else "none",
        )
    axes.axvline(2.0, color="#888888", linestyle=":")
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("|error| of the log-volume, nats (0.001 added; dotted: 2 nats)")
    axes.legend(fontsize=8)
    figure.savefig(FIGURES / "trust-bodies.svg")


def _draw_verdicts(lines: list[dict[str, Any]]) -> None:
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    axes = figure.subplots()
    for color, verdict in zip(
        (COLORS[2], COLORS[1], COLORS[0]), ("trustworthy", "lower bound", "censored"), strict=True
    ):
        chosen = [line for line in lines if line["verdict"] == verdict]
        error = [abs(line["estimate"] - line["truth"]) if line["truth"] is not None else 1e4 for line in chosen]
        axes.scatter(
            [line["ess"] for line in chosen],
            np.maximum(error, 1e-3),
            label=f"{verdict} ({len(chosen)})",
            color=color,
            s=14,
            alpha=0.7,
        )
    axes.axhline(2.0, color="#888888", linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("effective sample size of 200 directions")
    axes.set_ylabel("|error|, nats (top: infinite)")
    axes.legend(fontsize=8)
    figure.savefig(FIGURES / "trust-verdicts.svg")


def _draw_networks(lines: list[dict[str, Any]]) -> None:
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    for axes, part in zip(figure.subplots(1, 2), ("swiss-roll", "mnist"), strict=True):
        chosen = [line for line in lines if line["part"] == part and line["method"] != "star"]
        for method in dict.fromkeys(line["method"] for line in chosen):
            rows = sorted((line["trained_on"], -line["estimate"]) for line in chosen if line["method"] == method)
            label = "plain rays" if method == "gaussian" else method
            axes.plot(*zip(*rows, strict=True), marker="o", color=COLOR_OF[method], label=label)
        axes.set_yscale("log")
        axes.set_xlabel("examples the minimum was trained on")
        axes.set_ylabel("minus log mass, nats")
        axes.set_title(part)
        axes.legend(fontsize=8)
    figure.savefig(FIGURES / "trust-networks.svg")


PARTS = {
    "bodies": bodies,
    "verdicts": verdicts,
    "swiss-roll": swiss_roll,
    "mnist": mnist,
    "figures": figures,
    "tables": tables,
}

if __name__ == "__main__":
    for name in sys.argv[1:]:
        PARTS[name]()
