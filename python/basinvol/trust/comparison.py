"""Comparisons of several minima: which is larger, by how much, and how sure that is."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..figures.card import DOUBTFUL, GOOD, card, grid
from ..search.radii import Status
from ..storage.archive import Saveable
from ..storage.tables import data_frame
from .diagnostics import Verdict
from .result import plain
from .volume_estimate import VolumeEstimate

if TYPE_CHECKING:
    import pandas as pd

_RESAMPLES = 1000
_RAY_METHODS = ("star", "paper", "gaussian")
_NOT_TRUSTED = "not all verdicts are trustworthy: this ranks the numbers on these directions, not the volumes"
_STEPS = ("difference", "error", "probability", "typical_difference", "typical_error", "share_larger")


@dataclass(frozen=True)
class PairComparison:
    """The comparison of two minima, the first minus the second; all differences and errors are in nats.

    Attributes:
        first, second: names of the two minima.
        difference: difference of the log-volumes.
        error: standard error of `difference`, from resampling the common directions together, or from both errors
            where there are no common directions. It is valid only where `is_valid`.
        probability: that the first is larger, given that error; where the error is not valid, this is a statement
            about the directions that were drawn.
        typical_difference, typical_error: mean over common directions of the difference of the log weights, and its
            error: how a typical direction compares them, far better determined than the log-volumes themselves. NaN
            without common directions.
        share_larger: share of the common directions along which the first reaches farther.
        trace_difference: difference of `trace_prediction`.
        is_valid: whether both verdicts are trustworthy.
    """

    first: str
    second: str
    difference: float
    error: float
    probability: float
    typical_difference: float
    typical_error: float
    share_larger: float
    trace_difference: float
    is_valid: bool


@dataclass(frozen=True, repr=False)
class Comparison(Saveable):
    """The ranking of several minima; `print` shows the ranking first.

    Attributes:
        names: names of the minima, from the largest down.
        log_volumes, trace_predictions: the log-volumes, and what the traces predict, in that order. nats
        verdicts: their verdicts in that order.
        is_paired: whether all were measured along the same directions.
        stability: share of 1,000 resamples of the common directions, or of independent errors, that give this ranking.
        pairs: comparisons of neighbors in the ranking.
    """

    names: tuple[str, ...]
    log_volumes: tuple[float, ...]
    trace_predictions: tuple[float, ...]
    verdicts: tuple[Verdict, ...]
    is_paired: bool
    stability: float
    pairs: tuple[PairComparison, ...]

    @property
    def is_valid(self) -> bool:
        """Whether all verdicts are trustworthy, so that this ranks the volumes and not only the numbers."""
        return all(verdict is Verdict.TRUSTWORTHY for verdict in self.verdicts)

    def __repr__(self) -> str:
        return f"Comparison({' > '.join(self.names)}, in {self.stability:.0%} of resamples)"

    def _repr_html_(self) -> str:
        first, *others = str(self).splitlines()
        rows = list(zip(self.names, map("{:,.2f}".format, self.log_volumes), map(str, self.verdicts), strict=True))
        table = grid(["minimum", "log volume (nats)", "verdict"], rows)
        sentence = "all verdicts are trustworthy" if self.is_valid else _NOT_TRUSTED
        mark = GOOD if self.is_valid else DOUBTFUL
        headline = first.removeprefix("ranking").strip()
        return card(headline, f"{sentence}.", [], table, "\n".join([first, *others]), mark)

    def to_dict(self) -> dict[str, Any]:
        """Names, numbers, verdicts and pairs as plain types, for JSON; NaN and infinities become None."""
        found = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        found["verdicts"] = [verdict.value for verdict in self.verdicts]
        found["pairs"] = [dataclasses.asdict(pair) for pair in self.pairs]
        return {name: plain(value) for name, value in found.items()}

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row per minimum, from the largest down, and how each compares with the next.

        Raises:
            MissingPackage: pandas is not installed.
        """
        steps = [dataclasses.asdict(pair) for pair in self.pairs]
        columns: dict[str, list[Any]] = {
            "name": list(self.names),
            "log_volume": list(self.log_volumes),
            "trace_prediction": list(self.trace_predictions),
            "verdict": [verdict.value for verdict in self.verdicts],
        }
        for name in _STEPS:
            columns[f"next_{name}"] = [*(step[name] for step in steps), math.nan]  # after the last there is none
        return data_frame(columns)

    def __str__(self) -> str:
        how = "the same directions, resampled together" if self.is_paired else "independent estimates"
        lines = [
            f"ranking          {' > '.join(self.names)}, in {self.stability:.0%} of resamples ({how})",
        ]
        if not self.is_valid:
            lines.append(" " * 17 + _NOT_TRUSTED)
        rows = zip(self.names, self.log_volumes, self.trace_predictions, self.verdicts, strict=True)
        lines += [
            f"{name:<16} {volume:>16,.2f} nats, {verdict}; from the trace alone {trace:,.2f}"
            for name, volume, trace, verdict in rows
        ]
        lines += [_describe(pair) for pair in self.pairs]
        return "\n".join(lines)


