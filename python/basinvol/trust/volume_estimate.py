"""The result of `estimate_volume`, which prints itself and gives tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..search.radii import Radii
from ..search.trace import Trace
from ..storage.archive import Saveable
from ..storage.tables import Variable, dataset
from .chains import ChainSamples
from .curve import Curve
from .diagnostics import Diagnostics, Verdict
from .html import estimate_html
from .measures import Measure
from .result import MeasuredVolume
from .text import describe_estimate

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

# Terms of the result as they are in a dataset, with what they mean.
_TERMS = {
    "log_volume": "log of the volume or mass of the basin",
    "lower_bound": "value that the true log exceeds with 95 % confidence",
    "log_unit_ball": "log volume of the unit ball",
    "log_mean_power": "log of the mean weight of a direction",
    "log_det_scale": "log of the determinant of the scale",
    "standard_error": "standard error of the log, valid only if trustworthy",
}
_SETTINGS = ("method", "search", "scaling", "seed", "backend", "num_directions", "dim", "cutoff", "center_loss")


@dataclass(frozen=True, repr=False)
class VolumeEstimate(MeasuredVolume, Saveable):
    """A log-volume with its diagnostics, the radii behind it and how it was made. `print` shows the verdict first.

    >>> import basinvol as bv
    >>> case = bv.ground_truth.ball(10, radius=2.0)
    >>> est = bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=100, scaling="none")
    >>> print(est)
    verdict          trustworthy: ...
    log volume       7.87 nats in 10 dimensions, 95% interval ...
    >>> est.dim, est.num_directions, est.method
    (10, 100, 'star')
    """

    def __str__(self) -> str:
        return describe_estimate(self)

    def __repr__(self) -> str:
        return (
            f"VolumeEstimate({self.diagnostics.verdict}, {self.measure.quantity} {self.log_volume:,.2f} nats, "
            f"{self.dim:,} dimensions, cutoff {self.cutoff:g}, method {self.method})"
        )

    def _repr_html_(self) -> str:
        return estimate_html(self)

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row per direction: bracket, radius, losses at both ends, slope, status, evaluations.

        Raises:
            MissingPackage: pandas is not installed.
        """
        return self.radii.to_dataframe().drop(columns=["level", "cutoff"])

    def to_dataset(self) -> xr.Dataset:
        """The radii along "direction" as in `Radii.to_dataset`, with the log-volume and its terms, in nats.

        Raises:
            MissingPackage: xarray is not installed.
        """
        terms = {name: Variable((), getattr(self, name), "nats", what) for name, what in _TERMS.items()}
        found = self.diagnostics
        about = {
            "verdict": str(found.verdict),
            "reason": found.reason,
            **self.measure.settings(),
            **{name: getattr(self, name) for name in _SETTINGS},
        }
        return self.radii.to_dataset().merge(dataset(terms, {}, {})).assign_attrs(dataset({}, {}, about).attrs)

    def to_datatree(self) -> xr.DataTree:
        """Statistics of the chains at the end, as ArviZ takes them: `arviz_stats.summary(estimate.to_datatree())`.

        Raises:
            MissingPackage: xarray is not installed.
            ValueError: the method has no chains that keep them.
        """
        if self.samples is None:
            raise ValueError(f"method {self.method!r} keeps no chains; use method='annealed'.")
        return self.samples.to_datatree()

    def plot(self) -> Figure:
        """The distribution of the radii and how the weight is shared, as a matplotlib figure."""
        from ..figures.of_estimate import plot_weights  # matplotlib is optional

        radius, found = self.radii.radius, self.diagnostics
        counted = radius[~radius.isnan() & (radius > 0)]
        return plot_weights(
            counted.numpy(),
            self.measure.log_weights(counted, self.dim).numpy(),
            self.scaling,
            "masses" if self.measure.is_gaussian else "$r^P$",
            f"{found.verdict}: {self.measure.quantity} {self.log_volume:,.1f} nats, "
            f"effective sample size {found.ess:.1f} of {found.num_used}",
        )


# What the file of an estimate holds.
_KINDS = (VolumeEstimate, Radii, Trace, Curve, ChainSamples, Diagnostics, Verdict, Measure)
TYPES = {kind.__name__: kind for kind in _KINDS}
