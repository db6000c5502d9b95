"""The result of `estimate_volume`, which prints itself and gives tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .result import MeasuredVolume
from .text import describe_estimate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class VolumeEstimate(MeasuredVolume):
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

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row per direction: bracket, radius, losses at both ends, slope, status, evaluations."""
        import pandas as pd  # optional

        radii = self.radii
        return pd.DataFrame(
            {
                "direction": range(len(radii)),
                "lower": radii.lower.numpy(),
                "upper": radii.upper.numpy(),
                "radius": radii.radius.numpy(),
                "value_lower": radii.value_lower.numpy(),
                "value_upper": radii.value_upper.numpy(),
                "slope": radii.slope.numpy(),
                "status": [status.name for status in radii.status],
                "num_evaluations": radii.num_evaluations.numpy(),
            }
        )

    def plot(self) -> Figure:
        """The distribution of the radii and how the weight is shared, as a matplotlib figure."""
        from ..figures.of_estimate import plot_weights  # matplotlib is optional

        radius = self.radii.radius
        found = self.diagnostics
        return plot_weights(
            radius[~radius.isnan() & (radius > 0)].numpy(),
            self.dim,
            self.scaling,
            f"{found.verdict}: log volume {self.log_volume:,.1f} nats, "
            f"effective sample size {found.ess:.1f} of {found.num_used}",
        )
