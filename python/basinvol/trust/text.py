"""How an estimate reads when it is printed: the verdict, then the number, then the evidence."""

from __future__ import annotations

import math

from .diagnostics import Diagnostics
from .result import CONFIDENCE, MeasuredVolume

_INDENT = 17


def describe_estimate(estimate: MeasuredVolume) -> str:
    """The estimate as lines of text, the verdict first."""
    lines = [("verdict", f"{estimate.diagnostics.verdict}: {estimate.diagnostics.reason}")]
    lines += [*_number(estimate), *_evidence(estimate), *_making(estimate)]
    return "\n".join(f"{name:<{_INDENT}}{text}" for name, text in lines)


def certainty(estimate: MeasuredVolume) -> str:
    """What is known of the true number: an interval, a bound from below, or nothing."""
    interval = estimate.interval
    if interval is not None:
        return f"{CONFIDENCE:.0%} interval {interval[0]:,.2f} to {interval[1]:,.2f}"
    if math.isfinite(estimate.lower_bound):
        return f"above {estimate.lower_bound:,.2f} with {CONFIDENCE:.0%} confidence"
    return "without a bound"


def _number(estimate: MeasuredVolume) -> list[tuple[str, str]]:
    quantity = estimate.measure.quantity
    lines = [(quantity, f"{estimate.log_volume:,.2f} nats in {estimate.dim:,} dimensions, {certainty(estimate)}")]
    if not estimate.measure.is_gaussian:
        lines += [
            ("  log unit ball", f"{estimate.log_unit_ball:,.2f}"),
            ("  log mean r^P", f"{estimate.log_mean_power:,.2f}"),
            ("  log det scale", f"{estimate.log_det_scale:,.2f}"),
        ]
    return [*lines, ("measure", estimate.measure.describe(estimate.scaling))]


def _evidence(estimate: MeasuredVolume) -> list[tuple[str, str]]:
    found = estimate.diagnostics
    trusted = estimate.interval is not None
    error = (
        f"{estimate.standard_error:.2f}" if trusted else f"{estimate.standard_error:.2f} (not valid: {found.verdict})"
    )
    pilot = f" (of the first {found.num_spread} directions)" if found.negligible else ""
    halves = "" if math.isnan(found.split_nats) else f", halves {found.split_nats:.2f} nats apart"
    lines = [
        ("standard error", f"{error}; brackets worth {found.bracket_nats:.2g} nats{halves}"),
        (
            "weights",
            f"effective sample size {found.ess:.2f}, largest share {found.max_share:.1%}, "
            f"z {found.z:.2f}{pilot}, k-hat {_known(found.k_hat)}, censored {found.censored:.1%}, "
            f"skipped {found.negligible:.1%}",
        ),
    ]
    if math.isfinite(found.cutoff_slope):
        lines.append(
            ("slope", f"d log V / d log excess loss {found.cutoff_slope:,.1f} (P/2 is {estimate.dim / 2:,.1f})")
        )
    if not math.isnan(found.reentrant):
        lines.append(("rays", f"re-entrant {found.reentrant:.1%}, not monotone {found.non_monotone:.1%}"))
    lines += [("unbounded" if i == 0 else "", sentence) for i, sentence in enumerate(found.unbounded)]
    if found.agreement:
        lines.append(("agreement", found.agreement))
    return lines


def _making(estimate: MeasuredVolume) -> list[tuple[str, str]]:
    per_ray = float(estimate.radii.num_evaluations.double().mean())
    details = ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in estimate.details.items())
    found = estimate.diagnostics
    return [
        *([("parameters", estimate.parameters)] if estimate.parameters else []),
        ("cutoff", f"{estimate.cutoff:g}, loss at the center {estimate.center_loss:.6g}"),
        (
            "directions",
            f"{estimate.num_directions} (seed {estimate.seed}), scaling {estimate.scaling}, method "
            f"{estimate.method}, search {estimate.search}, {per_ray:.1f} evaluations each",
        ),
        *([("details", details)] if details else []),
        (
            "cost",
            f"{estimate.num_evaluations:,} evaluations of the loss, {_probing(found)}",
        ),
        (
            "backend",
            f"{estimate.backend} ({estimate.backend_reason}), {estimate.num_threads} threads, {estimate.seconds:.2f} s",
        ),
    ]


def _probing(found: Diagnostics) -> str:
    checks = f", {found.num_checks:,} for the second method" if found.num_checks else ""
    if found.num_probes == 0:
        return f"none for probes (probe=True looks for unbounded directions){checks}"
    return f"{found.num_probes:,} of them for probes{checks}"


def _known(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f}"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
