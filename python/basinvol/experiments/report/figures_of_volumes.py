"""The figures that are drawn from the rows of volumes.csv."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, StrMethodFormatter

from ...figures.style import COLORS
from ..describe.description import NO_VARIATION
from ..records.reading import basins, own_basins
from .power_law import fit_power_law

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}


def fixed_landscape(rows: pd.DataFrame) -> Figure:
    """A line for each landscape: how large is each minimum there? A star marks the minimum that was trained on it."""
    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    top, loss, accuracy = figure.subplots(3, 1, height_ratios=(3, 1, 1), sharex=True)
    _note_censored(top, rows)
    for index, (size, some) in enumerate(basins(rows).groupby("landscape_size")):
        _line(top, some.groupby("model_size")["log_mean_power"], index, f"{size:,}")
        own = some[some["model_size"] == size]["log_mean_power"]
        if len(own):
            top.plot([size], [own.mean()], marker="*", markersize=14, color=_color(index), linestyle="")
    _volume_axis(top)
    _legend(top, title="landscape of\n(examples)", **_BESIDE)
    top.set_title("Volume of each minimum, a line for each landscape (star: trained on that landscape)", loc="left")
    _generalization(loss, accuracy, rows, "model_size")
    accuracy.set_xlabel("examples the minimum was trained on")
    _size_axis(accuracy, rows["model_size"])
    return figure


def varying_landscape(rows: pd.DataFrame) -> Figure:
    """A line for each minimum, its volume as its landscape grows, up to where it stops being a minimum."""
    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    _note_censored(axes, rows)
    inside = basins(rows)["log_mean_power"]
    drop = 0.0 if inside.empty else inside.min() - 0.08 * max(inside.max() - inside.min(), 1.0)
    for index, (size, some) in enumerate(rows.groupby("model_size")):
        means = basins(some).groupby("landscape_size")["log_mean_power"].mean()
        if means.empty:
            continue
        axes.plot(means.index, means, marker=_marker(index), color=_color(index), label=f"{size:,}")
        ends = some.drop_duplicates("model_seed")["ends_at"].dropna()
        if len(ends):
            end = float(np.exp(np.log(ends).mean()))
            path = [means.index[-1], end, end], [means.iloc[-1], means.iloc[-1], drop]
            axes.plot(*path, color=_color(index), linestyle=":")
            axes.plot([end], [drop], marker="x", color=_color(index))
    _volume_axis(axes)
    axes.set_xlabel("examples in the landscape")
    _legend(axes, title="minimum trained on\n(examples)", **_BESIDE)
    cutoff = rows["cutoff"].iloc[0]
    axes.set_title(f"Each minimum as its landscape grows (x: its loss passes the cutoff {cutoff:g})", loc="left")
    _size_axis(axes, rows["landscape_size"])
    return figure


def power_law(rows: pd.DataFrame) -> Figure:
    """Volume on the landscape that each minimum was trained on, against size; a line and its slope for each variant."""
    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    _note_censored(axes, own_basins(rows))
    for index, (variant, some) in enumerate(own_basins(rows).groupby("variant", sort=False)):
        law, name = fit_power_law(some), "" if variant == NO_VARIATION else f"{variant}: "
        color, marker = _color(index), _marker(index)
        axes.plot(some["model_size"], some["log_mean_power"], marker=marker, color=color, linestyle="", alpha=0.35)
        means = some.groupby("model_size")["log_mean_power"].mean()
        axes.plot(means.index, means, marker=marker, color=color, linestyle="", label=f"{name}mean over seeds")
        if law is not None:
            size = np.geomspace(means.index.min(), means.index.max(), 50)
            label = f"{name}{law.slope:,.0f} ln N + {law.intercept:,.0f}"
            if law.interval is not None:
                label += f"\n95 % of seeds: slope {law.interval[0]:,.0f} to {law.interval[1]:,.0f}"
            axes.plot(size, law.slope * np.log(size) + law.intercept, color=color, label=label)
    _volume_axis(axes)
    _legend(axes, loc="best")
    axes.set_xlabel("examples N, trained and measured on")
    axes.set_title("Volume of each minimum on the data it was trained on (pale: single seeds)", loc="left")
    _size_axis(axes, rows["model_size"])
    return figure


def bad_data(volumes: pd.DataFrame) -> Figure:
    """Volume on the clean landscape, and generalization, against the number of wrong examples."""
    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    top, loss, accuracy = figure.subplots(3, 1, height_ratios=(3, 1, 1), sharex=True)
    _note_censored(top, volumes)
    for index, (cutoff, some) in enumerate(volumes.groupby("cutoff")):
        inside = basins(some)
        if not inside.empty:
            _line(top, inside.groupby("model_level")["log_mean_power"], index, f"{cutoff:g}")
    _volume_axis(top)
    _legend(top, title="cutoff", **_BESIDE)
    top.set_title(f"Volume on the clean landscape of {volumes['landscape_size'].iloc[0]:,} examples", loc="left")
    _generalization(loss, accuracy, volumes, "model_level")
    accuracy.set_xlabel("wrong examples added to the training set")
    accuracy.set_xticks(sorted(volumes["model_level"].unique()))
    return figure


def variation(volumes: pd.DataFrame, title: str) -> Figure:
    """Volume on the data of the training, and test accuracy, by variant; a line for each size and cutoff.

    Args:
        volumes: the rows of volumes.csv.
        title: name of what varies.
    """
    figure = Figure(figsize=(7.0, 5.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(2, 1), sharex=True)
    _note_censored(top, own_basins(volumes))
    labels = list(pd.unique(volumes["variant"]))
    rows = volumes.assign(position=volumes["variant"].map(labels.index))
    own, sizes = own_basins(rows), sorted(rows["model_size"].unique())
    for index, ((size, cutoff), some) in enumerate(own.groupby(["model_size", "cutoff"])):
        _line(top, some.groupby("position")["log_mean_power"], index, f"{size:,} at {cutoff:g}")
    _volume_axis(top)
    _legend(top, title="examples at cutoff", **_BESIDE)
    top.set_title("Volume on the landscape that the network was trained on", loc="left")
    for index, size in enumerate(sizes):
        some = rows[rows["model_size"] == size].drop_duplicates(["model_seed", "variant"])
        _line(bottom, some.groupby("position")["test_accuracy"], index, f"{size:,}")
    bottom.set_ylabel("test accuracy")
    bottom.set_xticks(range(len(labels)), [label.rpartition(" ")[2] for label in labels])
    bottom.set_xlabel(title)
    return figure


def _line(axes: Axes, groups: Any, index: int, label: str) -> None:
    """Draws the mean over seeds, and a band from the smallest to the largest."""
    means, low, high = groups.mean(), groups.min(), groups.max()
    axes.plot(means.index, means, marker=_marker(index), color=_color(index), label=label)
    axes.fill_between(means.index, low, high, color=_color(index), alpha=0.15, linewidth=0)


def _generalization(loss: Axes, accuracy: Axes, rows: pd.DataFrame, column: str) -> None:
    models = rows.drop_duplicates(["model_seed", column]).groupby(column)
    _line(loss, models["test_loss"], 6, "")
    _line(accuracy, models["test_accuracy"], 6, "")
    loss.set_ylabel("test loss")
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel("test accuracy")


def _legend(axes: Axes, **options: Any) -> None:
    """Adds a legend if there is anything to name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def _note_censored(axes: Axes, rows: pd.DataFrame) -> None:
    """Writes how many rays never crossed: the published method drops them, the other counts them with a bound."""
    inside = basins(rows)
    censored, count = int(inside["num_censored"].sum()), int(inside["num_directions"].sum())
    if censored:
        text = f"{censored:,} of {count:,} rays never crossed"
        axes.annotate(text, (0.99, 0.98), xycoords="axes fraction", ha="right", va="top", fontsize=8, color=COLORS[1])


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _marker(index: int) -> str:
    return _MARKERS[index % len(_MARKERS)]


def _volume_axis(axes: Axes) -> None:
    axes.set_ylabel("log mean $r^P$ (nats)")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _size_axis(axes: Axes, sizes: Any) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(sizes)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
