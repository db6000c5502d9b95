"""The facade: from a model, its data and a cutoff to a volume with a verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .diagnostics import Diagnostics, Verdict, diagnose
from .directions import Directions
from .landscape import Landscape, LossFunction
from .parameters import ParameterSpace
from .radii import Radii, Status
from .rays import RaySolver
from .volume import log_det_scale, log_mean_power, log_unit_ball, lower_confidence_bound

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

METHODS = ("star", "paper")
ON_CENSORED = ("raise", "drop", "bound")
CONFIDENCE = 0.95


class CensoredError(ValueError):
    """Directions never crossed the cutoff; `radii` [D] holds all that was measured."""

    def __init__(self, message: str, radii: Radii) -> None:
        super().__init__(message)
        self.radii = radii


@dataclass(frozen=True)
class Volume:
    """One log-volume in its three terms, with diagnostics; all in nats.

    log_volume = log_unit_ball + log_mean_power + log_det_scale, the Lebesgue measure of the basin in the space of the
    perturbed parameters. The paper reports `log_mean_power` alone.
    """

    dim: int
    log_unit_ball: float
    log_mean_power: float
    log_det_scale: float
    diagnostics: Diagnostics

    @property
    def log_volume(self) -> float:
        """Log of the volume of the basin."""
        return self.log_unit_ball + self.log_mean_power + self.log_det_scale

    @property
    def standard_error(self) -> float:
        """Of log_volume, by the delta method; valid only if the verdict is `trustworthy`."""
        return self.diagnostics.standard_error

    @property
    def lower_bound(self) -> float:
        """The true log-volume is above this with 95 % confidence, by Markov's inequality."""
        return lower_confidence_bound(self.log_volume, CONFIDENCE)

    @classmethod
    def of(cls, radii: Radii, space: ParameterSpace, scale: Tensor, on_censored: str = "raise") -> Volume:
        """The volume from the radii [D] of one level and cutoff.

        Rays that ended at a non-finite loss or with an open bracket count with its certified lower end.

        Args:
            on_censored: "raise"; "drop" leaves rays without a crossing out, as the paper does, which removes those
                that dominate; "bound" lets them count with radius_max, a lower bound.
        """
        if on_censored not in ON_CENSORED:
            raise ValueError(f"`on_censored` must be one of {', '.join(map(repr, ON_CENSORED))}, got {on_censored!r}.")
        censored = radii.is_status(Status.CENSORED)
        num_censored, count = int(censored.sum()), len(radii)
        if num_censored and on_censored == "raise":
            raise CensoredError(
                f"{num_censored} of {count} directions are censored at radius_max={float(radii.lower.max()):.6g}; "
                'raise `radius_max`, or pass on_censored="bound".',
                radii,
            )
        used = ~censored if on_censored == "drop" else torch.ones_like(censored)
        if not bool(used.any()):
            raise CensoredError(f'all {count} directions are censored and dropped; pass on_censored="bound".', radii)
        # A negligible ray counts with 0: all of them together are worth less than 1e-6 nats.
        entering = torch.where(torch.isnan(radii.radius), radii.lower, radii.radius)
        return cls(
            dim=space.dim,
            log_unit_ball=log_unit_ball(space.dim),
            log_mean_power=log_mean_power(entering[used], space.dim),
            log_det_scale=log_det_scale(scale),
            diagnostics=diagnose(radii, used, entering, space.dim, space.zero_filters(scale)),
        )


