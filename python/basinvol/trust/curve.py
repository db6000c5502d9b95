"""The log mass of a basin against its cutoff, at every cutoff that chains passed on their way down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..figures.card import PLAIN, card
from ..figures.inline import lines
from ..storage.archive import Saveable
from ..storage.tables import Variable, data_frame, dataset

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_PRINTED = 20  # rows


@dataclass(frozen=True, repr=False)
class Curve(Saveable):
    """The log of the mass of {loss <= cutoff} under the Gaussian measure, for n cutoffs in increasing order.

    Neighbors share most of their chains, so their errors are nearly the same error: differences along the curve are
    better known than the errors of its ends say. Differences between columns of `log_groups` show how well.

    Attributes:
        cutoff: losses. [n] float64
        log_mass: the log of the mass. [n] float64, nats
        standard_error: its standard error. [n] float64, nats
        log_groups: the same from each of G independent groups of chains. [n, G] float64, nats
    """

    cutoff: Tensor
    log_mass: Tensor
    standard_error: Tensor
    log_groups: Tensor

    @classmethod
    def of(cls, rows: list[tuple[float, float, float, Tensor]]) -> Curve:
        """The curve of rows (cutoff, log mass, standard error, log mass by group), in any order."""
        rows = sorted(rows, key=lambda row: row[0])
        cutoff, log_mass, error = torch.tensor([row[:3] for row in rows], dtype=torch.float64).reshape(-1, 3).unbind(1)
        groups = torch.stack([row[3] for row in rows]) if rows else torch.empty((0, 0), dtype=torch.float64)
        return cls(cutoff, log_mass, error, groups)

    def ending(self, cutoff: float, log_mass: float, standard_error: float, log_groups: Tensor) -> Curve:
        """The curve from a cutoff on, with the estimate there as its first row.

        Args:
            cutoff: smallest cutoff.
            log_mass, standard_error: the log of the mass there and its standard error. nats
            log_groups: the log of the mass from each group. [G] float64, nats
        """
        above = self.cutoff > cutoff
        return Curve(
            torch.cat([torch.tensor([cutoff], dtype=torch.float64), self.cutoff[above]]),
            torch.cat([torch.tensor([log_mass], dtype=torch.float64), self.log_mass[above]]),
            torch.cat([torch.tensor([standard_error], dtype=torch.float64), self.standard_error[above]]),
            torch.stack([log_groups, *self.log_groups[above]]),
        )

    def __len__(self) -> int:
        return len(self.cutoff)

    def to_dict(self) -> dict[str, list[float]]:
        """The three columns of the table as lists, for JSON and for pandas.DataFrame."""
        return {name: getattr(self, name).tolist() for name in ("cutoff", "log_mass", "standard_error")}

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row per cutoff.

        Raises:
            MissingPackage: pandas is not installed.
        """
        return data_frame(self.to_dict())

    def to_dataset(self) -> xr.Dataset:
        """The log mass along "cutoff", and along "group" of chains, in nats, for xarray.

        Raises:
            MissingPackage: xarray is not installed.
        """
        variables = {
            "log_mass": Variable(("cutoff",), self.log_mass.numpy(), "nats", "log of the mass"),
            "standard_error": Variable(("cutoff",), self.standard_error.numpy(), "nats", "its standard error"),
            "log_groups": Variable(("cutoff", "group"), self.log_groups.numpy(), "nats", "log mass by group of chains"),
        }
        groups = np.arange(self.log_groups.shape[1])
        coordinates = {
            "cutoff": Variable(("cutoff",), self.cutoff.numpy(), "loss", "loss that bounds the basin"),
            "group": Variable(("group",), groups, "1", "independent group of chains"),
        }
        return dataset(variables, coordinates, {})

    def __repr__(self) -> str:
        if not len(self):
            return "Curve(no cutoffs)"
        return f"Curve({len(self)} cutoffs from {float(self.cutoff[0]):.6g} to {float(self.cutoff[-1]):.6g})"

    def _repr_html_(self) -> str:
        inside = self.cutoff > 0
        x, y, error = (part[inside].numpy() for part in (self.cutoff, self.log_mass, self.standard_error))
        figure = lines(x, [y - error, y, y + error], "cutoff", "Log mass against cutoff.") if len(x) > 1 else ""
        return card("log mass against cutoff", repr(self), [], figure, str(self), PLAIN)

    def __str__(self) -> str:
        """A table of at most 20 rows, evenly taken."""
        count = len(self)
        rows = sorted({round(i * (count - 1) / (_PRINTED - 1)) for i in range(_PRINTED)}) if count else []
        lines = [f"{'cutoff':>12}  {'log mass':>12}  {'error':>7}"]
        for i in rows:
            lines.append(
                f"{float(self.cutoff[i]):12.6g}  {float(self.log_mass[i]):12,.2f}  {float(self.standard_error[i]):7.2f}"
            )
        return "\n".join(lines)
