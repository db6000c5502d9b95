"""The tables of the report as data: what stands in every cell, and what it is sorted by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..records.columns import MODEL_KEYS
from ..records.reading import Run, basins, minimum_label
from ..records.run_directory import model_name
from .published import Comparison
from .wording import NOT_A_MINIMUM, interval_text, nats, verdict_text


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        title: what it holds, with its unit.
        is_text: whether it holds words and not numbers.
        can_filter: whether a reader may want the rows with one of its values alone.
    """

    title: str
    is_text: bool = False
    can_filter: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it shows.
        value: what it is sorted by; None for its text.
        note: a second, smaller line.
        links: names and targets of files, shown after the text.
        is_own, is_largest: in a table of volumes, whether the minimum was trained on this landscape, and whether it
            is the largest there.
    """

    text: str
    value: float | None = None
    note: str = ""
    links: tuple[tuple[str, str], ...] = ()
    is_own: bool = False
    is_largest: bool = False


@dataclass(frozen=True)
class Row:
    """One row; its first cell is its header.

    Attributes:
        cells: one for every column.
        anchor: the name by which the page links to it; "" for none.
    """

    cells: tuple[Cell, ...]
    anchor: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        caption: what it holds.
        columns: their heads.
        rows: as they are shown before a reader sorts them.
        cutoff: of a table of volumes.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cutoff: float = math.nan


def tables_of_volumes(volumes: pd.DataFrame) -> list[Table]:
    """All volumes, a table for each cutoff: a row per landscape and a column per minimum; means over seeds."""
    found = []
    for cutoff in sorted(set(volumes["cutoff"].tolist())):
        rows = volumes[volumes["cutoff"] == cutoff]
        columns = (Column("landscape of"), *(Column(label) for label in _minima_labels(rows)))
        found.append(Table(f"Cutoff {cutoff:g}", columns, tuple(_rows_of_volumes(rows)), cutoff))
    return found


def _minima(rows: pd.DataFrame) -> list[tuple[int, str]]:
    """Size and variant of every minimum, in the order of the variants' description and then by size."""
    order = list(pd.unique(rows["variant"]))
    pairs = rows[["model_size", "variant"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(pairs, key=lambda pair: (order.index(pair[1]), pair[0]))


def _minima_labels(rows: pd.DataFrame) -> list[str]:
    has_sizes = rows["model_size"].nunique() > 1
    labels = [minimum_label(size, variant, has_sizes) for size, variant in _minima(rows)]
    return [f"trained on {label}" if has_sizes else label for label in labels]


def _rows_of_volumes(rows: pd.DataFrame) -> list[Row]:
    keys = ["landscape_size", "model_size", "variant"]
    means = basins(rows).groupby(keys)["log_mean_power"].mean()
    inside = basins(rows).groupby(keys)["verdict"]
    verdicts, counts = inside.agg(lambda found: ", ".join(sorted(set(found)))), inside.size()
    num_seeds = rows["model_seed"].nunique()
    lines = []
    for landscape in sorted(rows["landscape_size"].unique()):
        best = means.get(landscape, default=pd.Series([math.nan])).max()
        cells = [Cell(f"{landscape:,}", float(landscape))]
        for size, variant in _minima(rows):
            key, is_own = (landscape, size, variant), bool(size == landscape)
            if key not in means.index:
                cells.append(Cell("-", math.nan, NOT_A_MINIMUM, is_own=is_own))
                continue
            note = verdicts[key] + ("" if counts[key] == num_seeds else f", {counts[key]} of {num_seeds} seeds")
            is_largest = bool(means[key] == best)
            cells.append(Cell(nats(means[key]), means[key], note, is_own=is_own, is_largest=is_largest))
        lines.append(Row(tuple(cells)))
    return lines


def row_number(index: Any) -> int:
    """The number of a row of volumes.csv as people count, from 1, by its index in the table."""
    return int(index) + 1


def row_anchor(index: Any) -> str:
    """The name by which the page links to a row of volumes.csv, by its index in the table."""
    return f"row-{row_number(index)}"


def table_of_basins(run: Run) -> Table:
    """Every row of volumes.csv, with what its number is worth."""
    volumes, title = run.volumes, variation_title(run)
    columns = [
        Column("row"),
        Column("seed", can_filter=True),
        Column("trained on", can_filter=True),
        *([Column(title, is_text=True, can_filter=True)] if title else []),
        Column("landscape of", can_filter=True),
        Column("cutoff", can_filter=True),
        Column("log mean r^P (nats)"),
        Column("95 % interval (nats)", is_text=True),
        Column("verdict", is_text=True, can_filter=True),
        Column("effective directions"),
        Column("largest share"),
        Column("never crossed"),
        Column("loss there"),
    ]
    rows = []
    for index, row in volumes.iterrows():
        is_basin = bool(np.isfinite(row["log_mean_power"]))
        cells = [
            Cell(f"{row_number(index)}", float(row_number(index))),
            Cell(f"{row['model_seed']}", float(row["model_seed"])),
            Cell(f"{row['model_size']:,}", float(row["model_size"])),
            *([Cell(str(row["variant"]))] if title else []),
            Cell(f"{row['landscape_size']:,}", float(row["landscape_size"])),
            Cell(f"{row['cutoff']:g}", float(row["cutoff"])),
            _number(row["log_mean_power"], nats(row["log_mean_power"]), is_basin),
            Cell(interval_text(row) if is_basin else "-"),
            Cell(verdict_text(row)),
            _number(row["ess"], f"{row['ess']:.3g} of {row['num_directions']:,}", is_basin),
            _number(row["max_share"], f"{row['max_share']:.1%}", is_basin),
            _number(row["num_censored"], f"{row['num_censored']:,}", is_basin),
            _number(row["landscape_loss"], f"{row['landscape_loss']:.3g}", True),
        ]
        rows.append(Row(tuple(cells), row_anchor(index)))
    return Table("Every minimum on every landscape", tuple(columns), tuple(rows))


def _number(value: float, text: str, is_there: bool) -> Cell:
    return Cell(text, float(value)) if is_there and np.isfinite(value) else Cell("-", math.nan)


def table_of_models(run: Run, has_links: bool) -> Table:
    """Every trained network: its losses and accuracy, and links to its files if the page stays beside them."""
    title = variation_title(run)
    columns = [
        Column("trained on", can_filter=True),
        Column("seed", can_filter=True),
        *([Column(title, is_text=True, can_filter=True)] if title else []),
        Column("train loss"),
        Column("test loss"),
        Column("test accuracy"),
        *([Column("files", is_text=True)] if has_links else []),
    ]
    models = run.volumes.drop_duplicates(list(MODEL_KEYS)).to_dict("records")
    rows = [
        Row(
            (
                Cell(f"{model['model_size']:,}", float(model["model_size"])),
                Cell(f"{model['model_seed']}", float(model["model_seed"])),
                *([Cell(str(model["variant"]))] if title else []),
                Cell(f"{model['train_loss']:.3g}", float(model["train_loss"])),
                Cell(f"{model['test_loss']:.4f}", float(model["test_loss"])),
                Cell(f"{100 * model['test_accuracy']:.1f} %", float(model["test_accuracy"])),
                *([Cell("", links=tuple(_files(run.path, model)))] if has_links else []),
            )
        )
        for model in ({str(name): value for name, value in found.items()} for found in models)
    ]
    return Table("Every trained network", tuple(columns), tuple(rows))


def _files(path: Path, model: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and places of the files of a model, as far as they are there."""
    name = model_name(model["model_seed"], model["model_level"], model["variant"])
    weights = path / "models" / f"{name}.safetensors"
    radii = sorted((path / "radii").glob(f"{name}-*.parquet"))
    parts = [(part.stem.removeprefix(f"{name}-"), part) for part in radii if not part.stem.endswith("-evaluations")]
    # Another model's name may begin with this one's.
    parts = [(label, part) for label, part in parts if label.startswith(("block", "refined", "cutoffs"))]
    return [
        (label, part.relative_to(path).as_posix())
        for label, part in [("weights", weights), *((f"radii {label}", part) for label, part in parts)]
        if part.exists()
    ]


def table_of_published(rows: Sequence[Comparison]) -> Table:
    """The published numbers beside ours."""
    columns = Column("what", is_text=True), Column("published"), Column("here"), Column("difference")
    return Table(
        "Published numbers beside ours",
        columns,
        tuple(
            Row((Cell(row.what), *map(Cell, row.texts(), (row.published, row.ours, row.difference)))) for row in rows
        ),
    )


def variation_title(run: Run) -> str:
    """The name of what varies between models of one size; "" for nothing."""
    varies = run.settings["variation"]
    return str(varies["title"]) if varies else ""
