"""The cases to measure: networks that are trained here, in seconds, on packaged or generated data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basinvol.experiments.data.examples import load
from basinvol.experiments.describe.families import describe

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One landscape to measure.

    Attributes:
        name: The name of the case on the command line and in the results.
        title: How the table names it.
        model: The trained perceptron.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        inputs, targets: The data. N examples
        levels: The numbers of examples of the nested prefixes that are measured.
        cutoffs: The losses that bound the basin.
        num_directions: The number of directions that basinvol solves. All times are reported for this number.
        baseline_directions: How many of them each baseline solves, as its time is proportional to the number. A
            baseline solves one level and cutoff at a time, and its time for the case is the sum over all of them.
    """

    name: str
    title: str
    model: nn.Sequential
    loss_fn: LossFunction
    inputs: Tensor
    targets: Tensor
    levels: tuple[int, ...]
    cutoffs: tuple[float, ...]
    num_directions: int
    baseline_directions: int

    @property
    def num_params(self) -> int:
        """The number of parameters P."""
        return sum(p.numel() for p in self.model.parameters())


def perceptron(widths: list[int], seed: int = 0) -> nn.Sequential:
    """Return a perceptron with ReLU between layers and torch's initialization; torch's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def fit(model: nn.Module, loss_fn: LossFunction, inputs: Tensor, targets: Tensor, below: float) -> None:
    """Train with full-batch AdamW until the loss is below a limit.

    Args:
        model: The network, which is trained in place.
        loss_fn: loss_fn(outputs, targets) -> mean loss.
        inputs, targets: The data. N examples
        below: The limit, below the cutoffs that are measured.

    Raises:
        RuntimeError: The loss is still above the limit after 5,000 steps.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(5000):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        if float(loss.detach()) < below:
            return
        loss.backward()
        optimizer.step()
    raise RuntimeError(f"the loss stayed at {float(loss.detach()):.4g}, above {below}")


def _digits() -> tuple[nn.Sequential, Tensor, Tensor]:
    split = load(describe("mnist-data-scaling", "small"), data_seed=10)
    inputs = torch.cat([split.inputs, split.test_inputs])
    targets = torch.cat([split.targets, split.test_targets])
    model = perceptron([784, 256, 128, 10])
    fit(model, F.cross_entropy, inputs, targets, below=2e-3)
    return model, inputs, targets


def mnist_5000() -> Case:
    """Return the case of the 5,000 packaged MNIST digits."""
    model, inputs, targets = _digits()
    title = "MNIST MLP 784-256-128-10, 5,000 digits"
    return Case("mnist-5000", title, model, F.cross_entropy, inputs, targets, (5000,), (0.1,), 500, 4)


def mnist_60000() -> Case:
    """Return a case of 60,000 rows: the packaged digits repeated, with noise where there is ink."""
    model, inputs, targets = _digits()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(60000, generator=generator)
    inputs, targets = inputs.repeat(12, 1)[rows], targets.repeat(12)[rows]
    noise = 0.05 * torch.randn(inputs.shape, generator=generator)
    inputs = torch.where(inputs == inputs.min(), inputs, inputs + noise).contiguous()
    title = "MNIST MLP 784-256-128-10, 60,000 rows"
    return Case("mnist-60000", title, model, F.cross_entropy, inputs, targets, (60000,), (0.1,), 500, 1)


def demo_levels() -> Case:
    """Return a case of four levels and three cutoffs in one pass."""
    model, inputs, targets = _digits()
    title = "MNIST MLP, 4 levels x 3 cutoffs in one pass"
    levels, cutoffs = (60, 400, 2000, 4000), (0.1, 0.05, 0.02)
    return Case("mnist-levels", title, model, F.cross_entropy, inputs[:4000], targets[:4000], levels, cutoffs, 100, 4)


def swiss_roll() -> Case:
    """Return a case of many small problems: P = 4,353, and 20 to 800 examples of a swiss roll."""
    generator = torch.Generator().manual_seed(11)
    turn = torch.sqrt(torch.rand(800, 1, generator=generator)) * 1.7 * 2 * torch.pi
    spiral = torch.cat([-torch.cos(turn) * turn, torch.sin(turn) * turn], dim=1) * 1.5
    spiral += 0.3 * torch.randn(spiral.shape, generator=generator)
    sign = torch.where(torch.rand(800, 1, generator=generator) < 0.5, -1.0, 1.0)
    inputs, targets = spiral * sign, (sign + 1) / 2
    model = perceptron([2, 32, 32, 32, 32, 32, 1], seed=1)
    loss_fn = F.binary_cross_entropy_with_logits
    fit(model, loss_fn, inputs, targets, below=0.01)
    levels = (20, 50, 100, 200, 400, 800)
    title = "swiss roll 2-32x5-1, 6 levels"
    return Case("swiss-roll", title, model, loss_fn, inputs, targets, levels, (0.1,), 1000, 8)


def modular_addition() -> Case:
    """Return the case a + b mod 97, from one-hot pairs, with MSE on one-hot sums, for 3,292 of the 9,409 pairs."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.cartesian_prod(torch.arange(97), torch.arange(97))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)[:3292]]
    inputs = torch.cat([F.one_hot(pairs[:, 0], 97), F.one_hot(pairs[:, 1], 97)], dim=1).float()
    targets = F.one_hot(pairs.sum(dim=1) % 97, 97).float()
    model = perceptron([194, 250, 97])
    fit(model, F.mse_loss, inputs, targets, below=2e-3)
    title = "modular addition 194-250-97, MSE, 3,292 rows"
    return Case("modular", title, model, F.mse_loss, inputs, targets, (3292,), (0.005,), 500, 4)


def wide() -> Case:
    """Return the case of the CIFAR-10 perceptron, on generated inputs without a common background."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(5000) % 10
    means = torch.randn(10, 3072, generator=generator)
    inputs = 0.1 * means[targets] + torch.randn(5000, 3072, generator=generator)
    model = perceptron([3072, 512, 256, 10])
    fit(model, F.cross_entropy, inputs, targets, below=5e-3)
    title = "wide MLP 3072-512-256-10, 5,000 dense rows"
    return Case("wide", title, model, F.cross_entropy, inputs, targets, (5000,), (0.1,), 200, 2)


CASES: dict[str, Callable[[], Case]] = {
    "mnist-60000": mnist_60000,
    "mnist-5000": mnist_5000,
    "mnist-levels": demo_levels,
    "swiss-roll": swiss_roll,
    "modular": modular_addition,
    "wide": wide,
}
