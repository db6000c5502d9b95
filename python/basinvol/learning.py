"""The learning coefficient: the power with which the mass of a basin falls as its cutoff falls."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .estimate import estimate_volume
from .estimators.groups import few_groups_factor
from .figures.card import DOUBTFUL, GOOD, card
from .figures.inline import lines
from .inputs.arguments import real_number
from .model.default_device import cpu_by_default
from .model.landscape import Landscape, LossFunction
from .model.parameters import ParameterSpace
from .storage.archive import Saveable
from .storage.tables import Variable, dataset
from .trust.curve import Curve
from .trust.diagnostics import Verdict
from .trust.volume_estimate import VolumeEstimate

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

_DROP = 1e-5  # of the median rise under the measure, down to which chains go unless a cutoff is given
_DRAWN = 64  # points of the measure that say what that rise is
_LEAST_SPAN = 1.0  # nats of the excess loss that a line is fitted to, at least
_LEAST_POINTS = 6


@dataclass(frozen=True, repr=False)
class LearningCoefficient(Saveable):
    """The slope lambda = d ln V / d ln eps, where V(eps) is the mass of {loss <= loss at the center + eps}.

    Attributes:
        value: lambda; P/2 for a regular minimum, and less for a singular one.
        standard_error: its standard error, from independent groups of chains.
        smallest, largest: the excess losses eps between which the line was fitted.
        is_straight: whether ln V is a line there as far as the chains can tell.
        estimate: the estimate of the mass at the smallest excess, with its verdict.
    """

    value: float
    standard_error: float
    smallest: float
    largest: float
    is_straight: bool
    estimate: VolumeEstimate

    @property
    def is_trustworthy(self) -> bool:
        """Whether the chains are trusted, and what they give is a line."""
        return self.is_straight and self.estimate.diagnostics.verdict is Verdict.TRUSTWORTHY

    def __str__(self) -> str:
        found = self.estimate.diagnostics
        line = (
            "a line within the errors"
            if self.is_straight
            else "no line, even at its lowest end; lower `cutoff`, or use more chains"
        )
        return "\n".join(
            [
                f"verdict               {found.verdict}: {found.reason}",
                f"learning coefficient  {self.value:,.3f} with a standard error of {self.standard_error:.3f} "
                f"(P/2 is {self.estimate.dim / 2:,.1f})",
                f"ln V against ln eps   {line}, for eps from {self.smallest:.4g} to {self.largest:.4g}",
                f"measure               {self.estimate.measure.name}, sigma {self.estimate.measure.sigma:g}",
                f"cost                  {self.estimate.num_evaluations:,} evaluations, {self.estimate.seconds:.1f} s",
            ]
        )

    def __repr__(self) -> str:
        trusted = "trustworthy" if self.is_trustworthy else "not trustworthy"
        return f"LearningCoefficient({self.value:,.3f} +- {self.standard_error:.3f}, {trusted})"

    def _repr_html_(self) -> str:
        excess, log_mass = self._curve()
        figure = lines(excess, [log_mass], "loss over that of the center", "Log mass against the excess loss.")
        found = self.estimate.diagnostics
        rows = [
            ("learning coefficient", f"{self.value:,.3f}, standard error {self.standard_error:.3f}"),
            ("P/2", f"{self.estimate.dim / 2:,.1f}"),
            ("fitted for excess losses", f"from {self.smallest:.4g} to {self.largest:.4g}"),
        ]
        trusted = found.verdict is Verdict.TRUSTWORTHY and not self.is_straight
        headline = "not a line" if trusted else str(found.verdict)
        mark = GOOD if self.is_trustworthy else DOUBTFUL
        return card(headline, found.reason, rows, figure, str(self), mark)

    def to_dict(self) -> dict[str, Any]:
        """The coefficient, its error and range, and the estimate behind it, as plain types, for JSON."""
        found = {part.name: getattr(self, part.name) for part in dataclasses.fields(self) if part.name != "estimate"}
        return {**found, "is_trustworthy": self.is_trustworthy, "estimate": self.estimate.to_dict()}

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row per cutoff that chains passed: excess loss, log mass, its error, and whether it is fitted.

        Raises:
            MissingPackage: pandas is not installed.
        """
        excess, _ = self._curve()
        frame = self.estimate.curve().to_dataframe()
        return frame.assign(excess=excess, is_fitted=self._is_fitted(excess))

    def to_dataset(self) -> xr.Dataset:
        """The curve along "cutoff" as in `Curve.to_dataset`, with the coefficient and its error, for xarray.

        Raises:
            MissingPackage: xarray is not installed.
        """
        excess, _ = self._curve()
        more = {
            "excess": Variable(("cutoff",), excess, "loss", "cutoff over the loss at the center"),
            "is_fitted": Variable(("cutoff",), self._is_fitted(excess), "1", "whether the line is fitted to it"),
            "learning_coefficient": Variable((), self.value, "1", "slope of the log mass"),
            "standard_error_of_slope": Variable((), self.standard_error, "1", "its standard error"),
        }
        return self.estimate.curve().to_dataset().merge(dataset(more, {}, {}))

    def _curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Excess losses [n] and log masses [n] that chains passed."""
        curve = self.estimate.curve()
        return (curve.cutoff - self.estimate.center_loss).numpy(), curve.log_mass.numpy()

    def _is_fitted(self, excess: NDArray[np.float64]) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (excess >= self.smallest * (1 - 1e-9)) & (excess <= self.largest * (1 + 1e-9))
        return inside

    def plot(self) -> Figure:
        """ln V against ln eps with the range of the fit and its line, as a matplotlib figure."""
        from .figures.of_learning import plot_line  # matplotlib is optional

        excess, log_mass = self._curve()
        title = f"learning coefficient {self.value:,.3f} +- {self.standard_error:.3f}"
        return plot_line(excess, log_mass, (self.smallest, self.largest), self.value, title)


@cpu_by_default
def learning_coefficient(
    model: nn.Module,
    loss_fn: LossFunction | None,
    data: tuple[Tensor, Tensor] | Mapping[str, Tensor] | Iterable[Any],
    cutoff: float | None = None,
    *,
    sigma: float = 1.0,
    scaling: str = "none",
    method: str = "annealed",
    seed: int = 0,
    **settings: Any,
) -> LearningCoefficient:
    """The learning coefficient of a minimum, as the slope of its log mass against the log of the excess loss.

    Chains come down from N(center, sigma^2 S^2) to the smallest excess loss, and give the mass at every cutoff that
    they pass (`VolumeEstimate.curve`). Lambda is the slope of a line fitted to ln V against ln eps. The line begins at
    the smallest excess and is as long as it is straight: as long as the slopes of its two halves differ by less than
    the standard error of that difference, and never shorter than a factor of e. The standard error is that of the
    slopes of independent groups of chains, and half the difference of the halves. The definition is that of Watanabe
    (2009); where the minimum has a multiplicity m above 1, the slope at a finite eps is lower than lambda, by about
    (m - 1) / ln(1 / eps).

    The mass is that of all that chains reach, and not of the nearest minimum alone: choose `sigma` as large as the
    neighborhood that you mean.

    >>> import basinvol as bv
    >>> few = {"num_chains": 32, "num_windows": 1, "rounds": 1}  # for an example; the default chains say more
    >>> found = bv.learning_coefficient(*bv.ground_truth.ball(2).task(), 1e-3, method_options=few, num_directions=20)
    >>> abs(found.value - 2 / 2) < 4 * found.standard_error
    True

    Args:
        model, loss_fn, data: see `basinvol.estimate_volume`. The model is at its minimum.
        cutoff: the smallest loss that chains go down to; default the loss at the center and 1e-5 of the median rise of
            the loss under the measure.
        sigma: width of the measure, in units of the scale.
        scaling: "none" or "filter", see `basinvol.estimate_volume`.
        method: "annealed" or "splitting".
        seed: seed of the chains.
        settings: further arguments of `basinvol.estimate_volume`, by name.

    Raises:
        ValueError: an argument is bad, or the loss does not rise around the center.
    """
    sigma = real_number("sigma", sigma)
    chosen = _default_cutoff(model, loss_fn, data, sigma, scaling, seed) if cutoff is None else cutoff
    estimate = estimate_volume(
        model,
        loss_fn,
        data,
        real_number("cutoff", chosen),
        seed=seed,
        **{"num_directions": 50, **settings},
        measure="gaussian",
        sigma=sigma,
        scaling=scaling,
        method=method,
    )
    curve = estimate.curve()
    log_excess = (curve.cutoff - estimate.center_loss).log()
    line = _straight(log_excess, curve)
    return LearningCoefficient(
        value=line.slope,
        standard_error=math.hypot(line.error, 0.5 * line.bend),
        smallest=math.exp(float(log_excess[0])),
        largest=math.exp(float(log_excess[line.count - 1])),
        is_straight=line.is_straight,
        estimate=estimate,
    )


def _default_cutoff(
    model: nn.Module, loss_fn: LossFunction | None, data: Any, sigma: float, scaling: str, seed: int
) -> float:
    space = ParameterSpace.of(model)
    landscape = Landscape(model, loss_fn, data)
    center, scale = space.flatten(model), space.scale(model, scaling)
    generator = torch.Generator().manual_seed(seed)
    rises = []
    center_loss = float(landscape.losses()[-1])
    for _ in range(_DRAWN):
        noise = torch.randn(space.dim, generator=generator, dtype=torch.float64).to(center.device)
        point = (center.double() + sigma * scale.double() * noise).to(center.dtype)
        rises.append(float(landscape.losses(space.unflatten(point))[-1]) - center_loss)
    rise = sorted(rises)[_DRAWN // 2]
    if not 0.0 < rise < math.inf:
        raise ValueError(
            f"`model` must be at a minimum: under `sigma` = {sigma:g} the loss changes by {rise:g} in the median; "
            "train longer, or choose another `sigma`."
        )
    return center_loss + _DROP * rise


@dataclass(frozen=True)
class _Line:
    """A line through the lowest `count` points of a curve.

    Attributes:
        count: how many points.
        slope, error: its slope and the standard error of that.
        bend: slope of the upper half minus that of the lower half.
        is_straight: whether the bend is below its standard error.
    """

    count: int
    slope: float
    error: float
    bend: float
    is_straight: bool

    @classmethod
    def through(cls, log_excess: Tensor, curve: Curve, count: int) -> _Line:
        """The line through the lowest `count` points, and how far it bends."""
        half = int((log_excess[:count] - log_excess[0] <= 0.5 * (log_excess[count - 1] - log_excess[0])).sum())
        half = min(max(half, 2), count - 2)
        lower, upper = slice(0, half), slice(half, count)
        bend, bend_error = _slope(log_excess, curve, upper, lower)
        return cls(count, *_slope(log_excess, curve, slice(0, count)), bend, abs(bend) <= bend_error)


def _straight(log_excess: Tensor, curve: Curve) -> _Line:
    """The longest straight line from the lowest point on, or else the shortest one."""
    spans = log_excess - log_excess[0]
    least = max(_LEAST_POINTS, int((spans < _LEAST_SPAN).sum()) + 1)
    if least > len(spans):
        raise ValueError(
            f"`cutoff` must be far below the losses of the measure: chains passed {len(spans)} cutoffs within a factor "
            f"of {math.exp(float(spans[-1])):.3g}; lower `cutoff`, or raise `sigma`."
        )
    for count in range(len(spans), least - 1, -1):
        line = _Line.through(log_excess, curve, count)
        if line.is_straight:
            return line
    return line


def _slope(log_excess: Tensor, curve: Curve, part: slice, minus: slice | None = None) -> tuple[float, float]:
    """The slope of the least-squares line through a part of a curve, minus that of another part, and its error."""
    slope, slopes = _slopes(log_excess[part], curve.log_mass[part]), _slopes(log_excess[part], curve.log_groups[part])
    if minus is not None:
        slope = slope - _slopes(log_excess[minus], curve.log_mass[minus])
        slopes = slopes - _slopes(log_excess[minus], curve.log_groups[minus])
    error = few_groups_factor(len(slopes)) * float(slopes.std()) / math.sqrt(len(slopes))
    return float(slope), error


def _slopes(x: Tensor, log_mass: Tensor) -> Tensor:
    """The slope of the least-squares line through log masses [n] or [n, G]."""
    centered = x - x.mean()
    return centered @ log_mass / centered.square().sum()
