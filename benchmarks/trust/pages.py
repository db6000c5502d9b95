"""Tables and figures of docs/trust.md, from the lines of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from basinvol.figures.style import COLORS, house_style

from ..table import put_into, put_into_readme
from .calibrated import put_calibration
from .lines import lines_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
FIGURES = DOCS / "figures"
COLOR_OF = {
    "star": COLORS[0],
    "gaussian": COLORS[0],
    "annealed": COLORS[1],
    "preconditioned": COLORS[2],
    "splitting": COLORS[3],
    "hit-and-run": COLORS[4],
    "direct": COLORS[5],
}


def figures() -> None:
    """Draw the figures."""
    FIGURES.mkdir(exist_ok=True)
    with house_style():
        _draw_bodies(lines_of("bodies"))
        _draw_verdicts(lines_of("verdicts"))
        _draw_networks()


def tables() -> None:
    """Print the tables of what has been measured, and put them into the page."""
    makers = {
        "bodies": _table_of_bodies,
        "error-bars": _table_of_error_bars,
        "swiss-roll": _table_of_networks,
        "mnist": _table_of_networks,
        "large": _table_of_large,
        "learning": _table_of_learning,
    }
    for part, make in makers.items():
        lines = lines_of(part)
        if not lines:
            continue
        table = make(lines)
        put_into(DOCS / "trust.md", part, table)
        print(table, end="\n\n")
    put_calibration(DOCS / "trust.md")
    claims = _table_of_claims(lines_of("claims"))
    put_into_readme("claims", claims)
    print(claims)


def _table_of_bodies(lines: list[dict[str, Any]]) -> str:
    """Return the errors of every body and method over seeds as a Markdown table."""
    table = ["| body | method | errors of three seeds, nats | error bars | verdicts | evaluations |"]
    table.append("|---|---|---|---|---|---|")
    for case, method in dict.fromkeys((line["case"], line["method"]) for line in lines):
        rows = [line for line in lines if (line["case"], line["method"]) == (case, method)]
        errors = ", ".join(f"{line['estimate'] - line['truth']:+.2f}" for line in rows)
        bars = ", ".join(f"{line['error_bar']:.2f}" for line in rows)
        verdicts = ", ".join(dict.fromkeys(line["verdict"] for line in rows))
        evaluations = round(sum(line["evaluations"] for line in rows) / len(rows))
        table.append(f"| {case} | {method} | {errors} | {bars} | {verdicts} | {evaluations:,} |")
    return "\n".join(table)


def _table_of_error_bars(lines: list[dict[str, Any]]) -> str:
    """Return the mean and the standard deviation of the scores of every body and method as a Markdown table."""
    methods = list(dict.fromkeys(line["method"] for line in lines))
    table = [f"| body | {' | '.join(f'`{method}`' for method in methods)} |", f"|---|{'---|' * len(methods)}"]
    for case in dict.fromkeys(line["case"] for line in lines):
        of = {line["method"]: line for line in lines if line["case"] == case}
        cells = [f"{of[m]['mean']:+.2f}, {of[m]['deviation']:.2f}" if m in of else "" for m in methods]
        table.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(table)


def _table_of_networks(lines: list[dict[str, Any]]) -> str:
    """Return the masses of every minimum by every method as a Markdown table."""
    methods = [method for method in dict.fromkeys(line["method"] for line in lines) if method != "star"]
    table = [f"| trained on | published number, log mean r^P | {' | '.join(methods)} |"]
    table.append(f"|---|---|{'---|' * len(methods)}")
    for size in sorted({line["trained_on"] for line in lines}):
        of = {line["method"]: line for line in lines if line["trained_on"] == size}
        cells = [_mass(of[method]) if method in of else "-" for method in methods]
        table.append(f"| {size:,} | {of['star']['mean_power']:,.0f} | {' | '.join(cells)} |")
    return "\n".join(table)


def _table_of_large(lines: list[dict[str, Any]]) -> str:
    """Return the masses of large cases, and what they took."""
    table = ["| case | parameters | rows | sigma | known | method | log mass |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        known = "" if line["truth"] is None else f"{line['truth']:,.2f}"
        size = f"{line['dim']:,}", f"{line['rows']:,}", f"{line['sigma']:g}"
        cells = [line["case"], *size, known, f"`{line['method']}`", _mass(line)]
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def _table_of_learning(lines: list[dict[str, Any]]) -> str:
    """Return the learning coefficients of every case, and what each learning rate of devinterp gave."""
    rates = list(dict.fromkeys(line["rate"] for line in lines if line["method"] == "devinterp"))
    table = [f"| case | P/2 | known | basinvol | {' | '.join(f'devinterp, rate {rate:g}' for rate in rates)} |"]
    table.append(f"|---|---|---|---|{'---|' * len(rates)}")
    for case in dict.fromkeys(line["case"] for line in lines):
        of = [line for line in lines if line["case"] == case]
        cells = [_coefficient(line) for line in of]
        table.append(f"| {case} | {of[0]['dim'] / 2:,g} | {of[0]['truth']:,g} | {' | '.join(cells)} |")
    return "\n".join(table)


def _coefficient(line: dict[str, Any]) -> str:
    if line["value"] is None:
        return f"no chain ended ({line['seconds']:,.0f} s)"
    error = "" if line["standard_error"] is None else f" +- {line['standard_error']:,.2f}"
    return f"{line['value']:,.2f}{error} ({line['seconds']:,.0f} s)"


def _table_of_claims(lines: list[dict[str, Any]]) -> str:
    """Return what the published number and the mass say of every claim as a Markdown table."""
    table = [
        "| experiment | claim | published number | mass | beyond doubt | nats apart, published | nats apart, mass |"
    ]
    table.append("|---|---|---|---|---|---|---|")
    for line in lines:
        if line["plain"]["of"] == line["true"]["of"] == 0:  # few levels do not say whether volumes fall as a power
            continue
        votes = [f"{line[by]['for']} of {line[by]['of']}" for by in ("plain", "true")]
        apart = [_nats(line[by]) for by in ("plain_nats", "true_nats")]
        experiment = f"{line['title']}, sigma {line['sigma']:g}"
        cells = [experiment, line["claim"], *votes, f"{line['beyond_doubt']} of {line['true']['of']}", *apart]
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:,.{0 if value >= 100 else 2}f}"


def _mass(line: dict[str, Any]) -> str:
    error = "" if line["error_bar"] is None else f" +- {line['error_bar']:.1f}"
    return f"{line['estimate']:,.1f}{error}, {line['verdict']} ({line['evaluations']:,}, {line['seconds']:,.0f} s)"


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
    figure.savefig(FIGURES / "trust-bodies.svg", metadata={"Date": None})


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
    figure.savefig(FIGURES / "trust-verdicts.svg", metadata={"Date": None})


def _draw_networks() -> None:
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    for axes, part in zip(figure.subplots(1, 2), ("swiss-roll", "mnist"), strict=True):
        chosen = [line for line in lines_of(part) if line["method"] != "star"]
        for method in dict.fromkeys(line["method"] for line in chosen):
            rows = sorted((line["trained_on"], -line["estimate"]) for line in chosen if line["method"] == method)
            label = "plain rays" if method == "gaussian" else method
            axes.plot(*zip(*rows, strict=True), marker="o", color=COLOR_OF[method], label=label)
        axes.set_yscale("log")
        axes.set_xlabel("examples the minimum was trained on")
        axes.set_ylabel("minus log mass, nats")
        axes.set_title(part)
        axes.legend(fontsize=8)
    figure.savefig(FIGURES / "trust-networks.svg", metadata={"Date": None})
