"""What a radius search returns: one bracket, status and radius per level, cutoff and direction."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..figures.card import PLAIN, card
from ..figures.inline import histogram
from ..storage.archive import Saveable
from ..storage.tables import Variable, data_frame, dataset
from .trace import Trace

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# With resolve="decisive", directions solved in full, which give the distribution; the second number is for directions
# so unlike each other that more of them would change nothing of what is said about them.
NUM_SPREAD, NUM_SPREAD_FEW = 32, 8

DEFAULT_SLOPE = 2.0  # of a quadratic basin
_GENERIC_SPREAD = 0.05  # of slopes, where nothing is known
_SLOPE_RANGE = (0.5, 50.0)  # slopes are clamped to it before they are averaged, so that one odd ray does not decide


class Status(enum.Enum):
    """How the search along one direction ended; the value is the sentence for users."""

    CROSSED = "the cutoff was crossed"
    CENSORED = "still inside at radius_max; raise it, or report a bound"
    CENTER_OUTSIDE = "the loss at the center is above the cutoff; the basin is empty and the radius 0"
    NON_FINITE = "the loss became NaN or infinite; such points count as outside"
    MAX_STEPS = "the bracket was still wider than rtol after max_steps evaluations"
    NEGLIGIBLE = "proved too short to matter; its upper bound is kept"

    @property
    def code(self) -> int:
        """The small integer that stands for the status in arrays and files."""
        return _STATUSES.index(self)


_STATUSES = tuple(Status)


@dataclass(frozen=True, repr=False)
class Radii(Saveable):
    """Boundary radii with their certificates, in the chosen (scaled) coordinates.

    Shapes are [L, C, D] from `find_radii`, and [D] from `at` and `estimate_volume`. Every CROSSED direction has
    loss(lower) <= cutoff < loss(upper), both evaluated on the full level; loss(0) is the loss at the center.

    Attributes:
        lower: largest radius known to be inside. float64
        upper: smallest radius known to be outside; infinity where the ray never left. float64
        radius: the estimated crossing between them; 0 for CENTER_OUTSIDE; NaN for every other status, so that a ray
            that failed cannot be averaged by accident. float64
        value_lower, value_upper: the losses at `lower` and `upper`; for NEGLIGIBLE, `value_upper` is a lower bound of
            the loss there. float64
        slope: d ln(loss - center loss) / d ln(radius) near the crossing, 2 for a quadratic. float64
        status_code: codes of `status`. int8
        num_evaluations: loss evaluations spent on each direction, all levels and cutoffs together. [D] int64
        num_full_evaluations: the same in units of all examples of the largest level, samples and proofs that stop early
            included: how many losses of single examples were computed, over how many there are. Where it is not
            recorded, every evaluation counts as one. [D] float64
        levels, cutoffs: what the first two axes stand for.
        trace: every evaluation behind these radii, from backends that keep them.
    """

    lower: Tensor
    upper: Tensor
    radius: Tensor
    value_lower: Tensor
    value_upper: Tensor
    slope: Tensor
    status_code: Tensor
    num_evaluations: Tensor
    levels: tuple[int, ...]
    cutoffs: tuple[float, ...]
    trace: Trace | None = None
    num_full_evaluations: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, dtype=torch.float64))

    def __post_init__(self) -> None:
        if len(self.num_full_evaluations) != len(self.num_evaluations):
            object.__setattr__(self, "num_full_evaluations", self.num_evaluations.double())

    @property
    def entering(self) -> Tensor:
        """The value with which each ray enters an average: its radius, or its certified lower end. float64"""
        return torch.where(torch.isnan(self.radius), self.lower, self.radius)

    @property
    def status(self) -> NDArray[np.object_]:
        """The `Status` of each ray."""
        table = np.array(_STATUSES, dtype=object)
        return table[self.status_code.numpy().astype(np.int64)]

    def is_status(self, status: Status) -> Tensor:
        """Whether each ray has this status. bool"""
        return self.status_code == status.code

    def __len__(self) -> int:
        return int(self.num_evaluations.shape[0])

    def __repr__(self) -> str:
        counts = Counter(status.name for status in self.status.reshape(-1))
        shown = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
        return f"Radii({len(self)} directions, levels {list(self.levels)}, cutoffs {list(self.cutoffs)}: {shown})"

    def _repr_html_(self) -> str:
        parts = [self] if self.radius.ndim == 1 else [self.at(n, c) for n in self.levels for c in self.cutoffs]
        return "".join(part._one_html() for part in parts[:_MOST_SHOWN]) + (
            f"<div>and {len(parts) - _MOST_SHOWN} more</div>" if len(parts) > _MOST_SHOWN else ""
        )

    def _one_html(self) -> str:
        """One level and cutoff as HTML."""
        radius = self.radius[torch.isfinite(self.radius) & (self.radius > 0)]
        crossed = int(self.is_status(Status.CROSSED).sum())
        rows, figure = [("evaluations", f"{int(self.num_evaluations.sum()):,}")], ""
        if len(radius):
            span = f"{float(radius.min()):.4g} to {float(radius.max()):.4g}, median {float(radius.median()):.4g}"
            rows.append(("radius", span))
            figure = histogram(radius.numpy(), None, "radius", f"Histogram of {len(radius)} radii, from {span}.")
        where = f"{self.levels[0]:,} examples, cutoff {self.cutoffs[0]:g}"
        counts = Counter(self.status)
        sentence = "; ".join(f"{count:,}: {status.value}" for status, count in counts.most_common())
        return card(
            f"{crossed:,} of {len(self):,} directions cross ({where})", sentence, rows, figure, repr(self), PLAIN
        )

    def to_dict(self) -> dict[str, Any]:
        """Levels, cutoffs and every array as nested lists, for JSON; what is not finite becomes None."""
        arrays = {name: _listed(getattr(self, name).tolist()) for name in _TENSORS if name != "status_code"}
        statuses = np.vectorize(lambda status: status.name, otypes=[object])(self.status).tolist()
        return {"levels": list(self.levels), "cutoffs": list(self.cutoffs), **arrays, "status": statuses}

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row per direction, cutoff and level.

        Its columns are the position of the direction, level, cutoff, lower, upper, radius, value_lower, value_upper,
        slope, status, num_evaluations and num_full_evaluations, which are those of all levels and cutoffs of the
        direction together.

        Raises:
            MissingPackage: pandas is not installed.
        """
        shape = (len(self.levels), len(self.cutoffs), len(self))

        def flat(values: Any) -> NDArray[Any]:
            spread: NDArray[Any] = np.broadcast_to(np.asarray(values), shape).reshape(-1)
            return spread

        numbers = {name: flat(getattr(self, name).numpy()) for name in _PER_RAY if name != "status_code"}
        return data_frame(
            {
                "direction": flat(np.arange(len(self))),
                "level": flat(np.array(self.levels)[:, None, None]),
                "cutoff": flat(np.array(self.cutoffs)[None, :, None]),
                **numbers,
                "status": [status.name for status in self.status.reshape(-1)],
                "num_evaluations": flat(self.num_evaluations.numpy()),
                "num_full_evaluations": flat(self.num_full_evaluations.numpy()),
            }
        )

    def to_dataset(self) -> xr.Dataset:
        """The arrays with the dimensions "level", "cutoff" and "direction", and their units, for xarray.

        Of one level and cutoff (see `at`), these two are coordinates without a dimension.

        Raises:
            MissingPackage: xarray is not installed.
        """
        is_one = self.radius.ndim == 1
        dims = ("direction",) if is_one else ("level", "cutoff", "direction")
        variables = {
            name: Variable(dims, getattr(self, name).numpy(), unit, what) for name, (unit, what) in _MEANINGS.items()
        }
        names = np.vectorize(lambda status: status.name, otypes=[str])(self.status)
        variables["status"] = Variable(dims, names, "1", "how the search along the direction ended")
        spent = "loss evaluations, of all levels and cutoffs together"
        variables["num_evaluations"] = Variable(("direction",), self.num_evaluations.numpy(), "1", spent)
        full = f"{spent}, in units of all examples"
        variables["num_full_evaluations"] = Variable(("direction",), self.num_full_evaluations.numpy(), "1", full)
        level: Any = self.levels[0] if is_one else np.array(self.levels)
        cutoff: Any = self.cutoffs[0] if is_one else np.array(self.cutoffs)
        coordinates = {
            "direction": Variable(("direction",), np.arange(len(self)), "1", "position of the direction"),
            "level": Variable(() if is_one else ("level",), level, "examples", "number of examples of the landscape"),
            "cutoff": Variable(() if is_one else ("cutoff",), cutoff, "loss", "loss that bounds the basin"),
        }
        return dataset(variables, coordinates, {})

    def at(self, level: int | None = None, cutoff: float | None = None) -> Radii:
        """The radii [D] of one level (a number of examples) and one cutoff; either may be left out if there is one.

        >>> import basinvol as bv
        >>> case = bv.ground_truth.ball(3)  # loss |w|^2
        >>> directions = bv.Directions(bv.ParameterSpace.of(case.task()[0]), count=2)
        >>> radii = bv.find_radii(bv.Landscape(*case.task()), directions, [1.0, 4.0], scaling="none")
        >>> [round(radius, 3) for radius in radii.at(cutoff=4.0).radius.tolist()]
        [2.0, 2.0]
        """
        row = _position(self.levels, level, "level")
        column = _position(self.cutoffs, cutoff, "cutoff")
        fields = {name: getattr(self, name)[row, column] for name in _PER_RAY}
        trace = None if self.trace is None else self.trace.only([row])
        levels, cutoffs = (self.levels[row],), (self.cutoffs[column],)
        return dataclasses.replace(self, **fields, levels=levels, cutoffs=cutoffs, trace=trace)

    def only(self, levels: Sequence[int]) -> Radii:
        """The radii of some of the levels, by their numbers of examples."""
        rows = [self.levels.index(level) for level in levels]
        fields = {name: getattr(self, name)[rows] for name in _PER_RAY}
        trace = None if self.trace is None else self.trace.only(rows)
        return dataclasses.replace(self, **fields, levels=tuple(levels), trace=trace)

    def take(self, rays: Tensor) -> Radii:
        """The radii of some directions, by their positions `rays`. [n] int64"""
        fields = {name: getattr(self, name)[..., rays] for name in _TENSORS}
        trace = None if self.trace is None else self.trace.take(rays)
        return Radii(**fields, levels=self.levels, cutoffs=self.cutoffs, trace=trace)

    def replaced(self, rays: Tensor, by: Radii) -> Radii:
        """A copy in which the directions at the positions `rays` [n] are those of `by`."""
        fields = {name: getattr(self, name).clone() for name in _TENSORS}
        for name, values in fields.items():
            values[..., rays] = getattr(by, name)
        trace = None
        if self.trace is not None and by.trace is not None:
            trace = Trace.joined([self.trace.without(rays), by.trace.at_rays(rays)])
        return Radii(**fields, levels=self.levels, cutoffs=self.cutoffs, trace=trace)

    def between(self, start: int, stop: int) -> Radii:
        """The radii of the directions at positions `start` to `stop` - 1."""
        return self.take(torch.arange(start, stop))

    @staticmethod
    def concatenate(parts: Sequence[Radii]) -> Radii:
        """The radii of several ranges of directions, one after the other."""
        first, traces, start = parts[0], [], 0
        for part in parts:
            if part.trace is not None:
                traces.append(part.trace.at_rays(torch.arange(start, start + len(part))))
            start += len(part)
        fields = {name: torch.cat([getattr(p, name) for p in parts], dim=-1) for name in _TENSORS}
        trace = Trace.joined(traces) if len(traces) == len(parts) else None
        return Radii(**fields, levels=first.levels, cutoffs=first.cutoffs, trace=trace)


