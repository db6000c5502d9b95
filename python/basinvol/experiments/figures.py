"""Figures from volumes.csv alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, StrMethodFormatter

from ..plots import COLOURS, house_style
from .records import write_atomically


def draw_all(volumes: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Writes every figure as SVG and PNG; returns the SVG text by name."""
    drawings = {"fixed-landscape": fixed_landscape, "varying-landscape": varying_landscape}
    texts = {}
    for name, draw in drawings.items():
        with house_style():
            figure = draw(volumes)
            for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 200})):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, **options)
                write_atomically(folder / f"{name}.{kind}", buffer.getvalue())
                if kind == "svg":
                    texts[name] = buffer.getvalue().decode()
    return texts


def fixed_landscape(volumes: pd.DataFrame) -> Figure:
    """One landscape a line: how large is each minimum there? The minimum trained on that landscape is starred."""
    volumes = _largest_cutoff(volumes)
    figure = Figure(figsize=(7.0, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(2, 1), sharex=True)
    for colour, (size, rows) in zip(COLOURS * 9, volumes.groupby("landscape_size"), strict=False):
        basins = _basins(rows)
        means = basins.groupby("model_size")["log_mean_power"].agg(["mean", "min", "max"])
        top.plot(means.index, means["mean"], marker="o", color=colour, label=f"{size:,}")
        top.fill_between(means.index, means["min"], means["max"], color=colour, alpha=0.15, linewidth=0)
        if size in means.index:
            top.plot([size], [means["mean"][size]], marker="*", markersize=14, color=colour, linestyle="")
    _volume_axis(top)
    top.legend(title="landscape of\n(examples)", loc="center left", bbox_to_anchor=(1.0, 0.5))
    top.set_title("Volume of each minimum, one landscape a line (star: trained on that landscape)", loc="left")

    models = volumes.drop_duplicates(["model_seed", "model_size"]).groupby("model_size")
    test_loss, test_accuracy = models["test_loss"].mean(), models["test_accuracy"].mean()
    bottom.plot(test_loss.index, test_loss, marker="o", color=COLOURS[6], label="test loss")
    bottom.plot(test_accuracy.index, test_accuracy, marker="s", color=COLOURS[4], label="test accuracy")
    bottom.set_ylim(bottom=0)
    bottom.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    bottom.set_xlabel("examples the minimum was trained on")
    _size_axis(bottom, volumes["model_size"])
    return figure


def varying_landscape(volumes: pd.DataFrame) -> Figure:
    """One minimum a line: how large is it as its landscape grows, and where does it stop being a minimum?"""
    volumes = _largest_cutoff(volumes)
    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    cutoff = volumes["cutoff"].iloc[0]
    floor = _basins(volumes)["log_mean_power"].min()
    drop = floor - 0.08 * (_basins(volumes)["log_mean_power"].max() - floor)
    for colour, (size, rows) in zip(COLOURS * 9, volumes.groupby("model_size"), strict=False):
        means = _basins(rows).groupby("landscape_size")["log_mean_power"].mean()
        axes.plot(means.index, means, marker="o", color=colour, label=f"{size:,}")
        ends = rows["ends_at"].dropna()
        if len(ends) and len(means):
            end = float(np.exp(np.log(ends).mean()))
            axes.plot([means.index[-1], end, end], [means.iloc[-1], means.iloc[-1], drop], color=colour, linestyle=":")
            axes.plot([end], [drop], marker="x", color=colour)
    _volume_axis(axes)
    axes.set_xlabel("examples in the landscape")
    axes.legend(title="minimum trained on\n(examples)", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(f"Each minimum as its landscape grows (x: its loss passes the cutoff {cutoff:g})", loc="left")
    _size_axis(axes, volumes["landscape_size"])
    return figure


def _largest_cutoff(volumes: pd.DataFrame) -> pd.DataFrame:
    rows: pd.DataFrame = volumes[volumes["cutoff"] == volumes["cutoff"].max()]
    return rows


def _basins(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which the model is inside its basin."""
    basins: pd.DataFrame = rows[np.isfinite(rows["log_mean_power"])]
    return basins


def _volume_axis(axes: Axes) -> None:
    axes.set_ylabel("log mean $r^P$ (nats)")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _size_axis(axes: Axes, sizes: Any) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(sizes)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
