"""A log-volume with its terms, its diagnostics and how it was made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..inputs.arguments import one_of
from ..model.parameters import ParameterSpace
from ..search.radii import Radii, Status
from .chains import ChainSamples
from .curve import Curve
from .diagnostics import Diagnostics, Verdict, diagnose, zero_scale_sentence
from .measures import LEBESGUE, Measure
from .volume import log_det_scale, log_unit_ball, lower_confidence_bound

ON_CENSORED = ("raise", "drop", "bound")
CONFIDENCE = 0.95
_QUANTILE = 1.959964  # of the normal distribution, two-sided at 95 %


class CensoredError(ValueError):
    """The error for directions that never crossed the cutoff; `radii` [D] holds all that was measured."""

    def __init__(self, message: str, radii: Radii) -> None:
        super().__init__(message)
        self.radii = radii


@dataclass(frozen=True)
class Volume:
    """One log-volume in its three terms, with diagnostics; all in nats.

    For Lebesgue measure, without limit or inside a ball, log_volume = log_unit_ball + log_mean_power + log_det_scale,
    in the space of the perturbed parameters; the paper reports `log_mean_power` alone. Under a Gaussian, log_volume is
    the log of the basin's mass and equals log_mean_power, the log of the mean mass along a ray.

    Attributes:
        dim: P.
        log_unit_ball: log-volume of the unit ball in P dimensions.
        log_mean_power: log of the mean weight, r^P or the Gaussian's mass within r.
        log_det_scale: ln det S, the sum of the logs of the scale.
        diagnostics: the verdict and its evidence.
        measure: what is measured.
    """

    dim: int
    log_unit_ball: float
    log_mean_power: float
    log_det_scale: float
    diagnostics: Diagnostics
    measure: Measure = field(default=LEBESGUE, kw_only=True)

    @property
    def log_volume(self) -> float:
        """The log of the volume of the basin, or of its mass, in nats."""
        return self.log_mean_power + self.measure.log_constant(self.dim, self.log_det_scale)

    @property
    def standard_error(self) -> float:
        """The standard error of log_volume in nats, by the delta method; valid only if `trustworthy`."""
        return self.diagnostics.standard_error

    @property
    def lower_bound(self) -> float:
        """The value that the true log-volume exceeds with 95 % confidence, or minus infinity if nothing supports one.

        By Markov's inequality for rays; for chains it is the lower end of the interval, where there is one.
        """
        if self.interval is not None and not self.diagnostics.has_bound:
            return self.interval[0]
        if self.diagnostics.verdict is Verdict.INVALID or not self.diagnostics.has_bound:
            return -math.inf
        return lower_confidence_bound(self.log_volume, CONFIDENCE)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of log_volume, or None where only `lower_bound` is valid."""
        if self.diagnostics.verdict is not Verdict.TRUSTWORTHY:
            return None
        error = self.standard_error if math.isfinite(self.standard_error) else 0.0
        # Open brackets shift all radii together, so that their share adds to the random error and not to its square.
        reach = _QUANTILE * error + 0.5 * self.diagnostics.bracket_nats
        return self.log_volume - reach, self.log_volume + reach

    @classmethod
    def of(
        cls,
        radii: Radii,
        space: ParameterSpace,
        scale: Tensor,
        on_censored: str = "raise",
        measure: Measure = LEBESGUE,
        log_ratio: Tensor | None = None,
        representative: Tensor | None = None,
    ) -> Volume:
        """The volume from the radii [D] of one level and cutoff.

        Rays that ended at a non-finite loss or with an open bracket count with their certified lower end.

        Args:
            radii: all rays of one level and cutoff. [D]
            space: which parameters were perturbed.
            scale: positive factor of every parameter. [P]
            on_censored: "raise" refuses rays without a crossing; "drop" leaves them out, as the paper does, which
                removes those that dominate; "bound" lets them count with radius_max, a lower bound. In a finite measure
                such rays count in full, whatever is chosen.
            measure: what is measured.
            log_ratio: log of the uniform density over the proposal's, where directions are not uniform. [D] float64
            representative: see `diagnose`. [D] bool

        Raises:
            CensoredError: rays never crossed and on_censored="raise", or no ray is left.
        """
        zero_scale = space.zero_filters(scale)
        used = _used(radii, on_censored, measure, zero_scale)
        # A negligible ray counts with 0: all of them together are worth less than 1e-6 nats.
        entering = radii.entering
        log_weights = measure.log_weights(entering, space.dim) + (0.0 if log_ratio is None else log_ratio)
        return cls(
            dim=space.dim,
            log_unit_ball=log_unit_ball(space.dim),
            log_mean_power=float(torch.logsumexp(log_weights[used], dim=0)) - math.log(int(used.sum())),
            log_det_scale=log_det_scale(scale),
            diagnostics=diagnose(radii, used, entering, space.dim, zero_scale, measure, log_ratio, representative),
            measure=measure,
        )


