"""report.html and the table on the terminal, from the records of a run; no torch."""

from __future__ import annotations

import math
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from jinja2 import Environment, StrictUndefined

from ..records.columns import MODEL_KEYS
from ..records.reading import Run, basins, minimum_label, read_volumes
from ..records.storage import write_atomically
from .claims import Claim, judge
from .figures import draw_all
from .published import KNOWN_EXCEPTIONS, beside_published, deviations

__all__ = ["read_volumes", "text_table", "write_report"]


class _Cell(TypedDict):
    """One number in the table of volumes."""

    text: str
    own: bool
    largest: bool
    verdict: str


class _Table(TypedDict):
    """All volumes at one cutoff: a row per landscape, a column per minimum."""

    cutoff: float
    columns: list[str]
    rows: list[tuple[int, list[_Cell]]]


def write_report(path: Path) -> Path:
    """Draws every figure and writes report.html of the run at `path`; returns the page.

    Raises:
        ValueError: there is no finished run at `path`.
    """
    run = Run.read(path)
    template = files(__package__).joinpath("report.html.j2").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(
        settings=run.settings,
        levels=", ".join(f"{level:,}" for level in run.settings["levels"]),
        config=run.config,
        command=command(run),
        summary=summary(run),
        claims=judge(run.volumes, run.settings["claims"]),
        exception=KNOWN_EXCEPTIONS.get(run.settings["name"], ""),
        published=beside_published(run),
        deviations=deviations(run),
        tables=_tables(run.volumes),
        figures=draw_all(run, path / "figures"),
        models=_models(run.volumes),
        warnings=_warnings(run),
        savings=_savings(run),
        num_basins=len(basins(run.volumes)),
        seconds=float(run.volumes["seconds"].sum()),
    )
    target = path / "report.html"
    write_atomically(target, page.encode())
    return target


def text_table(path: Path) -> str:
    """The volumes as text, a row per landscape and a column per minimum, and the claims below them."""
    run = Run.read(path)
    lines = []
    for table in _tables(run.volumes):
        lines.append(
            f"log mean r^P in nats, cutoff {table['cutoff']:g}; [trained on that landscape], * largest of its row, "
            "- not a minimum"
        )
        width = max(20, *(len(label) + 4 for label in table["columns"]))
        lines.append(f"{'landscape':>12}" + "".join(f"{label:>{width}}" for label in table["columns"]))
        for size, cells in table["rows"]:
            texts = [cell["text"] + ("*" if cell["largest"] else " ") for cell in cells]
            texts = [f"[{text}]" if cell["own"] else f"{text} " for text, cell in zip(texts, cells, strict=True)]
            lines.append(f"{size:>12,}" + "".join(f"{text:>{width}}" for text in texts))
    counts = basins(run.volumes)["verdict"].value_counts()
    lines.append("verdicts: " + (", ".join(f"{count} x {verdict}" for verdict, count in counts.items()) or "none"))
    lines += _warnings(run) + _savings(run)
    lines += [
        f"{claim.verdict:>14}: {claim.text} {claim.reason}" for claim in judge(run.volumes, run.settings["claims"])
    ]
    for row in beside_published(run):
        published, ours, difference = row.texts()
        lines.append(f"{'published':>14}: {row.what}: {published}; here {ours} ({difference})")
    return "\n".join(lines)


def command(run: Run) -> str:
    """The command that continues or repeats a run, with every setting that a command line can change."""
    settings = run.settings

    def listed(values: list[Any]) -> str:
        return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)

    options = [
        ("--preset", settings["preset"]),
        ("--seeds", listed(settings["seeds"])),
        ("--levels", listed(settings["levels"])),
        ("--cutoffs", listed(sorted(run.volumes["cutoff"].unique()))),
        ("--directions", str(settings["num_directions"])),
        ("--method", settings["method"]),
        ("--backend", settings["backend"]),
        ("--resolve", settings["resolve"]),
        ("--out", str(run.path)),
    ]
    if settings["device"] is not None:
        options.append(("--device", settings["device"]))
    words = [word for option in options for word in option]
    return shlex.join(["basinvol", "reproduce", settings["name"], *words])


def summary(run: Run) -> list[str]:
    """How many claims have each verdict, in a few words."""
    verdicts: dict[str, list[Claim]] = {}
    for claim in judge(run.volumes, run.settings["claims"]):
        verdicts.setdefault(claim.verdict, []).append(claim)
    return [f"{verdict}: {len(claims)}" for verdict, claims in verdicts.items()]


