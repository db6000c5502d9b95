"""The paper's claims, each held against the rows of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and what this run says: "holds", "does not hold" or "not measurable"."""

    text: str
    verdict: str
    evidence: tuple[str, ...]


def judge(volumes: pd.DataFrame) -> list[Claim]:
    """All claims that a data-scaling run can speak to."""
    return [own_minimum_is_largest(volumes), more_data_generalizes(volumes), volume_falls_with_size(volumes)]


def own_minimum_is_largest(volumes: pd.DataFrame) -> Claim:
    """On the landscape of N examples, the minimum trained on those N is the largest."""
    evidence, failures, compared = [], 0, 0
    for (seed, cutoff, size), rows in volumes.groupby(["model_seed", "cutoff", "landscape_size"]):
        basins = rows[np.isfinite(rows["log_mean_power"])].set_index("model_size")["log_mean_power"]
        where = f"seed {seed}, cutoff {cutoff:g}, landscape of {size:,}"
        if size not in basins.index:
            evidence.append(f"{where}: the minimum trained on it has a loss above the cutoff.")
            failures += 1
        elif len(basins) > 1:
            compared += 1
            others = basins.drop(size)
            ahead = basins[size] - others.max()
            failures += ahead <= 0
            best = f"that of {others.idxmax():,}"
            evidence.append(
                f"{where}: the own minimum is {'larger' if ahead > 0 else 'NOT larger'} than {best}, "
                f"the {'next' if ahead > 0 else 'largest'}, by {ahead:,.0f} nats."
            )
    verdict = "not measurable" if compared + failures == 0 else "does not hold" if failures else "holds"
    text = "On the landscape of N examples, the minimum trained on those N examples has the largest volume."
    return Claim(text, verdict, tuple(evidence))


def more_data_generalizes(volumes: pd.DataFrame) -> Claim:
    """Minima trained on more data are also minima of the small landscape, generalize better, and are smaller there."""
    evidence, holds, compared = [], True, False
    for (seed, cutoff), rows in volumes.groupby(["model_seed", "cutoff"]):
        first = rows[rows["landscape_size"] == rows["landscape_size"].min()].sort_values("model_size")
        if len(first) < 2:
            continue
        compared = True
        inside = bool(np.isfinite(first["log_mean_power"]).all())
        better = bool((first["test_loss"].diff().dropna() < 0).all())
        smaller = bool((first["log_mean_power"].iloc[1:] < first["log_mean_power"].iloc[0]).all())
        holds &= inside and better and smaller
        size = first["landscape_size"].iloc[0]
        losses = ", ".join(f"{loss:.3f}" for loss in first["test_loss"])
        evidence.append(
            f"seed {seed}, cutoff {cutoff:g}, landscape of {size:,}: all are minima there: {_yes(inside)}; test loss "
            f"falls with data ({losses}): {_yes(better)}; all smaller than the own minimum: {_yes(smaller)}."
        )
    text = "Minima trained on more data are also minima of the smaller landscape, generalize better, and are smaller."
    return Claim(text, ("holds" if holds else "does not hold") if compared else "not measurable", tuple(evidence))


def volume_falls_with_size(volumes: pd.DataFrame) -> Claim:
    """The volume of a network trained and measured on its own N falls with N as a power law."""
    evidence, holds, compared = [], True, False
    own = volumes[(volumes["model_size"] == volumes["landscape_size"]) & np.isfinite(volumes["log_mean_power"])]
    for cutoff, rows in own.groupby("cutoff"):
        means = rows.groupby("model_size")["log_mean_power"].mean()
        if len(means) < 3:
            continue
        compared = True
        log_size = np.log(means.index.to_numpy(dtype=float))
        slope, intercept = np.polyfit(log_size, means.to_numpy(), 1)
        explained = np.corrcoef(log_size, means.to_numpy())[0, 1] ** 2
        falls = bool((means.diff().dropna() < 0).all())
        holds &= falls
        evidence.append(
            f"cutoff {cutoff:g}: log V = {slope:,.1f} ln N + {intercept:,.1f}, r^2 = {explained:.3f}, "
            f"exponent per parameter {slope / rows['num_params'].iloc[0]:.4f}; falls at every step: {_yes(falls)}."
        )
    text = "The volume of a network trained and measured on its own N examples falls as N grows, like a power law."
    return Claim(text, ("holds" if holds else "does not hold") if compared else "not measurable", tuple(evidence))


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
