"""Volumes at chosen steps of a training, which goes on as if nothing had been measured."""

from __future__ import annotations

import enum
import inspect
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..estimate import estimate_volume
from ..estimators import CenterOutsideError
from ..inputs.arguments import real_number, whole_number
from ..inputs.data import read_data
from ..inputs.fields import Fields
from ..model.deadline import BudgetSpent
from ..model.landscape import LossFunction
from ..storage.tables import data_frame
from ..trust.diagnostics import Verdict
from ..trust.volume_estimate import VolumeEstimate
from .bystander import bystander

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger("basinvol")

# A number during training compares checkpoints: fewer directions, and rays that never cross are no reason to refuse.
_DEFAULTS = {"num_directions": 100, "on_censored": "bound"}
# What the recorder sets itself, or what has no meaning for it.
_RESERVED = ("model", "loss_fn", "data", "cutoff", "progress", "resume", "budget_seconds")


class RowStatus(enum.Enum):
    """How the measurement at one step ended; the value is the sentence for users."""

    MEASURED = "measured"
    CENTER_OUTSIDE = "the loss at this step is not below the cutoff, so that it is in no basin"
    OVER_BUDGET = "the budget of all measurements together is spent"
    FAILED = "the measurement failed"


@dataclass(frozen=True)
class VolumeRow:
    """What is known of one step of a training.

    Attributes:
        step: number of the step.
        status: how the measurement ended.
        sentence: the verdict and its reason, or why there is no number.
        center_loss: the loss at this step on the data of the recorder; NaN where it is not known.
        seconds: how long the measurement took.
        estimate: the estimate, if there is one.
    """

    step: int
    status: RowStatus
    sentence: str
    center_loss: float
    seconds: float
    estimate: VolumeEstimate | None = None

    def metrics(self, prefix: str = "volume") -> dict[str, float]:
        """The finite numbers of the row by name, for the loggers of frameworks.

        Args:
            prefix: what the names begin with, before a slash.
        """
        found: dict[str, float] = {
            "is_measured": float(self.status is RowStatus.MEASURED),
            "center_loss": self.center_loss,
            "seconds": self.seconds,
        }
        if self.estimate is not None:
            found |= {
                "log_volume": self.estimate.log_volume,
                "log_mean_power": self.estimate.log_mean_power,
                "lower_bound": self.estimate.lower_bound,
                "standard_error": self.estimate.standard_error,
                "ess": self.estimate.diagnostics.ess,
                "is_trustworthy": float(self.estimate.diagnostics.verdict is Verdict.TRUSTWORTHY),
            }
        return {f"{prefix}/{name}": value for name, value in found.items() if math.isfinite(value)}

    def to_dict(self) -> dict[str, Any]:
        """The row as plain types, for JSON and tables; what is not known is None."""
        found: dict[str, Any] = {"step": self.step, "status": self.status.name, "sentence": self.sentence}
        numbers = {name.removeprefix("/"): value for name, value in self.metrics("").items()}
        names = ("log_volume", "log_mean_power", "lower_bound", "standard_error", "ess", "center_loss", "seconds")
        verdict = None if self.estimate is None else self.estimate.diagnostics.verdict.value
        return {**found, "verdict": verdict, **{name: numbers.get(name) for name in names}}


