"""The paper's claims, each held against the rows of a run.

Every claim is one function: it gets the rows of one group and yields the comparisons that they allow. What is common to
all claims (the groups, the count, the verdict) is in `_claim`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..describe.description import NO_VARIATION
from ..records.reading import basins, own_basins
from .power_law import fit_power_law
from .wording import nats

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measurable"

# A minimum "changes little" over landscapes if by less than this share of the range between minima.
_LITTLE = 0.5
# Differences between variants count from this many standard deviations over seeds on.
_CLEAR = 2.0

# How the value that the rows of a group share is written.
_WORDS = {
    "model_seed": "seed {}",
    "variant": "{}",
    "cutoff": "cutoff {:g}",
    "landscape_size": "landscape of {:,}",
}


@dataclass(frozen=True)
class Evidence:
    """One comparison that was made for a claim.

    Attributes:
        sentence: what was compared and what came out.
        holds: whether it speaks for the claim; None if it speaks neither for nor against it.
        rows: index of the rows of volumes.csv that were compared.
        doubt: why the masses that were compared do not settle it; "" where they do, or where rays were compared.
    """

    sentence: str
    holds: bool | None
    rows: tuple[int, ...]
    doubt: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and what this run says about it.

    Attributes:
        text: the claim.
        verdict: "holds", "does not hold" or "not measurable".
        reason: why, in one sentence.
        evidence: every comparison that was made.
    """

    text: str
    verdict: str
    reason: str
    evidence: tuple[Evidence, ...] = ()

    @property
    def counterexamples(self) -> tuple[Evidence, ...]:
        """The comparisons that speak against the claim."""
        return tuple(found for found in self.evidence if found.holds is False)


@dataclass(frozen=True)
class _Comparison:
    """What a claim finds in the rows of one group.

    Attributes:
        sentence: what was compared and what came out.
        holds: whether it speaks for the claim; None if it speaks neither for nor against it.
        about: what in the group it is about, if not all of it.
        rows: index of the rows that were compared; None for the whole group.
    """

    sentence: str
    holds: bool | None
    about: str = ""
    rows: Iterable[int] | None = None


_Rows = pd.DataFrame
_Compare = Callable[[_Rows], Iterator[_Comparison]]

CLAIMS: dict[str, Callable[[_Rows], Claim]] = {}


def judge(volumes: pd.DataFrame, names: Sequence[str]) -> list[Claim]:
    """Judges the claims of these names (see `CLAIMS`), in order.

    Args:
        volumes: the rows of volumes.csv.
        names: of the claims.
    """
    return [CLAIMS[name](volumes) for name in names]


def _claim(
    text: str, counted: str, otherwise: str, by: tuple[str, ...], chosen: Callable[[_Rows], _Rows] = lambda rows: rows
) -> Callable[[_Compare], _Compare]:
    """Registers a claim under the name of the function that compares the rows of one group.

    The claim holds if every comparison speaks for it, and is not measurable if none does either way.

    Args:
        text: the claim.
        counted: what one comparison is about, in the plural.
        otherwise: why no comparison could be made.
        by: the columns that the rows of a group share.
        chosen: picks the rows that are grouped.
    """

    def register(compare: _Compare) -> _Compare:
        def claim(volumes: _Rows) -> Claim:
            evidence = []
            for where, rows in _groups(chosen(volumes), by):
                for found in compare(rows):
                    place = f"{where}, {found.about}" if found.about else where
                    compared = rows.index if found.rows is None else found.rows
                    numbers = tuple(int(number) for number in compared)
                    evidence.append(Evidence(f"{place}: {found.sentence}", found.holds, numbers))
            votes = [found.holds for found in evidence if found.holds is not None]
            if not votes:
                return Claim(text, UNKNOWN, otherwise, tuple(evidence))
            reason = f"It holds in {sum(votes)} of {len(votes)} {counted}."
            return Claim(text, HOLDS if all(votes) else FAILS, reason, tuple(evidence))

        CLAIMS[compare.__name__] = claim
        return compare

    return register


def _groups(volumes: _Rows, columns: tuple[str, ...]) -> Iterator[tuple[str, _Rows]]:
    """Rows that share these columns, and what they share in words."""
    for values, rows in volumes.groupby(list(columns), sort=False):
        shared: dict[str, Any] = dict(zip(columns, values, strict=True))
        if shared.get("variant") == NO_VARIATION:
            del shared["variant"]
        yield ", ".join(_WORDS[column].format(value) for column, value in shared.items()), rows


