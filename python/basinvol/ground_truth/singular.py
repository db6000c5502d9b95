"""Minima whose learning coefficient is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.landscape import LossFunction


@dataclass(frozen=True)
class Singular:
    """A minimum whose learning coefficient is known.

    Attributes:
        name: name of the model.
        inputs, hidden, outputs: widths of the two layers.
        learning_coefficient: lambda.
        multiplicity: m: the mass falls as eps^lambda (ln 1/eps)^(m - 1).
    """

    name: str
    inputs: int
    hidden: int
    outputs: int
    learning_coefficient: float
    multiplicity: int

    def task(self) -> tuple[nn.Module, LossFunction, tuple[Tensor, Tensor]]:
        """The arguments (model, loss_fn, data) of `learning_coefficient`, newly built."""
        model = nn.Sequential(
            nn.Linear(self.inputs, self.hidden, bias=False), nn.Linear(self.hidden, self.outputs, bias=False)
        )
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        # Orthogonal inputs, for which the loss is the squared norm of the product of the two matrices.
        inputs = math.sqrt(self.inputs * self.outputs) * torch.eye(self.inputs)
        return model, F.mse_loss, (inputs, torch.zeros(self.inputs, self.outputs))


def reduced_rank_regression(inputs: int, hidden: int, outputs: int) -> Singular:
    """The loss |W2 W1|^2 at W1 = W2 = 0: a linear network of two layers whose true map is zero.

    Its learning coefficient is that of Aoyagi and Watanabe (2005), for a true map of rank 0.

    Args:
        inputs, hidden, outputs: widths, n_0, n_1 and n_2.
    """
    m, h, n = inputs, hidden, outputs
    multiplicity = 1
    if m + h < n:
        value = m * h / 2
    elif n + h < m:
        value = h * n / 2
    elif m + n < h:
        value = m * n / 2
    else:
        is_odd = (m + h + n) % 2
        value = (2 * (m * n + h * n + m * h) - m * m - n * n - h * h + is_odd) / 8
        multiplicity = 1 + is_odd
    return Singular(f"reduced rank regression {m}x{h}x{n}", m, h, n, value, multiplicity)