def compare(estimates: Sequence[VolumeEstimate], names: Sequence[str] | None = None) -> Comparison:
    """The ranking of estimates that are there, see `basinvol.compare`.

    Args:
        estimates: two or more, in the same measure, scaling and dimension.
        names: one for each estimate; default "1", "2", ...

    Raises:
        ValueError: there are fewer than two estimates, their measures, scalings or dimensions differ, or the names do
            not fit.
    """
    if len(estimates) < 2:
        raise ValueError(f"`estimates` must hold two or more, got {len(estimates)}.")
    labels = [str(i + 1) for i in range(len(estimates))] if names is None else list(names)
    if len(set(labels)) != len(estimates):
        raise ValueError(f"`names` must be {len(estimates)} different names, got {labels}.")
    first = estimates[0]
    for other in estimates[1:]:
        if other.measure != first.measure or other.dim != first.dim or other.scaling != first.scaling:
            raise ValueError(
                "`estimates` must share measure, scaling and dimension, got "
                f"{first.measure.describe(first.scaling)} in {first.dim} and "
                f"{other.measure.describe(other.scaling)} in {other.dim}."
            )
    order = sorted(range(len(estimates)), key=lambda i: -estimates[i].log_volume)
    ranked = [estimates[i] for i in order]
    is_paired = _is_paired(ranked)
    samples = _resampled(ranked, is_paired)
    chosen = [labels[i] for i in order]
    stability = float((samples[:-1] >= samples[1:]).all(dim=0).double().mean())
    return Comparison(
        names=tuple(chosen),
        log_volumes=tuple(estimate.log_volume for estimate in ranked),
        trace_predictions=tuple(trace_prediction(estimate) for estimate in ranked),
        verdicts=tuple(estimate.diagnostics.verdict for estimate in ranked),
        is_paired=is_paired,
        stability=stability,
        pairs=tuple(
            _pair(ranked[i : i + 2], chosen[i : i + 2], samples[i : i + 2], is_paired) for i in range(len(ranked) - 1)
        ),
    )


def trace_prediction(estimate: VolumeEstimate) -> float:
    """The log of the measure, in nats, of the ball whose 1/r^2 is the mean over the rays.

    For a quadratic basin the mean of 1/r^2 over uniform directions is the Hessian's trace over 2 P (cutoff - loss at
    the center), so this depends on the trace alone; a volume depends on the determinant.
    """
    radii, measure = estimate.radii, estimate.measure
    known = ~radii.is_status(Status.NEGLIGIBLE)  # a lower end of 0 would make the mean of 1/r^2 infinite
    radius = (radii.entering[known] ** -2.0).mean() ** -0.5
    return float(measure.log_weights(radius.reshape(1), estimate.dim)) + measure.log_constant(
        estimate.dim, estimate.log_det_scale
    )


