"""Figures of single radii: how they are spread, who holds the weight, and what more directions change."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...figures.style import UNITS
from ..records.reading import Run, basins, minimum_label
from .chart import INK, Axis, Chart, Floats, Panel, Series, floats, marker_of

_MAX_MINIMA = 7  # in one figure: there are as many colors that can be told apart
_MAX_PAIRS = 6  # the seventh color is that of the mean of all
_SUBSETS = 200
_MAX_RANKS = 60  # points on a line over all directions
_DIRECTIONS = Axis("largest directions", is_log=True, decimals=0)


def charts(run: Run) -> Iterator[Chart]:
    """Yields the figures of the first seed, on the smallest landscape and at the largest cutoff."""
    log_radii, dims = _log_radii(run)
    if not log_radii:
        return
    weights = {label: dims[label] * values for label, values in log_radii.items()}
    where = f"on the landscape of {run.main['landscape_size'].min():,} examples, seed {run.settings['seeds'][0]}"
    yield radius_histograms(log_radii, UNITS[run.settings["scaling"]], where)
    yield weight_concentration(weights, where)
    if len(weights) > 1:
        yield ranking_stability(weights, where)


def _log_radii(run: Run) -> tuple[dict[str, Floats], dict[str, int]]:
    """The log radius of every direction [D], minus infinity for rays that do not count, and P; both by minimum."""
    rows = run.main
    first = basins(
        rows[
            (rows["model_seed"] == run.settings["seeds"][0]) & (rows["landscape_size"] == rows["landscape_size"].min())
        ]
    )
    has_sizes = rows["model_size"].nunique() > 1
    found: dict[str, Floats] = {}
    dims: dict[str, int] = {}
    for _, row in first.iloc[:_MAX_MINIMA].iterrows():
        radii = run.radii(row["model_seed"], row["model_level"], row["variant"])
        chosen = radii[(radii["landscape_size"] == row["landscape_size"]) & (radii["cutoff"] == row["cutoff"])]
        radius = chosen["radius"].to_numpy()
        log_radius = np.full(len(radius), -np.inf)
        np.log(radius, where=radius > 0, out=log_radius)  # NaN is not above 0
        label = minimum_label(row["model_size"], row["variant"], has_sizes)
        if np.isfinite(log_radius).any():
            found[label], dims[label] = log_radius, int(row["num_params"])
    return found, dims


def radius_histograms(log_radii: dict[str, Floats], unit: str, where: str) -> Chart:
    """Histograms of the radii of every minimum, as outlines.

    Args:
        log_radii: ln r of every direction, by minimum. [D] each
        unit: of the radii.
        where: the landscape and seed, for the caption.
    """
    drawn = []
    for index, (label, values) in enumerate(log_radii.items()):
        radius = np.exp(values[np.isfinite(values)])
        counts, edges = np.histogram(radius, bins=max(10, int(np.sqrt(len(radius)))))
        told = [
            (f"minimum {label}", f"{count:,} of {len(values):,} directions", f"radius {low:.4g} to {high:.4g}")
            for count, low, high in zip(counts, edges, edges[1:], strict=False)
        ]
        outline = np.repeat(edges, 2), np.concatenate([[0], np.repeat(counts, 2), [0]])
        hover = (told[0], *(one for one in told for _ in range(2)), told[-1])
        summary = f"radii from {radius.min():.4g} to {radius.max():.4g}, median {np.median(radius):.4g}"
        x, y = floats(outline[0]), floats(outline[1])
        drawn.append(Series(label, x, y, index, marks="line", hover=hover, summary=summary))
    axes = Axis(f"radius ({unit})"), Axis("directions", limits=(0.0, None), decimals=0)
    return Chart(
        "radius-histograms",
        "Radii of every minimum on one landscape",
        f"Radii of every minimum {where}.",
        (Panel(*axes, tuple(drawn)),),
        legend="trained on",
    )


def weight_concentration(log_weights: dict[str, Floats], where: str) -> Chart:
    """The share of the k largest directions in the sum of r^P, and by how much each falls behind the largest.

    Args:
        log_weights: P ln r of every direction, by minimum. [D] each
        where: the landscape and seed, for the caption.
    """
    share, behind = [], []
    for index, (label, values) in enumerate(log_weights.items()):
        ordered = np.sort(values)[::-1]
        held = np.exp(np.logaddexp.accumulate(ordered) - np.logaddexp.reduce(ordered))
        rank = np.unique(np.geomspace(1, len(ordered), _MAX_RANKS).round().astype(int))
        lead = ordered[rank - 1] - ordered[0]
        look: dict[str, Any] = {"color": index, "marker": marker_of(index)}
        told = [
            (
                f"minimum {label}",
                f"the {k:,} largest hold {held[k - 1]:.4g} of the sum",
                f"number {k:,} is {-gap:,.1f} nats behind",
            )
            for k, gap in zip(rank.tolist(), lead, strict=True)
        ]
        share.append(Series(label, floats(rank), held[rank - 1], hover=tuple(told), **look))
        reached = np.isfinite(lead)
        told = [one for one, counts in zip(told, reached, strict=True) if counts]
        behind.append(Series(label, floats(rank[reached]), lead[reached], hover=tuple(told), **look))
    return Chart(
        "weight-concentration",
        "How many directions decide a volume",
        f"How much of the sum of r^P the largest directions hold, {where}.",
        (
            Panel(_DIRECTIONS, Axis("share of the sum of r^P", limits=(0.0, 1.05)), tuple(share)),
            Panel(_DIRECTIONS, Axis("ln r^P behind the largest (nats)", decimals=0), tuple(behind)),
        ),
        legend="trained on",
        is_stacked=False,
    )


def ranking_stability(log_weights: dict[str, Floats], where: str) -> Chart:
    """The share of random subsets of directions that order two minima as all directions do, for every pair.

    Args:
        log_weights: P ln r of every direction, by minimum. [D] each
        where: the landscape and seed, for the caption.
    """
    counts, agreement = pair_agreement(np.stack(list(log_weights.values())))
    pairs, sizes = list(itertools.combinations(log_weights, 2)), floats(counts)
    worst = np.argsort(agreement.mean(axis=0), kind="stable")[:_MAX_PAIRS]
    drawn = [
        Series(" and ".join(pairs[pair]), sizes, agreement[:, pair], color, marker=marker_of(color))
        for color, pair in enumerate(worst)
    ]
    if len(pairs) > 1:
        name = f"mean of {len(pairs)} pairs"
        drawn.append(Series(name, sizes, agreement.mean(axis=1), INK, marks="line", dash="dash"))
    return Chart(
        "ranking-stability",
        f"Ranking of minima from fewer directions ({_SUBSETS} subsets each)",
        f"How often two minima are in the order that all directions give, {where}.",
        (
            Panel(
                Axis("directions", is_log=True, ticks=tuple((float(count), f"{count:,}") for count in counts)),
                Axis("share of subsets with the same order", limits=(0.0, 1.05)),
                tuple(drawn),
            ),
        ),
        legend="least stable pairs",
    )


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
