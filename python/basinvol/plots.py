"""One style for every figure, and the figure of a single estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from .profile import LossProfile
    from .result import VolumeEstimate

# Okabe and Ito 2008: distinguishable with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "svg.hashsalt": "basinvol",  # or two equal figures would differ in their bytes
    "svg.fonttype": "none",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings of every figure of ours."""
    with matplotlib.rc_context(_STYLE):
        yield


def plot_estimate(estimate: VolumeEstimate) -> Figure:
    """The radii as a histogram, and how much of the sum of r^P the largest directions hold."""
    radius = estimate.radii.radius
    radius = radius[~radius.isnan() & (radius > 0)]
    log_weights = (estimate.dim * radius.log()).sort(descending=True).values
    share = (log_weights - log_weights.logsumexp(0)).exp().cumsum(0)
    with house_style():
        figure = Figure(figsize=(7.0, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.hist(radius.numpy(), bins=max(10, int(math.sqrt(len(radius)))), color=COLOURS[0])
        left.set_xlabel(f"radius ({estimate.scaling} scaling)")
        left.set_ylabel("directions")
        right.plot(range(1, len(share) + 1), share.numpy(), color=COLOURS[1], marker=".")
        right.set_xscale("log")
        right.set_ylim(0, 1.05)
        right.set_xlabel("largest directions")
        right.set_ylabel("share of the sum of $r^P$")
        figure.suptitle(
            f"{estimate.diagnostics.verdict}: log volume {estimate.log_volume:,.1f} nats, "
            f"effective sample size {estimate.diagnostics.ess:.1f} of {estimate.diagnostics.num_used}"
        )
    return figure


def plot_profile(profile: LossProfile) -> Figure:
    """The loss against the radius: median, quartiles, 5 % and 95 % over directions."""
    low, quarter, median, three_quarters, high = profile.quantiles
    with house_style():
        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(profile.radius, low, high, color=COLOURS[0], alpha=0.15, linewidth=0, label="5 % to 95 %")
        axes.fill_between(profile.radius, quarter, three_quarters, color=COLOURS[0], alpha=0.3, linewidth=0)
        axes.plot(profile.radius, median, color=COLOURS[0], label="median and quartiles")
        axes.axhline(profile.center_loss, color=COLOURS[6], linestyle=":", label="at the center")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"radius ({profile.scaling} scaling)")
        axes.set_ylabel("loss")
        axes.legend()
        axes.set_title(f"Loss along {len(profile.losses)} directions", loc="left")
    return figure
