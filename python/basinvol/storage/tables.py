"""Tables for pandas and xarray from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..inputs.optional import optional

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(frozen=True)
class Variable:
    """An array with names for its dimensions, and what its numbers mean.

    Attributes:
        dims: names of the dimensions.
        values: an array of as many dimensions, or a number where there are none.
        units: the unit of the numbers; "1" where there is none.
        description: what they are, in a few words.
    """

    dims: tuple[str, ...]
    values: Any
    units: str
    description: str


def data_frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A table of pandas from columns by name.

    Raises:
        MissingPackage: pandas is not installed.
    """
    frame: pd.DataFrame = optional("pandas", "tables", "to_dataframe()").DataFrame(dict(columns))
    return frame


def dataset(
    variables: Mapping[str, Variable], coordinates: Mapping[str, Variable], attributes: Mapping[str, Any]
) -> xr.Dataset:
    """A dataset of xarray, with "units" and "long_name" in the attributes of every variable, as netCDF has them.

    Args:
        variables, coordinates: arrays by name.
        attributes: of the dataset; those that are None are left out.

    Raises:
        MissingPackage: xarray is not installed.
    """

    def each(arrays: Mapping[str, Variable]) -> dict[str, Any]:
        return {
            name: (part.dims, part.values, {"units": part.units, "long_name": part.description})
            for name, part in arrays.items()
        }

    known = {name: value for name, value in attributes.items() if value is not None}
    made: xr.Dataset = optional("xarray", "tables", "to_dataset()").Dataset(each(variables), each(coordinates), known)
    return made