def _is_paired(estimates: Sequence[VolumeEstimate]) -> bool:
    first = estimates[0]
    return all(
        estimate.method in _RAY_METHODS
        and (estimate.method == "paper") == (first.method == "paper")
        and (estimate.seed, len(estimate.radii)) == (first.seed, len(first.radii))
        for estimate in estimates
    )


def _log_weights(estimate: VolumeEstimate) -> Tensor:
    """The log weight of every direction, with the constant, so that log_volume is the log of their mean. [D]"""
    radii, measure = estimate.radii, estimate.measure
    constant = measure.log_constant(estimate.dim, estimate.log_det_scale)
    return measure.log_weights(radii.entering, estimate.dim) + constant


def _resampled(estimates: Sequence[VolumeEstimate], is_paired: bool) -> Tensor:
    """Log-volumes of resampled directions, the same for all, or with independent normal errors. [E, R]"""
    generator = torch.Generator().manual_seed(0)  # fixed, so that the same estimates always compare the same
    if is_paired:
        count = len(estimates[0].radii)
        drawn = torch.randint(count, (_RESAMPLES, count), generator=generator)
        return torch.stack([torch.logsumexp(_log_weights(e)[drawn], dim=1) - math.log(count) for e in estimates])
    noise = torch.randn((len(estimates), _RESAMPLES), generator=generator, dtype=torch.float64)
    errors = torch.tensor([_finite(estimate.standard_error) for estimate in estimates], dtype=torch.float64)
    levels = torch.tensor([estimate.log_volume for estimate in estimates], dtype=torch.float64)
    return levels[:, None] + errors[:, None] * noise


def _pair(
    estimates: Sequence[VolumeEstimate], names: Sequence[str], samples: Tensor, is_paired: bool
) -> PairComparison:
    differences = samples[0] - samples[1]
    typical = error = share = math.nan
    if is_paired:
        log_ratio = _log_weights(estimates[0]) - _log_weights(estimates[1])
        log_ratio = log_ratio[torch.isfinite(log_ratio)]  # where one of the two is 0 there is no ratio
        typical = float(log_ratio.mean())
        error = float(log_ratio.std()) / math.sqrt(len(log_ratio))
        share = float((log_ratio > 0).double().mean())
    traces = [trace_prediction(estimate) for estimate in estimates]
    return PairComparison(
        first=names[0],
        second=names[1],
        difference=estimates[0].log_volume - estimates[1].log_volume,
        error=float(differences.std()),
        # Ties count half: identical minima are each the larger one with probability 1/2.
        probability=float((differences > 0).double().mean() + 0.5 * (differences == 0).double().mean()),
        typical_difference=typical,
        typical_error=error,
        share_larger=share,
        trace_difference=traces[0] - traces[1],
        is_valid=all(estimate.diagnostics.verdict is Verdict.TRUSTWORTHY for estimate in estimates),
    )


def _finite(error: float) -> float:
    return error if math.isfinite(error) else 0.0


def _describe(pair: PairComparison) -> str:
    valid = "" if pair.is_valid else " (not valid: not both trustworthy)"
    text = (
        f"{pair.first} - {pair.second}".ljust(16) + f" {pair.difference:+,.2f} nats, error {pair.error:.2f}{valid}, "
        f"larger with probability {pair.probability:.1%}; trace {pair.trace_difference:+,.2f}"
    )
    if math.isfinite(pair.typical_difference):
        text += (
            f"; typical direction {pair.typical_difference:+,.2f} +- {pair.typical_error:.2f}, "
            f"larger along {pair.share_larger:.0%} of them"
        )
    return text


def rank_agreement(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau of two rankings of the same minima, between -1 and 1: 1 if they agree on every pair."""
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"two rankings of the same two or more minima are needed, got {len(first)} and {len(second)}.")
    signs: list[Any] = [
        math.copysign(1, first[i] - first[j]) * math.copysign(1, second[i] - second[j])
        for i, j in itertools.combinations(range(len(first)), 2)
    ]
    return float(sum(signs)) / len(signs)