COUNTS = ("num_evaluations", "num_full_evaluations")  # of a direction
_PER_RAY = ("lower", "upper", "radius", "value_lower", "value_upper", "slope", "status_code")
_TENSORS = (*_PER_RAY, *COUNTS)
_MOST_SHOWN = 6  # levels and cutoffs in a notebook
_MEANINGS = {
    "lower": ("scale", "largest radius known to be inside"),
    "upper": ("scale", "smallest radius known to be outside"),
    "radius": ("scale", "radius at which the loss crosses the cutoff"),
    "value_lower": ("loss", "loss at the lower end"),
    "value_upper": ("loss", "loss at the upper end"),
    "slope": ("1", "d ln(loss - center loss) / d ln(radius) near the crossing"),
}


def _listed(values: Any) -> Any:
    """Nested lists without numbers that JSON does not have."""
    if isinstance(values, list):
        return [_listed(part) for part in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


@dataclass(frozen=True)
class Guess:
    """Where a search looks first, from rays that are already solved.

    Attributes:
        radius: the typical radius. [L, C] float64
        slope: the typical slope, see `Radii`. [L, C] float64
        spread: how far the slope of a ray is from that, relative to it. [L, C] float64
    """

    radius: Tensor
    slope: Tensor
    spread: Tensor

    @classmethod
    def generic(cls, num_levels: int, num_cutoffs: int, radius: float) -> Guess:
        """A guess with the same radius everywhere, and the slope of a quadratic.

        Args:
            num_levels: L.
            num_cutoffs: C.
            radius: where to look first, in scaled coordinates.
        """
        shape = (num_levels, num_cutoffs)
        return cls(
            torch.full(shape, radius, dtype=torch.float64),
            torch.full(shape, DEFAULT_SLOPE, dtype=torch.float64),
            torch.full(shape, _GENERIC_SPREAD, dtype=torch.float64),
        )

    @classmethod
    def learned(cls, pilot: Radii, otherwise: Guess) -> Guess:
        """The geometric mean radius, and mean and spread of the slope, of the crossed rays of `pilot`.

        Args:
            pilot: rays that are solved.
            otherwise: what is taken where none crossed, or for the spread, only one.
        """
        crossed = pilot.is_status(Status.CROSSED)
        count = crossed.sum(dim=-1)
        logs = torch.where(crossed, pilot.radius, 1.0).log()
        slopes = torch.where(crossed, pilot.slope, 0.0).clamp(*_SLOPE_RANGE) * crossed
        some, several = count > 0, count > 1
        slope = torch.where(some, slopes.sum(dim=-1) / count.clamp(min=1), otherwise.slope)
        squares = (torch.where(crossed, slopes - slope[..., None], 0.0) ** 2).sum(dim=-1)
        return cls(
            torch.where(some, (logs.sum(dim=-1) / count.clamp(min=1)).exp(), otherwise.radius),
            slope,
            torch.where(several, (squares / (count - 1).clamp(min=1)).sqrt() / slope, otherwise.spread),
        )


def _position(values: Sequence[float], wanted: float | None, name: str) -> int:
    if wanted is None:
        if len(values) != 1:
            raise ValueError(f"`{name}` must be one of {list(values)}.")
        return 0
    if wanted not in values:
        raise ValueError(f"`{name}` must be one of {list(values)}, got {wanted}.")
    return values.index(wanted)
