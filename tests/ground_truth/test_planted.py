"""Labels that a teacher drew: chains from both ends meet at the evidence, and where it is known, there."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from basinvol import ground_truth as gt


def linear_gaussian(inputs: Tensor, seed: int, sigma: float, noise: float) -> tuple[nn.Module, float]:
    """A linear model, and a function's worth of truth: the log of E[exp(-beta L)] for the labels of this seed."""
    model = nn.Linear(inputs.shape[1], 1, bias=False)
    nn.init.zeros_(model.weight)
    generator = torch.Generator().manual_seed(seed)
    teacher = sigma * torch.randn(inputs.shape[1], generator=generator, dtype=torch.float64)
    outputs = inputs @ teacher.float()[:, None]
    labels = (outputs + noise * torch.randn(outputs.shape, generator=generator))[:, 0]
    return model, gt.linear_evidence(inputs, labels, len(inputs) / (2.0 * noise**2), sigma=sigma)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_ends_meet_at_the_evidence_of_a_linear_model(seed: int) -> None:
    """The evidence of a linear-Gaussian model is that of a normal vector: its Gaussian integral."""
    torch.manual_seed(seed)
    inputs = torch.randn(15, 6)
    model, truth = linear_gaussian(inputs, seed, sigma=1.0, noise=0.3)
    found = gt.planted_evidence(model, inputs, loss="mse", noise=0.3, seed=seed)
    assert abs(found.forward - truth) < 4.0 * found.forward_error + 0.02
    assert abs(found.backward - truth) < 4.0 * found.backward_error + 0.02
    assert found.width == found.backward - found.forward
    assert found.num_evaluations > 1000


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 3, 3, stride=2), nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.nn.functional.silu(self.first(images)).mean(dim=(2, 3)))


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.last((x + self.attention(x, x, x, need_weights=False)[0]).mean(dim=1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["perceptron", "convolutional", "attentive"])
def test_both_ends_meet_for_any_network(kind: str) -> None:
    torch.manual_seed(0)
    model, inputs = {
        "perceptron": lambda: (nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 3)), torch.randn(40, 10)),
        "convolutional": lambda: (Convolutional(), torch.randn(30, 1, 9, 9)),
        "attentive": lambda: (Attentive(), torch.randint(7, (30, 5))),
    }[kind]()
    before = [p.clone() for p in model.parameters()]
    found = gt.planted_evidence(model, inputs, sigma=0.7, seed=4)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    error = math.hypot(found.forward_error, found.backward_error)
    assert error < 0.5
    assert abs(found.width) < max(1.0, 4.0 * error)
    assert found.forward < -5.0  # there is something to be found


def test_a_bracket_says_what_it_is() -> None:
    found = gt.Bracket(-12.0, 0.25, -11.5, 0.5, 1000)
    assert found.width == 0.5
    assert str(found) == (
        "ln Z between -12.00 +- 0.25 (annealed forward) and -11.50 +- 0.50 (backward), a bracket of 0.50 nats"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "`loss` must be"),
        ({"sigma": 0.0}, "`sigma` must be above 0, got 0.0"),
        ({"noise": -1.0, "loss": "mse"}, "`noise` must be above 0, got -1.0"),
        ({"num_chains": 20}, "`num_chains` must be a multiple of 8, got 20"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gt.planted_evidence(nn.Linear(3, 2), torch.randn(5, 3), **options)
