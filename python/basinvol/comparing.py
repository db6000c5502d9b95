"""Comparisons of minima that are measured on the way, each as one call on an executor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, TypeAlias

from .estimate import estimate_volume
from .executors import opened, spread
from .trust import comparison
from .trust.comparison import Comparison
from .trust.volume_estimate import VolumeEstimate

Minimum: TypeAlias = VolumeEstimate | tuple[Any, Any, Any]


def compare(
    estimates: Sequence[Minimum],
    names: Sequence[str] | None = None,
    *,
    executor: Executor | str | None = None,
    **settings: Any,
) -> Comparison:
    """Minima ranked by log-volume, with paired differences, the probability of each step and the ranking's stability.

    Estimates from rays with the same seed share their directions, and their errors largely cancel in a difference:
    resampling takes the same directions for all of them. Where one direction decides a volume, resampling cannot show
    what other directions would give; the comparison then says so. Next to each number is what the mean of 1/r^2
    predicts, the volume of the ball with the same Hessian's trace: in many dimensions the plain number follows that
    prediction, not the volume.

    >>> import math
    >>> import basinvol as bv
    >>> cases = [bv.ground_truth.ball(5, radius=1.0), bv.ground_truth.ball(5, radius=2.0)]
    >>> settings = {"num_directions": 50, "scaling": "none"}
    >>> estimates = [bv.estimate_volume(*case.task(), cutoff=case.cutoff, **settings) for case in cases]
    >>> comparison = bv.compare(estimates, names=["small", "large"])
    >>> comparison.names
    ('large', 'small')
    >>> abs(comparison.pairs[0].difference - 5 * math.log(2.0)) < 1e-3
    True

    Args:
        estimates: two or more, in the same measure, scaling and dimension; in place of an estimate, (model, loss_fn,
            data), which is measured with `settings`.
        names: one for each minimum; default "1", "2", ...
        executor: where minima are measured, each as one call, see `find_radii`; default this process.
        settings: arguments of `estimate_volume`, by name.

    Raises:
        ValueError: there are fewer than two estimates, their measures, scalings or dimensions differ, the names do
            not fit, or a minimum cannot be measured.
    """
    for minimum in estimates:
        if not isinstance(minimum, VolumeEstimate) and not (isinstance(minimum, tuple) and len(minimum) == 3):
            raise ValueError(
                f"`estimates` must hold estimates or (model, loss_fn, data), got a {type(minimum).__name__}."
            )
    to_measure = [i for i, minimum in enumerate(estimates) if not isinstance(minimum, VolumeEstimate)]
    if settings and not to_measure:
        raise ValueError(f"`{next(iter(settings))}` is for minima that are measured, and all of these are estimates.")
    every = list(estimates)
    with opened(executor, settings.get("num_threads") or 1) as workers:
        if workers is None:
            for i in to_measure:
                every[i] = _measure(settings, (i, estimates[i]))
        else:
            items = [(i, estimates[i]) for i in to_measure]
            calls = spread(
                _measure, {"num_threads": 1, **settings}, items, workers, lambda item: f"minimum {item[0] + 1}"
            )
            for number, found in calls:
                every[to_measure[number]] = found
    return comparison.compare([minimum for minimum in every if isinstance(minimum, VolumeEstimate)], names)


def _measure(settings: Mapping[str, Any], item: tuple[int, Any]) -> VolumeEstimate:
    """The estimate of a numbered minimum, (model, loss_fn, data), on a worker or here."""
    found: VolumeEstimate = estimate_volume(*item[1], **settings)
    return found
