"""The paper's claims, each held against the rows of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..describe.description import NO_VARIATION
from ..records.reading import basins, own_basins
from .power_law import fit_power_law

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measurable"

# A minimum "changes little" over landscapes if by less than this share of the range between minima.
_LITTLE = 0.5
# Differences between variants count from this many standard deviations over seeds on.
_CLEAR = 2.0


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and what this run says.

    Attributes:
        text: the claim.
        verdict: "holds", "does not hold" or "not measurable".
        reason: why, in one sentence.
        evidence: every comparison that was made.
    """

    text: str
    verdict: str
    reason: str
    evidence: tuple[str, ...] = ()


class _Comparisons:
    """Sentences, and how many of them speak for the claim."""

    def __init__(self) -> None:
        self.evidence: list[str] = []
        self.held = 0
        self.made = 0

    def add(self, sentence: str, holds: bool) -> None:
        self.evidence.append(sentence)
        self.held += holds
        self.made += 1

    def note(self, sentence: str) -> None:
        self.evidence.append(sentence)

    def claim(self, text: str, what: str, otherwise: str) -> Claim:
        """It holds if it does in every comparison; `otherwise` says why none could be made."""
        if not self.made:
            return Claim(text, UNKNOWN, otherwise, tuple(self.evidence))
        verdict = HOLDS if self.held == self.made else FAILS
        return Claim(text, verdict, f"It does in {self.held} of {self.made} {what}.", tuple(self.evidence))


def judge(volumes: pd.DataFrame, names: Sequence[str]) -> list[Claim]:
    """The claims of these names (of `CLAIMS`), in order."""
    return [CLAIMS[name](volumes) for name in names]


def own_is_largest(volumes: pd.DataFrame) -> Claim:
    """On the landscape of N examples, the minimum trained on those N is the largest."""
    found = _Comparisons()
    for where, rows in _groups(volumes, "model_seed", "variant", "cutoff", "landscape_size"):
        size = rows["landscape_size"].iloc[0]
        inside = basins(rows).set_index("model_size")["log_mean_power"]
        if size not in set(rows["model_size"]):
            continue
        if inside.empty:
            found.note(f"{where}: no network has a loss below the cutoff.")
        elif size not in inside.index:
            found.add(f"{where}: the network trained on it has a loss above the cutoff.", False)
        elif len(inside) > 1:
            others = inside.drop(size)
            ahead = inside[size] - others.max()
            found.add(
                f"{where}: the own minimum is {'larger' if ahead > 0 else 'NOT larger'} than that of "
                f"{others.idxmax():,}, the {'next' if ahead > 0 else 'largest'}, by {ahead:,.0f} nats.",
                bool(ahead > 0),
            )
    return found.claim(
        "On the landscape of N examples, the minimum trained on those N examples has the largest volume.",
        "landscapes with several minima",
        "No landscape has two minima.",
    )


def more_data_generalizes(volumes: pd.DataFrame) -> Claim:
    """Minima trained on more data are also minima of the small landscape, generalize better, and are smaller there."""
    found = _Comparisons()
    for where, rows in _groups(volumes, "model_seed", "variant", "cutoff"):
        first = rows[rows["landscape_size"] == rows["landscape_size"].min()].sort_values("model_size")
        if len(basins(first)) < 2:
            continue
        inside = bool(np.isfinite(first["log_mean_power"]).all())
        better = bool((first["test_loss"].diff().dropna() < 0).all())
        smaller = bool((first["log_mean_power"].iloc[1:] < first["log_mean_power"].iloc[0]).all())
        losses = ", ".join(f"{loss:.3f}" for loss in first["test_loss"])
        found.add(
            f"{where}, landscape of {first['landscape_size'].iloc[0]:,}: all are minima there: {_yes(inside)}; test "
            f"loss falls with data ({losses}): {_yes(better)}; all smaller than the own minimum: {_yes(smaller)}.",
            inside and better and smaller,
        )
    return found.claim(
        "Minima trained on more data are also minima of the smaller landscape, generalize better, and are smaller.",
        "sets of minima",
        "The smallest landscape has fewer than two minima.",
    )


