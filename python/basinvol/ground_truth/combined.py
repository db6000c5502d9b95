"""New cases from old ones: turned, dilated, side by side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .case import Case, Gauge, gauge_case, rotation


def _gauge_of(case: Case) -> Gauge:
    model = case.task()[0]
    if not isinstance(model, Gauge):
        raise ValueError(f"`case` must be a body with a gauge, got {case.name!r}.")
    return model


def rotated(case: Case, seed: int = 0) -> Case:
    """The body turned by a random rotation: the same measure.

    Raises:
        ValueError: it is no body with a gauge.
    """
    gauge, turn = _gauge_of(case).gauge, rotation(case.dim, seed)
    name = f"rotated {case.name.rpartition(', P = ')[0]}"
    turned = gauge_case(name, lambda w: gauge(turn @ w), case.dim, case.cutoff, case.log_volume)
    return dataclasses.replace(turned, log_masses=case.log_masses)


def dilated(case: Case, factor: float) -> Case:
    """The body `factor` times as large: P ln a more, and the masses of sigmas that are as many times as large.

    Raises:
        ValueError: it is no body with a gauge.
    """
    gauge = _gauge_of(case).gauge
    name = f"{case.name.rpartition(', P = ')[0]}, times {factor:g}"
    volume = case.log_volume + case.dim * math.log(factor)
    larger = gauge_case(name, lambda w: gauge(w / factor), case.dim, case.cutoff, volume)
    return dataclasses.replace(larger, log_masses={factor * s: mass for s, mass in case.log_masses.items()})


def side_by_side(cases: Sequence[Case]) -> Case:
    """The product of bodies in coordinates of their own: logs of volumes add up, and of masses at common sigmas.

    Raises:
        ValueError: one is no body with a gauge.
    """
    gauges, cutoffs = [_gauge_of(case).gauge for case in cases], [case.cutoff for case in cases]
    dims = [case.dim for case in cases]

    def gauge(w: Tensor) -> Tensor:
        parts = zip(gauges, torch.split(w, dims), cutoffs, strict=True)
        return torch.stack([of(part) / cutoff for of, part, cutoff in parts]).amax()

    common = set.intersection(*(set(case.log_masses) for case in cases))
    masses = {sigma: sum(case.log_masses[sigma] for case in cases) for sigma in sorted(common)}
    names = " beside ".join(case.name.rpartition(", P = ")[0] for case in cases)
    both = gauge_case(names, gauge, sum(dims), 1.0, sum(case.log_volume for case in cases))
    return dataclasses.replace(both, log_masses=masses)
