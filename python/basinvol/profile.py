"""The loss against the radius over many directions, to choose a cutoff by."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .figures.card import PLAIN, card
from .figures.inline import lines
from .model.default_device import cpu_by_default
from .model.directions import Directions
from .model.landscape import Landscape, LossFunction
from .model.parameters import ParameterSpace
from .progress import progress_bar
from .rays import RaySolver, find_radii
from .search.radii import Status
from .storage.archive import Saveable
from .storage.tables import Variable, data_frame, dataset

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_NUM_PILOT = 8  # rays that show where the loss begins to rise
_RISE = 0.01  # a profile begins where the loss has risen by this share of the loss at the center
_SPAN = 100.0  # a profile ends at this many times the radius it begins at
_BAR = 24  # width of the axis in the printed table, in characters


@dataclass(frozen=True, repr=False)
class LossProfile(Saveable):
    """The losses along D rays at R radii.

    Attributes:
        radius: radii in scaled coordinates. Each ray is evaluated at these times the norm of its Gaussian vector over
            sqrt(P), which differs from one by about 1 / sqrt(2 P). [R] float64
        losses: losses at these radii; infinity from where a ray's loss is not finite. [D, R] float64
        center_loss: the loss at radius 0.
        dim: P.
        scaling, backend: how the profile was measured.
    """

    radius: NDArray[np.float64]
    losses: NDArray[np.float64]
    center_loss: float
    dim: int
    scaling: str
    backend: str

    @property
    def quantiles(self) -> NDArray[np.float64]:
        """The quantiles of the loss over the rays, at `QUANTILES`. [5, R] float64"""
        return np.quantile(self.losses, QUANTILES, axis=0, method="lower")

    def __str__(self) -> str:
        low, _, middle, _, high = self.quantiles
        finite = self.quantiles[np.isfinite(self.quantiles) & (self.quantiles > 0)]
        text = [
            f"loss at the center {self.center_loss:.6g}; {self.dim:,} parameters, {len(self.losses)} directions, "
            f"{self.scaling} scaling, backend {self.backend}",
            f"{'radius':>12}" + "".join(f"{f'{quantile:.0%}':>11}" for quantile in QUANTILES) + "  5 % to 95 %, median",
        ]
        for column, radius in enumerate(self.radius):
            cells = "".join(f"{value:>11.4g}" for value in self.quantiles[:, column])
            bar = _bar((low[column], middle[column], high[column]), finite.min(), finite.max())
            text.append(f"{radius:>12.5g}{cells}  {bar}")
        return "\n".join(text)

    def __repr__(self) -> str:
        return (
            f"LossProfile({len(self.losses)} directions, {len(self.radius)} radii from {self.radius[0]:.4g} to "
            f"{self.radius[-1]:.4g}, {self.dim:,} dimensions, loss at the center {self.center_loss:.6g})"
        )

    def _repr_html_(self) -> str:
        with np.errstate(divide="ignore"):
            rows = np.log(self.quantiles)
        rows[np.isneginf(rows)] = np.nan
        what = f"the loss (logarithmic) along {len(self.losses)} directions, 5 to 95 %"
        figure = lines(self.radius, list(rows), "radius", f"Quantiles of {what}, against the radius.")
        places = [0, len(self.radius) // 2, len(self.radius) - 1]
        shown = [
            (
                f"at radius {self.radius[i]:.4g}",
                f"median loss {self.quantiles[2][i]:.4g}, 5 % {self.quantiles[0][i]:.4g}",
            )
            for i in places
        ]
        headline = f"loss at the center {self.center_loss:.6g}"
        return card(headline, f"Below: {what}, against the radius.", shown, figure, str(self), PLAIN)

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row per direction and radius.

        Raises:
            MissingPackage: pandas is not installed.
        """
        count, num_radii = self.losses.shape
        return data_frame(
            {
                "direction": np.repeat(np.arange(count), num_radii),
                "radius": np.tile(self.radius, count),
                "loss": self.losses.reshape(-1),
            }
        )

    def to_dataset(self) -> xr.Dataset:
        """The losses along "direction" and "radius", and their quantiles over the directions, for xarray.

        Raises:
            MissingPackage: xarray is not installed.
        """
        variables = {
            "loss": Variable(("direction", "radius"), self.losses, "loss", "mean loss along a direction"),
            "loss_quantile": Variable(("quantile", "radius"), self.quantiles, "loss", "quantile over directions"),
            "center_loss": Variable((), self.center_loss, "loss", "loss at radius 0"),
        }
        directions = np.arange(len(self.losses))
        coordinates = {
            "direction": Variable(("direction",), directions, "1", "position of the direction"),
            "radius": Variable(("radius",), self.radius, "scale", "distance from the center"),
            "quantile": Variable(("quantile",), np.array(QUANTILES), "1", "share of the directions"),
        }
        return dataset(variables, coordinates, {"dim": self.dim, "scaling": self.scaling, "backend": self.backend})

    def to_dict(self) -> dict[str, Any]:
        """The quantiles and settings as plain types, for JSON; infinities become None."""
        table = [[value if math.isfinite(value) else None for value in row] for row in self.quantiles.tolist()]
        return {
            "center_loss": self.center_loss,
            "dim": self.dim,
            "num_directions": len(self.losses),
            "scaling": self.scaling,
            "backend": self.backend,
            "radius": self.radius.tolist(),
            "quantiles": {str(quantile): row for quantile, row in zip(QUANTILES, table, strict=True)},
        }

    def plot(self) -> Figure:
        """The quantiles as a matplotlib figure, both axes logarithmic."""
        from .figures.of_profile import plot_quantiles  # matplotlib is optional

        return plot_quantiles(self.radius, self.quantiles, self.center_loss, self.scaling, len(self.losses))


