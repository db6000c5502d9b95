"""Figures of single radii: how they are spread, who holds the weight, and what more directions change."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from ...figures.style import COLORS
from ..records.reading import Run, basins, minimum_label

Floats = NDArray[np.float64]

_MAX_MINIMA = 7  # in one figure: there are as many colors that can be told apart
_SUBSETS = 200


def figures(run: Run) -> Iterator[tuple[str, str, Figure]]:
    """Yields name, caption and figure for the first seed, on the smallest landscape and at the largest cutoff."""
    weights = _log_weights(run)
    if not weights:
        return
    where = f"on the landscape of {run.main['landscape_size'].min():,} examples, seed {run.settings['seeds'][0]}"
    yield (
        "radius-histograms",
        f"Radii of every minimum {where}.",
        radius_histograms(weights, int(run.main["num_params"].iloc[0])),
    )
    yield (
        "weight-concentration",
        f"How much of the sum of r^P the largest directions hold, {where}.",
        weight_concentration(weights),
    )
    if len(weights) > 1:
        yield (
            "ranking-stability",
            f"How often two minima are in the order that all directions give, {where}.",
            ranking_stability(weights),
        )


def _log_weights(run: Run) -> dict[str, Floats]:
    """P ln r of every direction, by minimum; it is minus infinity for rays that do not count. [D] each"""
    rows = run.main
    first = basins(
        rows[
            (rows["model_seed"] == run.settings["seeds"][0]) & (rows["landscape_size"] == rows["landscape_size"].min())
        ]
    )
    has_sizes, found = rows["model_size"].nunique() > 1, {}
    for _, row in first.iloc[:_MAX_MINIMA].iterrows():
        radii = run.radii(row["model_seed"], row["model_level"], row["variant"])
        chosen = radii[(radii["landscape_size"] == row["landscape_size"]) & (radii["cutoff"] == row["cutoff"])]
        radius = chosen["radius"].to_numpy()
        log_radius = np.full(len(radius), -np.inf)
        np.log(radius, where=radius > 0, out=log_radius)  # NaN is not above 0
        label = minimum_label(row["model_size"], row["variant"], has_sizes)
        if np.isfinite(log_radius).any():
            found[label] = row["num_params"] * log_radius
    return found


def radius_histograms(log_weights: dict[str, Floats], dim: int) -> Figure:
    """Histograms of the radii of every minimum, as outlines.

    Args:
        log_weights: P ln r of every direction, by minimum. [D] each
        dim: P.
    """
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    axes = figure.subplots()
    for color, (label, values) in zip(COLORS, log_weights.items(), strict=False):
        radius = np.exp(values[np.isfinite(values)] / dim)
        axes.hist(
            radius, bins=max(10, int(np.sqrt(len(radius)))), histtype="step", color=color, label=label, linewidth=1.5
        )
    axes.set_xlabel("radius (in units of the scale of every parameter)")
    axes.set_ylabel("directions")
    axes.legend(title="trained on", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title("Radii of every minimum on one landscape", loc="left")
    return figure


def weight_concentration(log_weights: dict[str, Floats]) -> Figure:
    """The share of the k largest directions in the sum of r^P, and by how much each falls behind the largest."""
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    share, behind = figure.subplots(1, 2)
    for color, (label, values) in zip(COLORS, log_weights.items(), strict=False):
        ordered = np.sort(values)[::-1]
        held = np.exp(np.logaddexp.accumulate(ordered) - np.logaddexp.reduce(ordered))
        rank = np.arange(1, len(ordered) + 1)
        share.plot(rank, held, color=color, marker=".")
        behind.plot(rank, ordered - ordered[0], color=color, marker=".", label=label)
    for axes in (share, behind):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel("largest directions")
    share.set_ylim(0, 1.05)
    share.set_ylabel("share of the sum of $r^P$")
    share.set_title("How many directions decide a volume", loc="left")
    behind.set_ylabel("$\\ln r^P$ behind the largest (nats)")
    behind.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    behind.legend(title="trained on", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def ranking_stability(log_weights: dict[str, Floats]) -> Figure:
    """The share of random subsets of directions that order two minima as all directions do, for every pair."""
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    axes = figure.subplots()
    table = np.stack(list(log_weights.values()))
    counts, agreement = pair_agreement(table)
    pairs = list(itertools.combinations(log_weights, 2))
    worst = np.argsort(agreement.mean(axis=0), kind="stable")[: len(COLORS) - 1]
    for color, pair in zip(COLORS, worst, strict=False):
        axes.plot(counts, agreement[:, pair], marker="o", color=color, label=" and ".join(pairs[pair]))
    axes.plot(counts, agreement.mean(axis=1), color=COLORS[6], linestyle="--", label=f"mean of {len(pairs)} pairs")
    axes.set_xscale("log")
    axes.set_xticks(counts)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0.0, 1.05)
    axes.set_xlabel("directions")
    axes.set_ylabel("same order")
    axes.legend(title="least stable pairs", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(f"Ranking of minima from fewer directions ({_SUBSETS} subsets each)", loc="left")
    return figure


def pair_agreement(log_weights: Floats) -> tuple[list[int], Floats]:
    """How often subsets of directions order each pair of minima as all directions do.

    Args:
        log_weights: P ln r. [minima, D]

    Returns:
        The sizes of the subsets, and the share of 200 subsets of each size that agree. [sizes, pairs]
    """
    num_minima, count = log_weights.shape
    random = np.random.default_rng(0)
    first, second = np.triu_indices(num_minima, 1)
    everything = np.logaddexp.reduce(log_weights, axis=1)
    is_ahead = everything[first] > everything[second]
    counts = sorted({round(value) for value in np.geomspace(min(2, count), count, 8)})
    shares = []
    for size in counts:
        agrees = np.zeros(len(first))
        for _ in range(_SUBSETS):
            chosen = log_weights[:, random.choice(count, size, replace=False)]
            # Not through log-sum-exp alone: a subset in which no ray counts is in no order.
            sums = np.logaddexp.reduce(chosen, axis=1)
            agrees += (sums[first] > sums[second]) == is_ahead
        shares.append(agrees / _SUBSETS)
    return counts, np.array(shares)