def volume_falls_with_size(volumes: pd.DataFrame) -> Claim:
    """The volume of a network trained and measured on its own N falls with N as a power law."""
    found = _Comparisons()
    own = own_basins(volumes)
    for where, rows in _groups(own, "variant", "cutoff"):
        law = fit_power_law(rows)
        if law is None:
            continue
        falls = bool((rows.groupby("model_size")["log_mean_power"].mean().diff().dropna() < 0).all())
        found.add(f"{where}: {law}; falls at every step: {_yes(falls)}.", falls)
    return found.claim(
        "The volume of a network trained and measured on its own N examples falls as N grows, like a power law.",
        "lines through the seeds' means",
        "Fewer than three training sizes have a minimum below the cutoff.",
    )


def minima_end(volumes: pd.DataFrame) -> Claim:
    """A fixed minimum's volume changes little as its landscape grows; then it stops being a minimum."""
    found = _Comparisons()
    for where, rows in _groups(volumes, "model_seed", "variant", "cutoff"):
        largest = rows["model_size"].max()
        first = basins(rows[rows["landscape_size"] == rows["landscape_size"].min()])
        between = first["log_mean_power"].max() - first["log_mean_power"].min()
        for size, minimum in rows.groupby("model_size"):
            inside = basins(minimum)["log_mean_power"]
            if size == largest or inside.empty or not between > 0:
                continue
            change, end = inside.max() - inside.min(), minimum["ends_at"].iloc[0]
            little, ends = bool(change < _LITTLE * between), bool(np.isfinite(end))
            found.add(
                f"{where}, trained on {size:,}: on {len(inside)} landscapes the volume changes by {change:,.0f} nats, "
                f"minima of the smallest landscape differ by {between:,.0f}; "
                + (f"the minimum ends at {end:,.0f} examples." if ends else "it does NOT end on the data of this run."),
                little and ends,
            )
    return found.claim(
        "A fixed minimum's volume changes little as its landscape grows, then ends: its loss passes the cutoff.",
        "minima",
        "No landscape is shared by minima of two training sizes.",
    )


def bad_data_shrinks(volumes: pd.DataFrame) -> Claim:
    """Minima of data with wrong examples added are smaller on the clean landscape."""
    found = _Comparisons()
    for where, rows in _groups(volumes, "model_seed", "variant", "cutoff"):
        by_dose = rows.sort_values("model_level").set_index("model_level")
        clean = by_dose["log_mean_power"].iloc[0]
        if not np.isfinite(clean):
            found.note(f"{where}: the clean minimum has a loss above the cutoff.")
            continue
        for level, row in by_dose.iloc[1:].iterrows():
            if not np.isfinite(row["log_mean_power"]):
                found.note(f"{where}, {level:,} bad examples: not a minimum of the clean landscape.")
                continue
            change = row["log_mean_power"] - clean
            found.add(
                f"{where}, {level:,} bad examples: {change:+,.0f} nats against the clean minimum, test loss "
                f"{row['test_loss']:.3f} against {by_dose['test_loss'].iloc[0]:.3f}.",
                bool(change < 0),
            )
    return found.claim(
        "Minima of data to which wrong examples were added are smaller on the clean landscape.",
        "comparisons with the clean minimum of the same seed",
        "No minimum of spoilt data is below the cutoff on the clean landscape.",
    )


def sam_is_larger(volumes: pd.DataFrame) -> Claim:
    """SAM minima are larger on their own landscape and generalize better."""
    found = _Comparisons()
    own = volumes[volumes["model_size"] == volumes["landscape_size"]]
    plain, sharpness_aware = pd.unique(volumes["variant"])
    for where, rows in _groups(own, "model_seed", "cutoff", "landscape_size"):
        pair = basins(rows).set_index("variant")
        if len(pair) < 2:
            continue
        volume, loss = (
            pair[column][sharpness_aware] - pair[column][plain] for column in ("log_mean_power", "test_loss")
        )
        found.add(
            f"{where}: volume {volume:+,.0f} nats, test loss {loss:+.4f} against {plain}.",
            bool(volume > 0 and loss < 0),
        )
    return found.claim(
        "Minima found by sharpness-aware minimization are larger and generalize better.",
        "pairs of the same seed and data",
        "No pair of minima of the same data is below the cutoff.",
    )


