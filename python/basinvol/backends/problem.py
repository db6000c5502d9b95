"""What every backend is given and gives back: the problem, the resources, and the protocols it fulfils."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..model.directions import Directions
from ..model.landscape import Landscape
from ..search import SearchSettings
from ..search.radii import Guess, Radii


class BackendUnavailable(ValueError):
    """A backend that was asked for by name cannot do this; the message says why and what to do."""


# fp32: float32 products. tf32x3: tensor cores with split operands, as exact. tf32: proposes radii that the others
# certify.
PRECISIONS = ("fp32", "tf32x3", "tf32")


@dataclass(frozen=True)
class RayProblem:
    """Everything that determines the radii, and nothing that does not (threads, blocks, backend).

    Attributes:
        center: the trained parameters. [P]
        scale: the positive factor of each parameter. [P]
        precision: of the products, one of the backend's `precisions`; None for its first.
    """

    landscape: Landscape
    directions: Directions
    center: Tensor
    scale: Tensor
    cutoffs: tuple[float, ...]
    settings: SearchSettings
    precision: str | None = None


@dataclass(frozen=True)
class Resources:
    """What a backend may use; the radii do not depend on it.

    Attributes:
        num_threads: of the CPU.
        memory_budget: bytes for what is kept between evaluations; None for 1 GiB, or on a device most of what is free.
        instruction_set: of the native backend; empty for the best this machine has.
    """

    num_threads: int
    memory_budget: int | None = None
    instruction_set: str = ""


class Engine(Protocol):
    """A problem made ready on one backend."""

    levels: tuple[int, ...]  # those of the landscape, and scouts that the backend added for its own use
    center_losses: Tensor  # loss at the center on each of them, in the backend's own arithmetic. [L] float64

    @property
    def description(self) -> str:
        """What it runs with, in a few words."""
        ...

    @property
    def step(self) -> int:
        """How many directions are best solved by one call of `solve`."""
        ...

    def solve(self, indices: Sequence[int], guess: Guess, negligible: Tensor | None = None) -> Radii:
        """The radii of these directions on all its levels. [L, C, len(indices)]

        A pure function of its arguments and the problem: not of threads, memory, or what was solved before.

        Args:
            guess: where to look first. [L, C]
            negligible: a ray outside at this radius is NEGLIGIBLE and not solved; 0 where there is no such radius.
                [L, C] float64
        """
        ...

    def refine(self, indices: Sequence[int], known: Radii, rtol: float) -> Radii:
        """Narrows the brackets of the rays whose status in `known` [L, C, n] is RUNNING to `rtol`; keeps the others."""
        ...

    def learn_order(self, indices: Sequence[int], radii: Sequence[float]) -> None:
        """Puts the examples that lose most along these directions, at these radii, first: proofs then stop earlier."""
        ...


class Backend(Protocol):
    """One way to execute the radius search. Any object with these members may be passed as `backend`.

    A package registers a backend by name through an entry point of the group "basinvol.backends" that gives a class or
    function without arguments; `backend="auto"` tries only those that come with basinvol.
    """

    name: str
    precisions: tuple[str, ...]  # of its products; the first is the default
    direction_kinds: tuple[str, ...]  # of `Directions.kind` that it can make; empty for all, from their vectors

    def unusable(self, device: torch.device) -> str | None:
        """Why it cannot run on this device, or None."""
        ...

    def unsupported(self, problem: RayProblem) -> str | None:
        """Why it cannot solve this problem, naming the layer or the setting, or None."""
        ...

    def prepare(self, problem: RayProblem, resources: Resources) -> Engine:
        """The problem made ready: what is computed once per network."""
        ...
