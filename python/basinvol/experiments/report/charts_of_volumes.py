"""The figures of the rows of volumes.csv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..describe.description import NO_VARIATION
from ..records.reading import basins, own_basins
from .chart import INK, Axis, Chart, Panel, Series, floats, marker_of
from .power_law import fit_power_law
from .wording import basin_lines

_VOLUME = Axis("log mean r^P (nats)", decimals=0)


def fixed_landscape(rows: pd.DataFrame, name: str, note: str = "") -> Chart:
    """A line for each landscape: how large is each minimum there? A star marks the minimum that was trained on it.

    Args:
        rows: of one cutoff and variant.
        name: of the figure's files.
        note: which minima they are, for the title and the caption.
    """
    lines, stars = [], []
    for index, (size, some) in enumerate(basins(rows).groupby("landscape_size")):
        label = f"{size:,}"
        lines.append(_volumes(some, "model_size", index, label))
        own = some[some["model_size"] == size]
        if len(own):
            stars.append(_volumes(own, "model_size", index, label, marks="points", marker="star", in_legend=False))
    x = _size_axis("examples the minimum was trained on", rows["model_size"])
    return Chart(
        name,
        f"Volume of each minimum{note}, a line for each landscape (star: trained on that landscape)",
        f"Which minimum is largest on each landscape, and how well each generalizes{note}.",
        (Panel(x, _VOLUME, (*lines, *stars), note=_censored(rows), share=3.0), *_generalization(rows, x, "model_size")),
        legend="landscape of (examples)",
    )


def varying_landscape(rows: pd.DataFrame, name: str, note: str = "") -> Chart:
    """A line for each minimum, its volume as its landscape grows, up to where it stops being a minimum.

    Args:
        rows: of one cutoff and variant.
        name: of the figure's files.
        note: which minima they are, for the title and the caption.
    """
    inside = basins(rows)["log_mean_power"]
    drop = 0.0 if inside.empty else inside.min() - 0.08 * max(inside.max() - inside.min(), 1.0)
    lines: list[Series] = []
    for index, (size, some) in enumerate(rows.groupby("model_size")):
        if basins(some).empty:
            continue
        line = _volumes(basins(some), "landscape_size", index, f"{size:,}", has_band=False)
        lines.append(line)
        ends = some.drop_duplicates("model_seed")["ends_at"].dropna()
        if len(ends):
            lines += _end(line, float(np.exp(np.log(ends).mean())), drop)
    cutoff = rows["cutoff"].iloc[0]
    return Chart(
        name,
        f"Each minimum{note} as its landscape grows (x: its loss passes the cutoff {cutoff:g})",
        f"How each minimum shrinks as examples are added, and where it stops being a minimum{note}.",
        (
            Panel(
                _size_axis("examples in the landscape", rows["landscape_size"]), _VOLUME, tuple(lines), _censored(rows)
            ),
        ),
        legend="minimum trained on (examples)",
    )


def _end(line: Series, end: float, drop: float) -> list[Series]:
    """The dotted way from the last landscape of a minimum down to the size `end` at which it stops being one."""
    told = ((f"minimum trained on {line.name}", f"ends on a landscape of {end:,.0f} examples"),)
    way = floats([line.x[-1], end, end]), floats([line.y[-1], line.y[-1], drop])
    return [
        Series(line.name, *way, line.color, marks="line", dash="dot", hover=told * 3, in_legend=False),
        Series(line.name, way[0][2:], way[1][2:], line.color, "points", "end", hover=told, in_legend=False),
    ]


def power_law(rows: pd.DataFrame) -> Chart:
    """Volume on the landscape that each minimum was trained on, against size; a line and its slope for each variant."""
    drawn: list[Series] = []
    for index, (variant, some) in enumerate(own_basins(rows).groupby("variant", sort=False)):
        law, name = fit_power_law(some), "" if variant == NO_VARIATION else f"{variant}: "
        if some["model_seed"].nunique() > 1:
            drawn += [_seed(seed, index, name) for _, seed in some.groupby("model_seed")]
        label = f"{name}mean over seeds" if some["model_seed"].nunique() > 1 else f"{name}volume"
        drawn.append(_volumes(some, "model_size", index, label, marks="points", has_band=False))
        if law is not None:
            size = np.geomspace(some["model_size"].min(), some["model_size"].max(), 50)
            label = f"{name}{law.slope:,.0f} ln N + {law.intercept:,.0f}"
            if law.interval is not None:
                label += f" (95 % of seeds: slope {law.interval[0]:,.0f} to {law.interval[1]:,.0f})"
            line = law.slope * np.log(size) + law.intercept
            drawn.append(Series(label, floats(size), floats(line), index, marks="line", hover=((label,),) * 50))
    x = _size_axis("examples N, trained and measured on", rows["model_size"])
    return Chart(
        "power-law",
        "Volume of each minimum on the data it was trained on",
        "The volume of each network on its own data, with the least-squares line through the seeds' means.",
        (Panel(x, _VOLUME, tuple(drawn), _censored(own_basins(rows))),),
    )


def _seed(rows: pd.DataFrame, index: int, name: str) -> Series:
    return _volumes(rows, "model_size", index, f"{name}single seeds", marks="points", is_pale=True, has_band=False)


def bad_data(volumes: pd.DataFrame) -> Chart:
    """Volume on the clean landscape, and generalization, against the number of wrong examples."""
    lines = [
        _volumes(basins(some), "model_level", index, f"{cutoff:g}")
        for index, (cutoff, some) in enumerate(volumes.groupby("cutoff"))
        if not basins(some).empty
    ]
    levels = sorted(volumes["model_level"].unique())
    x = Axis("wrong examples added to the training set", ticks=tuple((level, f"{level:,}") for level in levels))
    panels = (
        Panel(x, _VOLUME, tuple(lines), note=_censored(volumes), share=3.0),
        *_generalization(volumes, x, "model_level"),
    )
    return Chart(
        "bad-data",
        f"Volume on the clean landscape of {volumes['landscape_size'].iloc[0]:,} examples",
        "The volume on the clean landscape of minima whose training data had wrong examples added.",
        panels,
        legend="cutoff",
    )


def variation(volumes: pd.DataFrame, title: str) -> Chart:
    """Volume on the data of the training, and test accuracy, by variant; a line for each size and cutoff.

    Args:
        volumes: the rows of volumes.csv.
        title: name of what varies.
    """
    labels = list(pd.unique(volumes["variant"]))
    rows = volumes.assign(position=volumes["variant"].map(labels.index))
    x = Axis(title, ticks=tuple((place, label.rpartition(" ")[2]) for place, label in enumerate(labels)))
    models = rows.drop_duplicates(["model_seed", "variant", "model_size"])
    top = [
        _volumes(some, "position", index, f"{size:,} at {cutoff:g}")
        for index, ((size, cutoff), some) in enumerate(own_basins(rows).groupby(["model_size", "cutoff"]))
    ]
    bottom = [
        _line(some.groupby("position")["test_accuracy"], index, f"accuracy, {size:,}", in_legend=False)
        for index, (size, some) in enumerate(models.groupby("model_size"))
    ]
    return Chart(
        "variation",
        "Volume on the landscape that the network was trained on",
        f"Volume on the landscape that each minimum was trained on, and test accuracy, by {title}.",
        (
            Panel(x, _VOLUME, tuple(top), note=_censored(own_basins(volumes)), share=2.0),
            Panel(x, Axis("test accuracy"), tuple(bottom)),
        ),
        legend="examples at cutoff",
    )


def _volumes(rows: pd.DataFrame, column: str, index: int, name: str, has_band: bool = True, **look: Any) -> Series:
    """The mean volume over seeds against a column, with a band from the smallest seed to the largest."""
    groups = [some for _, some in rows.groupby(column)]
    band = _band(groups, "log_mean_power") if has_band else {}
    return Series(
        name,
        floats([some[column].iloc[0] for some in groups]),
        floats([some["log_mean_power"].mean() for some in groups]),
        index,
        hover=tuple(basin_lines(some) for some in groups),
        rows=tuple(int(some.index[0]) for some in groups),
        **{"marker": marker_of(index), **band, **look},
    )


def _line(groups: Any, index: int, name: str, **look: Any) -> Series:
    """The mean over seeds, and a band from the smallest to the largest."""
    parts = [some for _, some in groups]
    band = _band([some.to_frame("value") for some in parts], "value")
    x = floats([key for key, _ in groups])
    return Series(
        name, x, floats([some.mean() for some in parts]), index, **{"marker": marker_of(index), **band, **look}
    )


def _band(groups: Sequence[pd.DataFrame], column: str) -> dict[str, Any]:
    """The ends of the band, if there is more than one seed."""
    if all(len(some) == 1 for some in groups):
        return {}
    return {
        end: floats([getattr(some[column], find)() for some in groups])
        for end, find in (("low", "min"), ("high", "max"))
    }


def _generalization(rows: pd.DataFrame, x: Axis, column: str) -> tuple[Panel, Panel]:
    models = rows.drop_duplicates(["model_seed", column]).groupby(column)
    loss = _line(models["test_loss"], INK, "test loss", marker="x", in_legend=False)
    accuracy = _line(models["test_accuracy"], INK, "test accuracy", marker="x", in_legend=False)
    return Panel(x, Axis("test loss", limits=(0.0, None)), (loss,)), Panel(x, Axis("test accuracy"), (accuracy,))


def _censored(rows: pd.DataFrame) -> str:
    """How many rays never crossed: the published method drops them, the other counts them with a bound."""
    inside = basins(rows)
    censored, count = int(inside["num_censored"].sum()), int(inside["num_directions"].sum())
    return f"{censored:,} of {count:,} rays never crossed" if censored else ""


def _size_axis(title: str, sizes: Any) -> Axis:
    return Axis(title, is_log=True, ticks=tuple((float(size), f"{size:,}") for size in sorted(set(sizes))))