def volume_falls_while_accuracy_rises(volumes: pd.DataFrame) -> Claim:
    """Grokking: over training, volume falls while test accuracy rises."""
    found = _Comparisons()
    for where, rows in _groups(volumes, "model_seed", "cutoff", "landscape_size"):
        inside = basins(rows)
        if len(inside) < 2:
            continue
        volume, accuracy = inside["log_mean_power"].to_numpy(), inside["test_accuracy"].to_numpy()
        ends = f"{inside['variant'].iloc[0]} to {inside['variant'].iloc[-1]}"
        steps = f"{int((np.diff(volume) < 0).sum())} of {len(volume) - 1} steps"
        found.add(
            f"{where}, {ends}: volume {volume[-1] - volume[0]:+,.0f} nats, falling in {steps}; test accuracy from "
            f"{accuracy[0]:.1%} to {accuracy[-1]:.1%}.",
            bool(volume[-1] < volume[0] and accuracy[-1] > accuracy[0]),
        )
    return found.claim(
        "Grokking: while training goes on, the volume falls and the test accuracy rises.",
        "trainings",
        "Fewer than two checkpoints are below the cutoff.",
    )


def variation_matters(volumes: pd.DataFrame) -> Claim:
    """The volume depends on what was varied, by more than on the seed."""
    found = _Comparisons()
    own = own_basins(volumes)
    for where, rows in _groups(own, "cutoff", "landscape_size"):
        by_variant = rows.groupby("variant", sort=False)["log_mean_power"]
        means, spread = by_variant.mean(), float(np.sqrt(by_variant.var().mean()))
        listed = ", ".join(f"{label}: {mean:,.0f}" for label, mean in means.items())
        if len(means) < 2 or not np.isfinite(spread):
            found.note(f"{where}: {listed}; one seed or one variant alone has no spread to compare with.")
            continue
        distance = means.max() - means.min()
        found.add(
            f"{where}: {listed}; the means differ by up to {distance:,.0f} nats, seeds by {spread:,.0f} "
            "(standard deviation).",
            bool(distance > _CLEAR * spread),
        )
    return found.claim(
        "The volume of a minimum depends on how it was trained (batch size, width), by more than on the seed.",
        "landscapes",
        "At least two variants and two seeds with minima below the cutoff are needed.",
    )


def order_survives(volumes: pd.DataFrame) -> Claim:
    """Without filter normalization, minima of more data are still smaller on the smallest landscape."""
    found = _Comparisons()
    for where, rows in _groups(volumes, "model_seed", "variant", "cutoff"):
        first = basins(rows[rows["landscape_size"] == rows["landscape_size"].min()]).sort_values("model_size")
        if len(first) < 2:
            continue
        values = ", ".join(f"{value:,.0f}" for value in first["log_mean_power"])
        found.add(f"{where}: {values}.", bool((first["log_mean_power"].diff().dropna() <= 0).all()))
    return found.claim(
        "Without filter normalization the order survives: on the smallest landscape, the more data, the smaller.",
        "rows of minima",
        "Fewer than two minima are below the cutoff.",
    )


CLAIMS: dict[str, Callable[[pd.DataFrame], Claim]] = {
    claim.__name__: claim
    for claim in (
        own_is_largest,
        more_data_generalizes,
        volume_falls_with_size,
        minima_end,
        bad_data_shrinks,
        sam_is_larger,
        volume_falls_while_accuracy_rises,
        variation_matters,
        order_survives,
    )
}

_WORDS = {
    "model_seed": "seed {}",
    "variant": "{}",
    "cutoff": "cutoff {:g}",
    "landscape_size": "landscape of {:,}",
}


def _groups(volumes: pd.DataFrame, *columns: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows that share these columns, and what they share in words."""
    for values, rows in volumes.groupby(list(columns), sort=False):
        shared: dict[str, Any] = dict(zip(columns, values, strict=True))
        if shared.get("variant") == NO_VARIATION:
            del shared["variant"]
        yield ", ".join(_WORDS[column].format(value) for column, value in shared.items()), rows


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