@cpu_by_default
def loss_profile(
    model: nn.Module,
    loss_fn: LossFunction | None,
    data: tuple[Tensor, Tensor] | Iterable[Any],
    num_directions: int = 32,
    num_radii: int = 25,
    seed: int = 0,
    *,
    scaling: str = "filter",
    backend: str = "auto",
    device: torch.device | str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> LossProfile:
    """The loss along random rays, from where it has risen by 1 % of the loss at the center to a hundred times as far.

    >>> import basinvol as bv
    >>> model = nn.Linear(3, 2, bias=False)
    >>> data = torch.eye(3), model(torch.eye(3)).detach()
    >>> profile = bv.loss_profile(model, nn.functional.mse_loss, data, num_directions=4, num_radii=3, scaling="none")
    >>> profile.losses.shape
    (4, 3)
    >>> bool((np.diff(profile.losses) > 0).all())  # the loss rises along every ray
    True

    Args:
        model, loss_fn, data: see `basinvol.estimate_volume`.
        num_directions: D, the number of rays.
        num_radii: R, the number of radii, evenly spaced in their logarithm.
        seed: seed of the directions.
        scaling, backend, device, num_threads, progress: see `basinvol.estimate_volume`.

    Raises:
        ValueError: an argument is bad, or the loss does not rise along the first rays.
    """
    if num_radii < 2:
        raise ValueError(f"`num_radii` must be at least 2, got {num_radii}.")
    space = ParameterSpace.of(model)
    landscape = Landscape(model, loss_fn, data, device=device)
    options: dict[str, Any] = {"scaling": scaling, "backend": backend, "num_threads": num_threads}
    directions = Directions(space, num_directions, seed)
    center = float(landscape.losses()[-1])
    first = _first_radius(landscape, Directions(space, min(num_directions, _NUM_PILOT), seed), center, options)
    radius = np.geomspace(first, _SPAN * first, num_radii)
    grid = (radius / math.sqrt(space.dim)).tolist()
    # Every ray is inside everywhere, so that a grid search evaluates every point.
    solver = RaySolver(landscape, directions, [sys.float_info.max], search="grid", grid=grid, **options)
    with progress_bar(progress, num_directions, "directions", "dir") as bar:
        trace = solver.solve(0, num_directions, bar.update).trace
    if trace is None:
        raise ValueError(
            f"backend {solver.choice.backend.name!r} keeps no losses; use backend='native' or 'reference'."
        )
    losses = np.full((num_directions, num_radii), np.inf)
    counts = torch.bincount(trace.ray, minlength=num_directions).tolist()
    for row, values in enumerate(trace.losses[:, 0].split(counts)):
        losses[row, : len(values)] = values.numpy()
    return LossProfile(radius, losses, center, space.dim, scaling, solver.choice.backend.name)


def _first_radius(landscape: Landscape, directions: Directions, center: float, options: dict[str, Any]) -> float:
    """The median radius at which the loss has risen by 1 % of that at the center."""
    risen = center + max(_RISE * abs(center), 1e-9)
    radii = find_radii(landscape, directions, [risen], rtol=1e-2, **options).at()
    crossed = radii.is_status(Status.CROSSED)
    if not bool(crossed.any()):
        raise ValueError(f"the loss does not rise from {center:.6g} to {risen:.6g} along {len(radii)} directions.")
    return float(radii.radius[crossed].median())


def _bar(values: tuple[float, float, float], low: float, high: float) -> str:
    """A span with its median in characters, on a logarithmic axis from `low` to `high`."""

    def place(value: float) -> int:
        share = math.log(max(value, low) / low) / max(math.log(high / low), 1e-12) if value < math.inf else 1.0
        return round(min(share, 1.0) * (_BAR - 1))

    first, middle, last = (place(value) for value in values)
    line = [" "] * _BAR
    line[first : last + 1] = ["-"] * (last + 1 - first)
    line[middle] = "o"
    return "".join(line).rstrip()
