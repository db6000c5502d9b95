"""Where rays are solved: the registry of backends, and what each is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..directions import Directions
from ..landscape import Landscape
from ..radii import Guess, Radii
from ..search import SearchSettings


class BackendUnavailable(ValueError):
    """A backend that was asked for by name can not do this; the message says why and what to do."""


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
    """One way to execute the radius search."""

    name: str
    precisions: tuple[str, ...]  # of its products; the first is the default

    def unusable(self, device: torch.device) -> str | None:
        """Why it can not run on this device, or None."""
        ...

    def unsupported(self, problem: RayProblem) -> str | None:
        """Why it can not solve this problem, naming the layer or the setting, or None."""
        ...

    def prepare(self, problem: RayProblem, resources: Resources) -> Engine:
        """The problem made ready: what is computed once per network."""
        ...


@dataclass(frozen=True)
class Choice:
    """The backend that runs, and why it was chosen."""

    backend: Backend
    reason: str


def backends() -> dict[str, Backend]:
    """All backends by name, in the order in which "auto" tries them."""
    from .cuda import CudaBackend
    from .native import NativeBackend
    from .reference import ReferenceBackend
    from .triton import TritonBackend

    return {backend.name: backend for backend in (NativeBackend(), TritonBackend(), CudaBackend(), ReferenceBackend())}


def choose(name: str, problem: RayProblem) -> Choice:
    """The backend of this name, or for "auto" the first that can solve the problem.

    Raises:
        ValueError: unknown name.
        BackendUnavailable: the named backend can not run here or can not solve this; it never falls back.
    """
    known = backends()
    device = problem.landscape.device
    if name == "auto":
        refusals: list[str] = []
        for backend in known.values():
            refusal = _refusal(backend, problem)
            if refusal is None:
                reason = "; ".join(refusals) or "the fastest that supports this model, loss and device"
                return Choice(backend, reason)
            refusals.append(f"not {backend.name}: {refusal}")
        raise BackendUnavailable(f"no backend can run on {device}: {'; '.join(refusals)}.")
    if name not in known:
        raise ValueError(f"`backend` must be 'auto' or one of {', '.join(map(repr, known))}, got {name!r}.")
    refusal = _refusal(known[name], problem)
    if refusal is not None:
        raise BackendUnavailable(
            f"backend {name!r} can not be used: {refusal}; choose backend='auto' to take one that can."
        )
    return Choice(known[name], "asked for by name")


def _refusal(backend: Backend, problem: RayProblem) -> str | None:
    refusal = backend.unusable(problem.landscape.device) or backend.unsupported(problem)
    if refusal is None and problem.precision not in (None, *backend.precisions):
        return f"it computes in {', '.join(backend.precisions)}, not in {problem.precision}"
    return refusal