def _tables(volumes: pd.DataFrame) -> list[_Table]:
    return [
        {"cutoff": cutoff, "columns": _columns(rows), "rows": _matrix(rows)}
        for cutoff in sorted(set(volumes["cutoff"].tolist()))
        for rows in [volumes[volumes["cutoff"] == cutoff]]
    ]


def _minima(rows: pd.DataFrame) -> list[tuple[int, str]]:
    """Size and variant of every minimum, in the order of the variants' description and then by size."""
    order = list(pd.unique(rows["variant"]))
    pairs = rows[["model_size", "variant"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(pairs, key=lambda pair: (order.index(pair[1]), pair[0]))


def _columns(rows: pd.DataFrame) -> list[str]:
    has_sizes = rows["model_size"].nunique() > 1
    labels = [minimum_label(size, variant, has_sizes) for size, variant in _minima(rows)]
    return [f"trained on {label}" if has_sizes else label for label in labels]


def _matrix(rows: pd.DataFrame) -> list[tuple[int, list[_Cell]]]:
    """The rows of a table: means over seeds, with the largest of each row marked."""
    keys = ["landscape_size", "model_size", "variant"]
    means = basins(rows).groupby(keys)["log_mean_power"].mean()
    inside = basins(rows).groupby(keys)["verdict"]
    verdicts, counts = inside.agg(lambda found: ", ".join(sorted(set(found)))), inside.size()
    num_seeds = rows["model_seed"].nunique()
    lines = []
    for landscape in sorted(rows["landscape_size"].unique()):
        best = means.get(landscape, default=pd.Series([math.nan])).max()
        cells: list[_Cell] = []
        for size, variant in _minima(rows):
            key = landscape, size, variant
            if key not in means.index:
                cells.append({"text": "-", "own": size == landscape, "largest": False, "verdict": "not a minimum"})
                continue
            seeds = "" if counts[key] == num_seeds else f", {counts[key]} of {num_seeds} seeds"
            cells.append(
                {
                    "text": f"{means[key]:,.0f}",
                    "own": size == landscape,
                    "largest": bool(means[key] == best),
                    "verdict": f"{verdicts[key]}{seeds}",
                }
            )
        lines.append((int(landscape), cells))
    return lines


def _models(volumes: pd.DataFrame) -> list[dict[str, Any]]:
    models = volumes.drop_duplicates(list(MODEL_KEYS))
    return [{str(name): value for name, value in row.items()} for row in models.to_dict("records")]


def _savings(run: Run) -> list[str]:
    """What the search at added cutoffs cost, against what the first search cost for as many basins."""
    passes = run.volumes.drop_duplicates([*MODEL_KEYS, "search_pass"])
    spent = passes.groupby("search_pass")["evaluations"].sum() * run.settings["num_directions"]
    measured = basins(run.volumes).groupby("search_pass").size()
    found = []
    for number in spent.index[1:]:
        cutoffs = run.volumes[run.volumes["search_pass"] == number]["cutoff"].unique()
        listed = ", ".join(f"{cutoff:g}" for cutoff in cutoffs)
        taken = spent[number]
        expected = spent[0] / measured.get(0, math.nan) * measured.get(number, 0)
        found.append(
            f"The search at cutoffs added later ({listed}) started from known brackets and took {taken:,.0f} "
            f"evaluations; at the rate of the first search it would have taken about {expected:,.0f}, so that "
            f"{expected - taken:,.0f} were saved."
        )
    return found


def _warnings(run: Run) -> list[str]:
    """What a reader must know before the numbers."""
    inside, found = basins(run.volumes), []
    decided = inside[inside["max_share"] > 0.5]
    if len(decided):
        found.append(
            f"In {len(decided)} of {len(inside)} measured basins one direction of {run.settings['num_directions']} "
            "holds more than half of the sum of r^P: those numbers are lower bounds, and comparable only at the same "
            "number of directions."
        )
    censored = inside[inside["num_censored"] > 0]
    if len(censored):
        fate = (
            "were dropped, as published" if run.settings["method"] == "paper" else "count with the largest radius tried"
        )
        found.append(f"{censored['num_censored'].sum():,} rays in {len(censored)} basins never cross and {fate}.")
    return found
