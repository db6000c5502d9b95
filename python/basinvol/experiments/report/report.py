"""report.html and the table on the terminal, from the records of a run; no torch."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..records.columns import MODEL_KEYS
from ..records.reading import Run, basins, read_volumes
from ..records.storage import write_atomically
from .claims import Claim, judge
from .figures import draw_all
from .masses import by_mass
from .page import Page
from .published import KNOWN_EXCEPTIONS, beside_published, deviations
from .tables import Table, table_of_basins, table_of_models, table_of_published, tables_of_volumes

__all__ = ["read_volumes", "text_table", "write_report"]


def write_report(path: Path, static: bool = False) -> Path:
    """Draws every figure and writes the page of the run at `path`; returns the page.

    Args:
        path: the run directory.
        static: False writes report.html, whose figures and tables answer to their reader, and which links the files
            beside it. True writes report-static.html, which holds no scripts, no links to files and its figures as
            pictures, so that it can be sent alone.

    Raises:
        ValueError: there is no finished run at `path`, or the page with scripts is asked for without plotly installed.
    """
    run, page = Run.read(path), Page(is_static=static)
    published = beside_published(run)
    content = page.render(
        run=run,
        settings=run.settings,
        config=run.config,
        command=command(run),
        summary=summary(run),
        claims=judge(run.volumes, run.settings["claims"]),
        exception=KNOWN_EXCEPTIONS.get(run.settings["name"], ""),
        published=table_of_published(published) if published else None,
        deviations=deviations(run),
        tables=tables_of_volumes(run.volumes),
        masses=by_mass(run),
        basins=table_of_basins(run),
        drawings=draw_all(run, path / "figures"),
        models=table_of_models(run, has_links=not static),
        warnings=_warnings(run),
        savings=_savings(run),
        num_basins=len(basins(run.volumes)),
        verdicts=dict(basins(run.volumes)["verdict"].value_counts()),
        seconds=float(run.volumes["seconds"].sum()),
    )
    target = path / ("report-static.html" if static else "report.html")
    write_atomically(target, content.encode())
    return target


def text_table(path: Path) -> str:
    """The volumes as text, a row per landscape and a column per minimum, and the claims below them."""
    run = Run.read(path)
    lines = [line for table in tables_of_volumes(run.volumes) for line in _lines(table, "log mean r^P")]
    counts = basins(run.volumes)["verdict"].value_counts()
    lines.append(_counted(counts.to_dict()))
    lines += _warnings(run) + _savings(run)
    lines += _judged(judge(run.volumes, run.settings["claims"]))
    for found in by_mass(run):
        lines += [line for table in found.tables for line in _lines(table, found.title)]
        lines += [_counted(found.verdicts), *_judged(found.claims)]
    for beside in beside_published(run):
        published, ours, difference = beside.texts()
        lines.append(f"{'published':>14}: {beside.what}: {published}; here {ours} ({difference})")
    return "\n".join(lines)


def _lines(table: Table, what: str) -> list[str]:
    """A table of volumes as lines of text."""
    labels = [column.title for column in table.columns[1:]]
    width = max(20, *(len(label) + 4 for label in labels))
    lines = [
        f"{what} in nats, cutoff {table.cutoff:g}; [trained on that landscape], * largest of its row, - not a minimum",
        f"{'landscape':>12}" + "".join(f"{label:>{width}}" for label in labels),
    ]
    for row in table.rows:
        size, *cells = row.cells
        texts = [cell.text + ("*" if cell.is_largest else " ") for cell in cells]
        texts = [f"[{text}]" if cell.is_own else f"{text} " for text, cell in zip(texts, cells, strict=True)]
        lines.append(f"{size.text:>12}" + "".join(f"{text:>{width}}" for text in texts))
    return lines


def _counted(verdicts: Mapping[Any, int]) -> str:
    return "verdicts: " + (", ".join(f"{count} x {verdict}" for verdict, count in verdicts.items()) or "none")


def _judged(claims: Iterable[Claim]) -> list[str]:
    return [f"{claim.verdict:>14}: {claim.text} {claim.reason}" for claim in claims]


def command(run: Run) -> str:
    """The command that continues or repeats a run, with every setting that a command line can change.

    What chains measure has a line of its own.
    """
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
    lines = [options]
    for mass in run.config.get("masses", []):
        lines.append([("--method", mass["method"]) if option[0] == "--method" else option for option in options])
        lines[-1].append(("--sigma", f"{mass['sigma']:g}"))
    return "\n".join(
        shlex.join(["basinvol", "reproduce", settings["name"], *(word for option in line for word in option)])
        for line in lines
    )


def summary(run: Run) -> list[str]:
    """How many claims have each verdict, in a few words."""
    verdicts: dict[str, list[Claim]] = {}
    for claim in judge(run.volumes, run.settings["claims"]):
        verdicts.setdefault(claim.verdict, []).append(claim)
    return [f"{verdict}: {len(claims)}" for verdict, claims in verdicts.items()]


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