@_claim(
    "On the landscape of N examples, the minimum trained on those N examples has the largest volume.",
    counted="landscapes with several minima",
    otherwise="No landscape has two minima.",
    by=("model_seed", "variant", "cutoff", "landscape_size"),
)
def own_is_largest(rows: _Rows) -> Iterator[_Comparison]:
    """The minimum trained on a landscape is compared with the largest of the others there."""
    size = rows["landscape_size"].iloc[0]
    inside = basins(rows).set_index("model_size")["log_mean_power"]
    row_of = dict(zip(rows["model_size"], rows.index, strict=True))
    if size not in row_of:
        return
    if inside.empty:
        yield _Comparison("no network has a loss below the cutoff.", None)
    elif size not in inside.index:
        yield _Comparison("the network trained on it has a loss above the cutoff.", False, rows=(row_of[size],))
    elif len(inside) > 1:
        others = inside.drop(size)
        ahead = inside[size] - others.max()
        yield _Comparison(
            f"the minimum trained on it is {'larger' if ahead > 0 else 'NOT larger'} than that of "
            f"{others.idxmax():,} examples, the {'next' if ahead > 0 else 'largest'}, by {nats(abs(ahead))} nats.",
            bool(ahead > 0),
            rows=(row_of[size], row_of[others.idxmax()]),
        )


@_claim(
    "Minima trained on more data are also minima of the smaller landscape, generalize better, and are smaller.",
    counted="sets of minima",
    otherwise="The smallest landscape has fewer than two minima.",
    by=("model_seed", "variant", "cutoff"),
)
def more_data_generalizes(rows: _Rows) -> Iterator[_Comparison]:
    """All minima of one seed are compared on the smallest landscape."""
    first = _on_smallest(rows).sort_values("model_size")
    if len(basins(first)) < 2:
        return
    inside = bool(np.isfinite(first["log_mean_power"]).all())
    better = bool((first["test_loss"].diff().dropna() < 0).all())
    smaller = bool((first["log_mean_power"].iloc[1:] < first["log_mean_power"].iloc[0]).all())
    losses = ", ".join(f"{loss:.3f}" for loss in first["test_loss"])
    yield _Comparison(
        f"all are minima there: {_yes(inside)}; the test loss falls with data ({losses}): {_yes(better)}; all are "
        f"smaller than the minimum trained on it: {_yes(smaller)}.",
        inside and better and smaller,
        _WORDS["landscape_size"].format(first["landscape_size"].iloc[0]),
        first.index,
    )


@_claim(
    "The volume of a network trained and measured on its own N examples falls as N grows, like a power law.",
    counted="lines through the means over seeds",
    otherwise="Fewer than three training sizes have a minimum below the cutoff.",
    by=("variant", "cutoff"),
    chosen=own_basins,
)
def volume_falls_with_size(rows: _Rows) -> Iterator[_Comparison]:
    """The means over seeds must fall at every step; the line is reported beside that."""
    law = fit_power_law(rows)
    if law is not None:
        falls = bool((rows.groupby("model_size")["log_mean_power"].mean().diff().dropna() < 0).all())
        yield _Comparison(f"{law}; it falls at every step: {_yes(falls)}.", falls)


@_claim(
    "A fixed minimum's volume changes little as its landscape grows, then ends: its loss passes the cutoff.",
    counted="minima",
    otherwise="No landscape is shared by minima of two training sizes.",
    by=("model_seed", "variant", "cutoff"),
)
def minima_end(rows: _Rows) -> Iterator[_Comparison]:
    """Every minimum but the last, which no larger landscape could end, is followed over the landscapes."""
    first = basins(_on_smallest(rows))
    between = first["log_mean_power"].max() - first["log_mean_power"].min()
    for size, minimum in rows.groupby("model_size"):
        inside = basins(minimum)["log_mean_power"]
        if size == rows["model_size"].max() or inside.empty or not between > 0:
            continue
        change, end = inside.max() - inside.min(), minimum["ends_at"].iloc[0]
        little, ends = bool(change < _LITTLE * between), bool(np.isfinite(end))
        yield _Comparison(
            f"on {len(inside)} landscape{'s' if len(inside) > 1 else ''} the volume changes by {nats(change)} nats, "
            f"minima of the smallest landscape differ by {nats(between)}; "
            + (f"the minimum ends at {end:,.0f} examples." if ends else "it does NOT end on the data of this run."),
            little and ends,
            f"trained on {size:,}",
            inside.index,
        )


