"""A landscape whose basin has a known measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..model.landscape import LossFunction


class Gauge(nn.Module):
    """The set {w in R^P: gauge(w) <= cutoff} as a model: every example's output is the gauge at the parameters.

    Args:
        gauge: a function of the parameter vector [P] that returns a scalar.
        dim: P.
    """

    def __init__(self, gauge: Callable[[Tensor], Tensor], dim: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.gauge = gauge

    def forward(self, inputs: Tensor) -> Tensor:
        """The gauge at the parameters, once for every example. [n] float64"""
        return self.gauge(self.w).expand(len(inputs))


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of a `Gauge`: the mean of its outputs, whatever the data."""
    return outputs.mean()


@dataclass(frozen=True)
class Case:
    """A basin whose measure is known.

    Attributes:
        name: name of the body, with its dimension.
        make: builds (model, loss_fn, data), with the model at the center.
        cutoff: loss that bounds the basin.
        dim: P.
        log_volume: true log of the Lebesgue volume with scaling="none", infinite where the basin is. nats
        log_masses: true log of the mass under N(center, sigma^2), by sigma, where it is known. nats
    """

    name: str
    make: Callable[[], tuple[nn.Module, LossFunction, tuple[Tensor, Tensor]]]
    cutoff: float
    dim: int
    log_volume: float
    log_masses: dict[float, float] = field(default_factory=dict)

    def task(self) -> tuple[nn.Module, LossFunction, tuple[Tensor, Tensor]]:
        """The arguments (model, loss_fn, data) of `estimate_volume`, newly built."""
        return self.make()


def gauge_case(name: str, gauge: Callable[[Tensor], Tensor], dim: int, cutoff: float, log_volume: float) -> Case:
    """A case from a function of the parameter vector whose sublevel set has a known volume.

    Args:
        name: name of the body, without its dimension.
        gauge: a function of the parameter vector [P] that returns a scalar.
        dim: P.
        cutoff: value of the gauge that bounds the body.
        log_volume: true log of the body's volume. nats
    """

    def make() -> tuple[nn.Module, LossFunction, tuple[Tensor, Tensor]]:
        return Gauge(gauge, dim), mean_output, (torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1))

    return Case(f"{name}, P = {dim}", make, cutoff, dim, log_volume)


def rotation(dim: int, seed: int) -> Tensor:
    """An orthogonal matrix that a seed determines. [P, P] float64"""
    matrix = torch.randn(dim, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    orthonormal: Tensor = torch.linalg.qr(matrix)[0]
    return orthonormal
