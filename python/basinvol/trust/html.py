"""How an estimate looks in a notebook: the verdict, then the number and its interval, then a small figure."""

from __future__ import annotations

import math

import torch

from ..figures.card import BAD, DOUBTFUL, GOOD, card
from ..figures.inline import histogram
from .diagnostics import Verdict
from .result import MeasuredVolume
from .text import certainty, describe_estimate

_MARKS = {
    Verdict.TRUSTWORTHY: GOOD,
    Verdict.LOWER_BOUND: DOUBTFUL,
    Verdict.CENSORED: DOUBTFUL,
    Verdict.INVALID: BAD,
}
# Methods whose number is the plain mean over these rays, so that each of them has a share in it.
_PLAIN = ("star", "paper", "gaussian")


def mark_of(verdict: Verdict) -> str:
    """The color that stands for a verdict, beside its word."""
    return _MARKS[verdict]


def estimate_html(estimate: MeasuredVolume) -> str:
    """The estimate as HTML without scripts."""
    found, quantity = estimate.diagnostics, estimate.measure.quantity
    rows = [
        (quantity, f"{estimate.log_volume:,.2f} nats in {estimate.dim:,} dimensions"),
        ("certainty", certainty(estimate)),
        ("measure", estimate.measure.describe(estimate.scaling)),
        ("cutoff", f"{estimate.cutoff:g}, loss at the center {estimate.center_loss:.6g}"),
        (
            "how",
            f"method {estimate.method}, {estimate.num_directions:,} directions, seed {estimate.seed}, backend "
            f"{estimate.backend}, {estimate.seconds:.2f} s",
        ),
    ]
    text = describe_estimate(estimate)
    return card(str(found.verdict), found.reason, rows, _figure(estimate), text, mark_of(found.verdict))


def _figure(estimate: MeasuredVolume) -> str:
    """Radii counted, and the share of the number that those of one length hold."""
    radii = estimate.radii.entering
    shown = torch.isfinite(radii) & (radii > 0)
    if not bool(shown.any()):
        return ""
    values, shares, what = radii[shown], None, f"radii of {int(shown.sum()):,} directions"
    if estimate.method in _PLAIN:
        weights = torch.softmax(estimate.measure.log_weights(values, estimate.dim), dim=0)
        if bool(torch.isfinite(weights).all()):
            shares, what = weights.numpy(), f"{what} (blue) and their share of the number (orange)"
    low, high = float(values.min()), float(values.max())
    largest = (
        ""
        if math.isnan(estimate.diagnostics.max_share)
        else (f"; the largest weight is {estimate.diagnostics.max_share:.0%} of the number")
    )
    sentence = f"Histogram of {what}, from {low:.4g} to {high:.4g}{largest}."
    label = "radius" if shares is None else "radius (blue: directions, orange: their share)"
    return histogram(values.numpy(), shares, label, sentence)