def _used(radii: Radii, on_censored: str, measure: Measure, zero_scale: Mapping[str, int]) -> Tensor:
    """Whether each ray enters the average. [D] bool"""
    one_of("on_censored", on_censored, ON_CENSORED)
    censored = radii.is_status(Status.CENSORED)
    everything = torch.ones_like(censored)
    if measure.is_finite:
        return everything
    num_censored, count = int(censored.sum()), len(radii)
    if num_censored == count and on_censored != "bound" and bool((radii.value_lower == radii.value_lower[0]).all()):
        dropped = " and dropped" if on_censored == "drop" else ""
        raise CensoredError(f"all {count} directions are censored{dropped}, {_why_constant(zero_scale)}", radii)
    if num_censored and on_censored == "raise":
        raise CensoredError(
            f"{num_censored} of {count} directions are censored at radius_max={float(radii.lower.max()):.6g}; "
            'raise `radius_max`, or pass on_censored="bound".',
            radii,
        )
    used = ~censored if on_censored == "drop" else everything
    if not bool(used.any()):
        raise CensoredError(f'all {count} directions are censored and dropped; pass on_censored="bound".', radii)
    return used


def _why_constant(zero_scale: Mapping[str, int]) -> str:
    if zero_scale:
        return (
            f"and the loss does not change along any of them: {zero_scale_sentence(zero_scale)}, and nothing else has "
            "an effect; use scaling='none'."
        )
    return "because the loss does not change along any of them: it does not depend on the perturbed parameters."


@dataclass(frozen=True)
class MeasuredVolume(Volume):
    """A `Volume` with the radii behind it and how it was made.

    Attributes:
        radii: radii of the directions that were averaged; for chains, of the rays that gave their first scale. [D]
        cutoff, center_loss: the loss that bounds the basin, and the loss at the center.
        num_directions, seed, method, search, scaling, rtol, resolve: the settings, see `estimate_volume`.
        backend, backend_reason: the backend that ran, and why it was chosen.
        num_threads: threads of the CPU.
        seconds: how long the whole estimate took.
        details: what else the method reports about itself, by name.
        num_evaluations: loss evaluations of all rays, chains, probes and checks; a gradient counts as three.
        parameters: how many of the model's parameters are perturbed, and which are left out and why.
        passed: what `curve` returns, or None.
        samples: statistics of chains at the end, or None; see `to_datatree`.
    """

    radii: Radii
    cutoff: float
    center_loss: float
    num_directions: int
    seed: int
    method: str
    search: str
    scaling: str
    rtol: float
    resolve: str
    backend: str
    backend_reason: str
    num_threads: int
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    num_evaluations: int = field(default=0, kw_only=True)
    parameters: str = field(default="", kw_only=True)
    passed: Curve | None = field(default=None, kw_only=True, repr=False)
    samples: ChainSamples | None = field(default=None, kw_only=True, repr=False)

    def curve(self) -> Curve:
        """The log of the mass at every cutoff that the chains passed on their way down to `cutoff`: one run for all.

        >>> import basinvol as bv
        >>> case = bv.ground_truth.ball(4, radius=0.5)
        >>> gaussian = {"measure": "gaussian", "sigma": 0.5, "method": "splitting", "num_directions": 20}
        >>> est = bv.estimate_volume(*case.task(), cutoff=case.cutoff, scaling="none", **gaussian)
        >>> curve = est.curve()
        >>> float(curve.cutoff[0]) == case.cutoff and bool((curve.log_mass.diff() >= 0).all())
        True

        Raises:
            ValueError: no chains came down from a Gaussian measure: rays know their own cutoff alone.
        """
        if self.passed is None:
            raise ValueError(
                f"method {self.method!r} under {self.measure.name!r} passed no other cutoffs; use "
                "measure='gaussian' with method='annealed' or 'splitting', or pass several cutoffs."
            )
        return self.passed

    def to_dict(self) -> dict[str, Any]:
        """All values but the radii as plain types, for JSON; NaN and infinities become None."""
        numbers: dict[str, Any] = {
            "verdict": self.diagnostics.verdict.value,
            "log_volume": self.log_volume,
            "lower_bound": self.lower_bound,
            "interval": self.interval,
            "confidence": CONFIDENCE,
            **self.measure.settings(),
        }
        for record in (self.diagnostics, self):
            for part in dataclasses.fields(record):
                if part.name not in (*numbers, "radii", "diagnostics", "measure", "details", "passed", "samples"):
                    numbers[part.name] = getattr(record, part.name)
        return {name: plain(value) for name, value in {**numbers, **self.details}.items()}


def plain(value: Any) -> Any:
    """The value as plain types, for JSON; NaN and infinities become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return value