class VolumeRecorder:
    """Measures a model at chosen steps of its training, on data that stay the same, and keeps a row for each.

    The training is the same with and without it, to the bit: parameters, gradients, buffers, training flags, and the
    random states of Python, NumPy and torch are left as they were. It never ends the training: a step above the
    cutoff, a spent budget or an error is a row with that status.

    >>> import torch, basinvol as bv
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch...
    >>> model, x = torch.nn.Linear(4, 1), torch.randn(64, 4)
    >>> y, optimizer = x.sum(dim=1, keepdim=True), torch.optim.SGD(model.parameters(), lr=0.1)
    >>> loss_fn = torch.nn.functional.mse_loss
    >>> recorder = bv.callbacks.VolumeRecorder(loss_fn, (x, y), cutoff=0.1, every=20, scaling="none")
    >>> for step in range(41):
    ...     row = recorder(model, step)
    ...     optimizer.zero_grad()
    ...     loss_fn(model(x), y).backward()
    ...     _ = optimizer.step()
    >>> [(row.step, row.status.name) for row in recorder.rows]
    [(0, 'CENTER_OUTSIDE'), (20, 'MEASURED'), (40, 'MEASURED')]

    Args:
        loss_fn, data: see `basinvol.estimate_volume`; the data are read here, once.
        cutoff: loss that bounds the basin, one number.
        every: measure at multiples of this number of steps, 0 included.
        steps: further steps to measure at.
        budget_seconds: the most seconds for all measurements together. A measurement is not begun if the one before
            took longer than what is left, and ends when the budget does, but for work that has begun on a few
            directions. Default no limit.
        part: what of the model is measured, if not all of it: the name of a submodule, or a function of the model. It
            is called with the inputs of the data.
        prefix: what the names of logged numbers begin with.
        settings: further arguments of `basinvol.estimate_volume`, by name; `num_directions` is 100 and `on_censored`
            "bound" unless they are given. Numbers of rows are comparable, because they share their directions.

    Attributes:
        rows: a row for each step that was due.
        seconds: how long all measurements took.

    Raises:
        ValueError: an argument is bad, or the data cannot be read.
    """

    def __init__(
        self,
        loss_fn: LossFunction | None,
        data: tuple[Tensor, Tensor] | Mapping[str, Tensor] | Iterable[Any],
        *,
        cutoff: float = 0.1,
        every: int | None = None,
        steps: Iterable[int] = (),
        budget_seconds: float | None = None,
        part: str | Callable[[nn.Module], nn.Module] | None = None,
        prefix: str = "volume",
        **settings: Any,
    ) -> None:
        self._every = None if every is None else whole_number("every", every, least=1)
        self._steps = frozenset(whole_number("steps", step, least=0) for step in steps)
        if self._every is None and not self._steps:
            raise ValueError("`every` or `steps` must say when to measure, got neither.")
        self._budget = math.inf if budget_seconds is None else real_number("budget_seconds", budget_seconds)
        if not self._budget > 0:
            raise ValueError(f"`budget_seconds` must be positive, got {self._budget:g}.")
        known = [name for name in inspect.signature(estimate_volume).parameters if name not in _RESERVED]
        for name in settings:
            if name not in known:
                raise ValueError(f"`{name}` is not a setting that a recorder takes; there are: {', '.join(known)}.")
        self._loss_fn, self._data = loss_fn, _read_once(data)
        self._settings = {**_DEFAULTS, **settings, "cutoff": real_number("cutoff", cutoff)}
        self._part = part
        self.prefix = prefix
        self.rows: list[VolumeRow] = []
        self.seconds = 0.0

    def is_due(self, step: int) -> bool:
        """Whether this step is to be measured, and was not yet."""
        chosen = step in self._steps or (self._every is not None and step % self._every == 0)
        return chosen and not any(row.step == step for row in self.rows)

    def __call__(self, model: nn.Module, step: int) -> VolumeRow | None:
        """Measures the model if the step is due, and returns its row, or None if it is not."""
        return self.measure(model, step) if self.is_due(step) else None

    def measure(self, model: nn.Module, step: int) -> VolumeRow:
        """Measures the model now, whether the step is due or not, and returns its row."""
        left = self._budget - self.seconds
        if left <= 0.0 or any(row.seconds > left for row in self.rows[-1:] if row.estimate is not None):
            return self._keep(step, RowStatus.OVER_BUDGET)
        started = time.perf_counter()

        def seconds() -> float:
            return time.perf_counter() - started

        try:
            estimate = self._estimate(model, left)
        except CenterOutsideError as error:
            return self._keep(step, RowStatus.CENTER_OUTSIDE, str(error), error.center_loss, seconds())
        except BudgetSpent:
            return self._keep(step, RowStatus.OVER_BUDGET, seconds=seconds())
        except Exception as error:  # noqa: BLE001  # whatever a measurement meets must not end a training
            sentence = f"{RowStatus.FAILED.value}: {type(error).__name__}: {error}"
            _log.warning("step %d: %s", step, sentence)
            return self._keep(step, RowStatus.FAILED, sentence, seconds=seconds())
        found = estimate.diagnostics
        sentence = f"{found.verdict}: {found.reason}"
        return self._keep(step, RowStatus.MEASURED, sentence, estimate.center_loss, seconds(), estimate)

    def refuse(self, step: int, sentence: str) -> VolumeRow:
        """A row for a step that cannot be measured, with the reason."""
        return self._keep(step, RowStatus.FAILED, sentence)

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row for each step: status, sentence, verdict and numbers.

        Raises:
            MissingPackage: pandas is not installed.
        """
        rows = [row.to_dict() for row in self.rows]
        return data_frame({name: [row[name] for row in rows] for name in (rows[0] if rows else ())})

    def _estimate(self, model: nn.Module, left: float) -> VolumeEstimate:
        settings = {**self._settings, "budget_seconds": None if math.isinf(left) else left}
        with bystander(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where warnings are errors, they would fail the measurement
            part = self._measured_part(model)
            found: VolumeEstimate = estimate_volume(part, self._loss_fn, self._data, **settings)
        return found

    def _measured_part(self, model: nn.Module) -> nn.Module:
        if callable(self._part):
            return self._part(model)
        return model if self._part is None else model.get_submodule(self._part)

    def _keep(
        self,
        step: int,
        status: RowStatus,
        sentence: str = "",
        center_loss: float = math.nan,
        seconds: float = 0.0,
        estimate: VolumeEstimate | None = None,
    ) -> VolumeRow:
        self.seconds += seconds
        row = VolumeRow(step, status, sentence or f"{status.value}.", center_loss, seconds, estimate)
        self.rows.append(row)
        return row


def _read_once(data: Any) -> Any:
    """The data as tensors, in the form in which they came."""
    inputs, targets = read_data(data)
    if isinstance(targets, Fields):
        return dict(targets.values)
    return (tuple(inputs.values.values()) if isinstance(inputs, Fields) else inputs), targets
