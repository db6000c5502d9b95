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
    """A log-volume with its diagnostics, the radii behind it and how it was made. `print` shows the verdict first."""

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