@dataclass(frozen=True)
class VolumeEstimate(Volume):
    """A `Volume` with the radii behind it and how it was made. `print` shows the verdict first."""

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

    def __str__(self) -> str:
        found = self.diagnostics
        trusted = found.verdict is Verdict.TRUSTWORTHY
        error = f"{self.standard_error:.2f}" if trusted else f"{self.standard_error:.2f} (not valid: {found.verdict})"
        pilot = f" (of the first {found.num_spread} directions)" if found.negligible else ""
        per_ray = float(self.radii.num_evaluations.double().mean())
        return "\n".join(
            [
                f"verdict          {found.verdict}: {found.reason}",
                f"log volume       {self.log_volume:,.2f} nats in {self.dim:,} dimensions"
                f", above {self.lower_bound:,.2f} with {CONFIDENCE:.0%} confidence",
                f"  log unit ball  {self.log_unit_ball:,.2f}",
                f"  log mean r^P   {self.log_mean_power:,.2f}",
                f"  log det scale  {self.log_det_scale:,.2f}",
                f"standard error   {error}; brackets worth {found.bracket_nats:.2g} nats",
                f"weights          effective sample size {found.ess:.2f}, largest share {found.max_share:.1%}, "
                f"z {found.z:.2f}{pilot}, censored {found.censored:.1%}, skipped {found.negligible:.1%}",
                f"cutoff           {self.cutoff:g}, loss at the center {self.center_loss:.6g}",
                f"directions       {self.num_directions} (seed {self.seed}), scaling {self.scaling}, method "
                f"{self.method}, search {self.search}, {per_ray:.1f} evaluations each",
                f"backend          {self.backend} ({self.backend_reason}), {self.num_threads} threads, "
                f"{self.seconds:.2f} s",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Every number but the radii, for JSON; NaN and infinities become None."""
        found = self.diagnostics
        numbers: dict[str, Any] = {
            "verdict": found.verdict.value,
            "reason": found.reason,
            "log_volume": self.log_volume,
            "log_unit_ball": self.log_unit_ball,
            "log_mean_power": self.log_mean_power,
            "log_det_scale": self.log_det_scale,
            "standard_error": self.standard_error,
            "lower_bound": self.lower_bound,
            "confidence": CONFIDENCE,
        }
        for name in (
            "ess",
            "max_share",
            "z",
            "bracket_nats",
            "censored",
            "non_finite",
            "unresolved",
            "negligible",
            "num_used",
        ):
            numbers[name] = getattr(found, name)
        for name in (
            "dim",
            "cutoff",
            "center_loss",
            "num_directions",
            "seed",
            "method",
            "search",
            "scaling",
            "rtol",
            "resolve",
        ):
            numbers[name] = getattr(self, name)
        for name in ("backend", "backend_reason", "num_threads", "seconds"):
            numbers[name] = getattr(self, name)
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in numbers.items()
        }

    def to_dataframe(self) -> pd.DataFrame:
        """One row per direction: index, lower, upper, radius, losses at both ends, status, evaluations."""
        import pandas as pd

        radii = self.radii
        return pd.DataFrame(
            {
                "direction": range(self.num_directions),
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
        from .plots import plot_estimate

        return plot_estimate(self)


def estimate_volume(
    model: nn.Module,
    loss_fn: LossFunction,
    data: tuple[Tensor, Tensor] | Iterable[Any],
    cutoff: float = 0.1,
    num_directions: int = 500,
    seed: int = 0,
    *,
    scaling: str = "filter",
    search: str = "interpolate",
    method: str = "star",
    rtol: float = 1e-4,
    resolve: str = "all",
    radius_max: float | None = None,
    max_steps: int = 100,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    trainable_only: bool = False,
    backend: str = "auto",
    device: torch.device | str | None = None,
    num_threads: int | None = None,
    precision: str | None = None,
    on_censored: str = "raise",
    progress: bool = False,
) -> VolumeEstimate:
    """The log-volume of the basin around a trained network, with an error, diagnostics and a verdict.

    Along each of `num_directions` random directions u the radius r(u) is found where the mean loss first exceeds the
    cutoff; then log V = log omega_P + log mean r^P + log det S (Huang et al. 2020; Fan, Sandlund and Ko 2025).

    The estimate is biased downward on the log scale, without limit when the basin is far from round: read the verdict.
    The cutoff is absolute, not an excess over the loss at the center.

    Args:
        model: any module; it is not changed.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        data: (inputs, targets) tensors, or batches of them such as a DataLoader.
        cutoff: loss that bounds the basin, above the loss at the center.
        num_directions: D.
        seed: of the directions.
        scaling: "filter" (filter normalization) or "none".
        search: "interpolate", "bisect" or "grid".
        method: "star", as above; "paper", the published protocol exactly: legacy generator seeded 1..D, the grid
            linspace(0, 1, 100)^2 rounded up, directions that never cross dropped (`search`, `seed`, `rtol` and
            `on_censored` do not apply).
        rtol: relative width of the certified brackets.
        resolve: "all", every radius; "decisive", the first 32, and of the others only those long enough to
            matter; the same volume to 1e-6 nats, with z from those 32.
        radius_max: rays still inside there are censored; default 1e6 sqrt(P).
        max_steps: most evaluations per ray.
        include, exclude, trainable_only: which parameters are perturbed, see `ParameterSpace.of`.
        backend: "auto", "native" (C++, on the CPU), "triton" or "cuda" (on a CUDA device) or "reference"
            (torch, anywhere).
        device: where to evaluate; default the model's.
        num_threads: default torch's number.
        precision: of the products, see `find_radii`.
        on_censored: what to do with rays that never cross: "raise", "drop" or "bound".
        progress: show a bar, if standard error is a terminal.

    Raises:
        ValueError: a bad argument, unusable data or model, or a cutoff not above the loss at the center.
        BackendUnavailable: the named backend can not do this.
        CensoredError: rays never crossed and on_censored="raise"; carries the radii.
        RaySearchFailed: an evaluation failed; carries the radii found so far.
    """
    started = time.perf_counter()
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}, got {method!r}.")
    if on_censored not in ON_CENSORED:
        raise ValueError(f"`on_censored` must be one of {', '.join(map(repr, ON_CENSORED))}, got {on_censored!r}.")
    if method == "paper":
        search, on_censored = "grid", "drop"
    space = ParameterSpace.of(model, include, exclude, trainable_only)
    directions = Directions(space, num_directions, seed, generator="legacy" if method == "paper" else "philox")
    landscape = Landscape(model, loss_fn, data, device=device)
    solver = RaySolver(
        landscape,
        directions,
        [cutoff],
        scaling=scaling,
        search=search,
        rtol=rtol,
        resolve=resolve,
        radius_max=radius_max,
        max_steps=max_steps,
        backend=backend,
        num_threads=num_threads,
        precision=precision,
    )
    center_loss = float(solver.center_losses[0])
    if not cutoff > center_loss:
        raise ValueError(
            f"`cutoff` must be above the loss at the center, got cutoff={cutoff:g} and loss={center_loss:.6g}; "
            "train longer or raise `cutoff`."
        )
    radii = solver.solve_all(progress).at()
    volume = Volume.of(radii, space, solver.problem.scale, on_censored)
    return VolumeEstimate(
        dim=volume.dim,
        log_unit_ball=volume.log_unit_ball,
        log_mean_power=volume.log_mean_power,
        log_det_scale=volume.log_det_scale,
        diagnostics=volume.diagnostics,
        radii=radii,
        cutoff=float(cutoff),
        center_loss=center_loss,
        num_directions=num_directions,
        seed=seed,
        method=method,
        search=search,
        scaling=scaling,
        rtol=rtol,
        resolve=resolve,
        backend=solver.choice.backend.name,
        backend_reason=solver.choice.reason,
        num_threads=solver.num_threads,
        seconds=time.perf_counter() - started,
    )
