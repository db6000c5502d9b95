"""report.html and the table on the terminal, from the records of a run; no torch."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import TypedDict

import pandas as pd
from jinja2 import Environment, StrictUndefined

from .claims import judge
from .figures import draw_all
from .records import read_config, write_atomically

_CAPTIONS = {
    "fixed-landscape": "Which minimum is largest on each landscape, and how well each generalizes.",
    "varying-landscape": "How each minimum shrinks as examples are added, and where it stops being a minimum.",
}


class _Cell(TypedDict):
    """One number of the table of volumes."""

    text: str
    own: bool
    largest: bool
    verdict: str


def read_volumes(path: Path) -> pd.DataFrame:
    """volumes.csv of a run.

    Raises:
        ValueError: there is no run at `path`, or it is not finished.
    """
    read_config(path)
    try:
        return pd.read_csv(path / "volumes.csv")
    except FileNotFoundError as error:
        raise ValueError(f"{path} has no volumes.csv yet: repeat its reproduce command to finish it.") from error


def write_report(path: Path) -> Path:
    """Draws every figure and writes report.html of the run at `path`; returns the page.

    Raises:
        ValueError: there is no finished run at `path`.
    """
    volumes, config = read_volumes(path), read_config(path)
    figures = draw_all(volumes, path / "figures")
    template = files(__package__).joinpath("report.html.j2").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(
        settings=config["settings"],
        versions=config["versions"],
        machine=config["machine"],
        commit=config["commit"],
        claims=judge(volumes),
        figures=[(svg[svg.index("<svg") :], _CAPTIONS[name]) for name, svg in figures.items()],
        tables=[(cutoff, _matrix(rows)) for cutoff, rows in volumes.groupby("cutoff")],
        models=volumes.drop_duplicates(["model_seed", "model_size"]).to_dict("records"),
        decided=_decided_by_one(volumes),
        num_rows=int(volumes["log_mean_power"].map(math.isfinite).sum()),
        seconds=float(volumes["seconds"].sum()),
    )
    target = path / "report.html"
    write_atomically(target, page.encode())
    return target


def text_table(volumes: pd.DataFrame) -> str:
    """The volumes as text: a row per landscape, a column per minimum, the own minimum in brackets."""
    lines = []
    for cutoff, rows in volumes.groupby("cutoff"):
        sizes, matrix = _matrix(rows)
        lines.append(f"log mean r^P in nats, cutoff {cutoff:g}; [own minimum], * largest of its row, - not a minimum")
        lines.append(f"{'landscape':>12}" + "".join(f"{f'trained on {size:,}':>20}" for size in sizes))
        for size, cells in matrix:
            texts = [cell["text"] + ("*" if cell["largest"] else " ") for cell in cells]
            texts = [f"[{text}]" if cell["own"] else f"{text} " for text, cell in zip(texts, cells, strict=True)]
            lines.append(f"{size:>12,}" + "".join(f"{text:>20}" for text in texts))
    counts = volumes[volumes["log_mean_power"].map(math.isfinite)]["verdict"].value_counts()
    lines.append("verdicts: " + ", ".join(f"{count} x {verdict}" for verdict, count in counts.items()))
    if note := _decided_by_one(volumes):
        lines.append(note)
    lines += [f"{claim.verdict:>14}: {claim.text}" for claim in judge(volumes)]
    return "\n".join(lines)


def _matrix(rows: pd.DataFrame) -> tuple[list[int], list[tuple[int, list[_Cell]]]]:
    """Means over seeds, largest first marked; rows are landscapes, columns minima."""
    sizes = sorted(rows["model_size"].unique())
    means = rows.groupby(["landscape_size", "model_size"])["log_mean_power"].mean()
    verdicts = rows.groupby(["landscape_size", "model_size"])["verdict"].agg(
        lambda found: ", ".join(sorted(set(found)))
    )
    lines = []
    for landscape in sorted(rows["landscape_size"].unique()):
        best = means[landscape].max()
        cells: list[_Cell] = []
        for size in sizes:
            value = means.get((landscape, size), math.nan)
            cells.append(
                {
                    "text": f"{value:,.0f}" if math.isfinite(value) else "-",
                    "own": size == landscape,
                    "largest": math.isfinite(value) and value == best,
                    "verdict": verdicts.get((landscape, size), "") if math.isfinite(value) else "not a minimum",
                }
            )
        lines.append((int(landscape), cells))
    return [int(size) for size in sizes], lines


def _decided_by_one(volumes: pd.DataFrame) -> str:
    basins = volumes[volumes["log_mean_power"].map(math.isfinite)]
    decided = basins[basins["max_share"] > 0.5]
    if decided.empty:
        return ""
    return (
        f"In {len(decided)} of {len(basins)} measured basins one direction of {basins['num_directions'].iloc[0]} holds "
        "more than half of the sum of r^P: those numbers are lower bounds, and comparable only at the same number of "
        "directions."
    )