@_claim(
    "Minima of data to which wrong examples were added are smaller on the clean landscape.",
    counted="comparisons with the clean minimum of the same seed",
    otherwise="No minimum of data with wrong examples can be compared with the clean one on the clean landscape.",
    by=("model_seed", "variant", "cutoff"),
)
def bad_data_shrinks(rows: _Rows) -> Iterator[_Comparison]:
    """Every minimum of data with wrong examples is compared with the clean minimum of its seed."""
    by_dose = rows.sort_values("model_level")
    numbers, by_dose = by_dose.index, by_dose.set_index("model_level")
    clean = by_dose["log_mean_power"].iloc[0]
    if not np.isfinite(clean):
        yield _Comparison("the clean minimum has a loss above the cutoff.", None, rows=numbers[:1])
        return
    for number, (level, row) in zip(numbers[1:], by_dose.iloc[1:].iterrows(), strict=True):
        about = f"{level:,} bad examples"
        if not np.isfinite(row["log_mean_power"]):
            yield _Comparison("the network is not at a minimum of the clean landscape.", None, about, (number,))
            continue
        change = row["log_mean_power"] - clean
        yield _Comparison(
            f"{nats(change, '+')} nats against the clean minimum, test loss {row['test_loss']:.3f} against "
            f"{by_dose['test_loss'].iloc[0]:.3f}.",
            bool(change < 0),
            about,
            (numbers[0], number),
        )


@_claim(
    "Minima found by sharpness-aware minimization are larger and generalize better.",
    counted="pairs of the same seed and data",
    otherwise="No pair of minima of the same data is below the cutoff.",
    by=("model_seed", "cutoff", "landscape_size"),
    chosen=lambda volumes: volumes[volumes["model_size"] == volumes["landscape_size"]],
)
def sam_is_larger(rows: _Rows) -> Iterator[_Comparison]:
    """The two optimizers are compared on the data that both were trained on."""
    pair = basins(rows).set_index("variant")
    if len(pair) == 2:
        plain, sharpness_aware = pd.unique(rows["variant"])
        volume, loss = (
            pair[column][sharpness_aware] - pair[column][plain] for column in ("log_mean_power", "test_loss")
        )
        sentence = f"volume {nats(volume, '+')} nats, test loss {loss:+.4f} against {plain}."
        yield _Comparison(sentence, bool(volume > 0 and loss < 0))


@_claim(
    "Grokking: while training goes on, the volume falls and the test accuracy rises.",
    counted="trainings",
    otherwise="Fewer than two checkpoints are below the cutoff.",
    by=("model_seed", "cutoff", "landscape_size"),
)
def volume_falls_while_accuracy_rises(rows: _Rows) -> Iterator[_Comparison]:
    """The first checkpoint inside its basin is compared with the last one."""
    inside = basins(rows)
    if len(inside) < 2:
        return
    volume, accuracy = inside["log_mean_power"].to_numpy(), inside["test_accuracy"].to_numpy()
    steps = f"{int((np.diff(volume) < 0).sum())} of {len(volume) - 1} steps"
    yield _Comparison(
        f"volume {nats(volume[-1] - volume[0], '+')} nats, falling in {steps}; test accuracy from {accuracy[0]:.1%} to "
        f"{accuracy[-1]:.1%}.",
        bool(volume[-1] < volume[0] and accuracy[-1] > accuracy[0]),
        f"{inside['variant'].iloc[0]} to {inside['variant'].iloc[-1]}",
        inside.index[[0, -1]],
    )


@_claim(
    "The volume of a minimum depends on how it was trained (batch size, width), by more than on the seed.",
    counted="landscapes",
    otherwise="At least two variants and two seeds with minima below the cutoff are needed.",
    by=("cutoff", "landscape_size"),
    chosen=own_basins,
)
def variation_matters(rows: _Rows) -> Iterator[_Comparison]:
    """The range between the means of the variants is compared with the spread over seeds."""
    by_variant = rows.groupby("variant", sort=False)["log_mean_power"]
    means, spread = by_variant.mean(), float(np.sqrt(by_variant.var().mean()))
    listed = ", ".join(f"{label}: {nats(mean)}" for label, mean in means.items())
    if len(means) < 2 or not np.isfinite(spread):
        yield _Comparison(f"{listed}; one seed or one variant alone has no spread to compare with.", None)
        return
    distance = means.max() - means.min()
    yield _Comparison(
        f"{listed}; the means differ by up to {nats(distance)} nats, seeds by {nats(spread)} (standard deviation).",
        bool(distance > _CLEAR * spread),
    )


@_claim(
    "Without filter normalization the order survives: on the smallest landscape, the more data, the smaller.",
    counted="series of minima",
    otherwise="Fewer than two minima are below the cutoff.",
    by=("model_seed", "variant", "cutoff"),
)
def order_survives(rows: _Rows) -> Iterator[_Comparison]:
    """The minima of one seed must never grow with data on the smallest landscape."""
    first = basins(_on_smallest(rows)).sort_values("model_size")
    if len(first) > 1:
        values = ", ".join(nats(value) for value in first["log_mean_power"])
        yield _Comparison(f"{values}.", bool((first["log_mean_power"].diff().dropna() <= 0).all()), rows=first.index)


def _on_smallest(rows: _Rows) -> _Rows:
    """The rows of the smallest landscape."""
    smallest: _Rows = rows[rows["landscape_size"] == rows["landscape_size"].min()]
    return smallest


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
