"""Chains held against both sides: for a network whose labels a teacher drew, the evidence is bracketed."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..estimators.batched import BatchedLoss
from ..estimators.groups import mean_of_groups, number_of_groups
from ..estimators.hamiltonian import FIRST_ANGLE, Gibbs, Hamiltonian, Whitening
from ..estimators.population import Population, refined
from ..inputs.arguments import one_of, real_number, whole_number
from ..model.landscape import Landscape
from ..model.parameters import ParameterSpace
from ..progress import progress_bar

_LOSSES = ("cross_entropy", "mse")
_MOST_STEPS = 10


@dataclass(frozen=True)
class Bracket:
    """The log of the evidence Z = E[exp(-beta L)] under a Gaussian, from both ends of an annealing, in nats.

    Attributes:
        forward: from chains that start in the Gaussian. Their mean of Z is right, that of ln Z too low, if at all.
        forward_error: its standard error, from independent groups of chains.
        backward: from chains that start at the teacher. Their mean of 1 / Z is right, that of ln Z too high, if at all.
        backward_error: its standard error.
        num_evaluations: forward passes over all data that both took, a gradient counted as three.
    """

    forward: float
    forward_error: float
    backward: float
    backward_error: float
    num_evaluations: int

    @property
    def width(self) -> float:
        """How far the two are apart in nats, which is what the chains do not know."""
        return self.backward - self.forward

    def __str__(self) -> str:
        return (
            f"ln Z between {self.forward:.2f} +- {self.forward_error:.2f} (annealed forward) and "
            f"{self.backward:.2f} +- {self.backward_error:.2f} (backward), a bracket of {self.width:.2f} nats"
        )


def planted_evidence(
    model: nn.Module,
    inputs: Tensor,
    *,
    loss: str = "cross_entropy",
    noise: float = 0.1,
    sigma: float = 1.0,
    seed: int = 0,
    num_chains: int = 64,
    refine: int = 3,
    num_threads: int | None = None,
    progress: bool = False,
) -> Bracket:
    """The evidence of labels that a teacher drew, annealed forward and backward: a test of chains for any network.

    A teacher w* is drawn from N(center, sigma^2), and labels from its outputs: classes with the probabilities of a
    softmax, or values with normal noise. Then exp(-beta L) is their likelihood, for beta the number of labels (over
    twice the variance of the noise), and w* is an exact sample of the posterior. Chains from the Gaussian bound ln Z
    from below and chains from w* from above, so that chains that miss something show it by the gap. Source: Grosse,
    Ghahramani and Adams 2015 (bidirectional Monte Carlo). The model is not changed.

    Args:
        model: the network, whose parameters are the center.
        inputs: inputs of all examples. [N, ...]
        loss: "cross_entropy", for outputs [N, classes], or "mse".
        noise: standard deviation of the noise on values, for "mse".
        sigma: standard deviation of the Gaussian, the same for all parameters.
        seed: seed of the teacher, the labels and the chains.
        num_chains: K, a multiple of 8.
        refine: temperatures for each one that a pilot finds necessary.
        num_threads: threads of the extension; default torch's number.
        progress: whether to show a bar.

    Raises:
        ValueError: an argument is out of its range.
    """
    one_of("loss", loss, _LOSSES)
    for name, value in (("noise", noise), ("sigma", sigma)):
        if not real_number(name, value) > 0.0:
            raise ValueError(f"`{name}` must be above 0, got {value}.")
    if whole_number("num_chains", num_chains, least=16) % 8:
        raise ValueError(f"`num_chains` must be a multiple of 8, got {num_chains}.")
    whole_number("refine", refine, least=1)
    generator = torch.Generator().manual_seed(seed)
    space = ParameterSpace.of(model)
    center, scale = space.flatten(model), space.scale(model, "none")
    teacher = sigma * torch.randn(space.dim, generator=generator, dtype=torch.float64)
    targets, beta = _labels(model, space, center + teacher.to(center), inputs, loss, noise, generator)
    landscape = Landscape(model, F.cross_entropy if loss == "cross_entropy" else F.mse_loss, (inputs, targets))

    energy = BatchedLoss(landscape, space, center, scale, num_threads)
    lengths = torch.full((space.dim,), sigma, dtype=torch.float64)
    whitening = Whitening(torch.zeros_like(lengths), lengths)
    gibbs = Gibbs(beta, whitening.precision or 0.0, 0.0)
    hamiltonian = Hamiltonian(energy, whitening, gibbs, _MOST_STEPS, FIRST_ANGLE, generator)
    population = Population(hamiltonian, num_chains, number_of_groups(num_chains, least=2), generator)
    with progress_bar(progress, 0, "pilot", "temperature") as bar:
        schedule = refined(population.choose_temperatures(bar, reshapes=True)[0], refine)
    with progress_bar(progress, 2 * len(schedule), "both ways", "temperature") as bar:
        _, forward = population.anneal(schedule, bar)
        start = hamiltonian.start(teacher.expand(num_chains, -1).clone())
        _, backward = population.anneal_backward(start, schedule, bar)
    lower, upper = mean_of_groups(forward.log_z), mean_of_groups(backward.log_z)
    return Bracket(lower[0], lower[1], -upper[0], upper[1], landscape.num_evaluations)


@torch.no_grad()
def _labels(
    model: nn.Module,
    space: ParameterSpace,
    vector: Tensor,
    inputs: Tensor,
    loss: str,
    noise: float,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """The labels that a network of these parameters draws, and beta, with which exp(-beta L) is their likelihood."""
    teacher = copy.deepcopy(model).eval()
    parameters = dict(teacher.named_parameters())
    for name, value in space.unflatten(vector).items():
        parameters[name].copy_(value)
    outputs = teacher(inputs)
    if loss == "cross_entropy":
        if outputs.ndim != 2:
            raise ValueError(
                f"`loss='cross_entropy'` needs outputs [N, classes], and the model gives {outputs.ndim} dimensions."
            )
        drawn = torch.multinomial(outputs.double().softmax(dim=1).cpu(), 1, generator=generator)[:, 0]
        return drawn.to(outputs.device), float(len(outputs))
    values = outputs + noise * torch.randn(outputs.shape, generator=generator).to(outputs)
    return values, outputs.numel() / (2.0 * noise**2)
