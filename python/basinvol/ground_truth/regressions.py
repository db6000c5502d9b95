"""Least squares by a linear layer on any features: its Gaussian mass and its evidence, exact at any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.landscape import LossFunction
from ..trust.volume import log_unit_ball
from .case import Case
from .spectra import log_quadratic_cdf


@dataclass(frozen=True)
class _Quadratic:
    """The loss rest + sum of a_k (v_k + b_k)^2, where v_k is the component of w along an axis that the inputs see.

    Attributes:
        weights: a_k. [rank]
        offsets: b_k. [rank]
        rest: what no weights can explain.
    """

    weights: NDArray[np.float64]
    offsets: NDArray[np.float64]
    rest: float


def least_squares(inputs: Tensor, targets: Tensor, cutoff: float, *, sigmas: Sequence[float]) -> Case:
    """{w: mean (x_i w - y_i)^2 <= c} for a linear layer at w = 0, and its masses under Gaussians around it.

    The inputs may be any features, real ones too, and many more than examples: the mass is that of a sum of squares in
    as many normal variables as the inputs have rank (Imhof 1961, see `log_quadratic_cdf`).

    Args:
        inputs: X. [N, P]
        targets: y. [N]
        cutoff: c, above mean y^2, the loss at the center.
        sigmas: standard deviations of the Gaussians.

    Raises:
        ValueError: the center is outside, or shapes do not fit.
    """
    _check_shapes(inputs, targets)
    center_loss = float(targets.double().square().mean())
    if not center_loss < cutoff:
        raise ValueError(f"`cutoff` must be above the loss at w = 0, got {cutoff:g} and a loss of {center_loss:g}.")
    num_examples, dim = inputs.shape
    unit = _quadratic(inputs, targets)
    room = cutoff - unit.rest
    masses = {sigma: log_quadratic_cdf(sigma**2 * unit.weights, room, unit.offsets / sigma) for sigma in sigmas}
    volume = math.inf  # where the inputs do not see every direction
    if len(unit.weights) == dim:
        volume = log_unit_ball(dim) + 0.5 * float((math.log(room) - np.log(unit.weights)).sum())

    def make() -> tuple[nn.Module, LossFunction, tuple[Tensor, Tensor]]:
        layer = nn.Linear(inputs.shape[1], 1, bias=False, dtype=inputs.dtype)
        nn.init.zeros_(layer.weight)
        return nn.Sequential(layer), F.mse_loss, (inputs, targets[:, None].to(inputs))

    return Case(f"least squares of {num_examples} examples, P = {dim}", make, cutoff, dim, volume, masses)


def linear_evidence(inputs: Tensor, targets: Tensor, beta: float, *, sigma: float = 1.0) -> float:
    """The log of E[exp(-beta mean (x_i w - y_i)^2)] for w of N(0, sigma^2): a linear model's evidence, in nats.

    For beta = N / (2 s^2) it is the evidence of a Bayesian linear regression with noise s, up to (N / 2) ln(2 pi s^2).

    Args:
        inputs: X. [N, P]
        targets: y. [N]
        beta: inverse temperature, at least 0.
        sigma: standard deviation of the weights.

    Raises:
        ValueError: shapes do not fit.
    """
    _check_shapes(inputs, targets)
    unit = _quadratic(inputs, targets)
    spread = 1.0 + 2.0 * beta * sigma**2 * unit.weights
    pull = beta * unit.weights * unit.offsets**2 / spread
    return float(-0.5 * np.log(spread).sum() - pull.sum() - beta * unit.rest)


def _check_shapes(inputs: Tensor, targets: Tensor) -> None:
    if inputs.dim() != 2 or targets.shape != inputs.shape[:1]:
        raise ValueError(
            f"`inputs` must be [N, P] and `targets` [N], got shapes {tuple(inputs.shape)} and {tuple(targets.shape)}."
        )


def _quadratic(inputs: Tensor, targets: Tensor) -> _Quadratic:
    """The loss along its axes, from products of examples, which are few where features are many."""
    x, y = inputs.double().numpy(), targets.double().numpy()
    if len(x) <= x.shape[1]:
        squares, left = np.linalg.eigh(x @ x.T)
    else:
        left, singular, _ = np.linalg.svd(x, full_matrices=False)
        squares = singular**2
    seen = squares > squares.max(initial=0.0) * 1e-12
    squares, seen_targets = squares[seen], left[:, seen].T @ y
    rest = float((y @ y - seen_targets @ seen_targets) / len(x))
    return _Quadratic(squares / len(x), -seen_targets / np.sqrt(squares), max(rest, 0.0))
