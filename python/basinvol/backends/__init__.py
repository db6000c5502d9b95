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


@dataclass(frozen=True)
class RayProblem:
    """Everything that determines the radii, and nothing that does not (threads, blocks, backend).

    Attributes:
        center: the trained parameters. [P]
        scale: the positive factor of each parameter. [P]
    """

    landscape: Landscape
    directions: Directions
    center: Tensor
    scale: Tensor
    cutoffs: tuple[float, ...]
    settings: SearchSettings


class Engine(Protocol):
    """A problem made ready on one backend."""

    center_losses: Tensor  # [L] float64, in the backend's own arithmetic

    def solve(self, indices: Sequence[int], guess: Guess) -> Radii:
        """The radii of these directions, [L, C, len(indices)]; a pure function of problem, indices and guess."""
        ...


class Backend(Protocol):
    """One way to execute the radius search."""

    name: str

    def unusable(self, device: torch.device) -> str | None:
        """Why it can not run on this device, or None."""
        ...

    def unsupported(self, problem: RayProblem) -> str | None:
        """Why it can not solve this problem, naming the layer or the setting, or None."""
        ...

    def prepare(self, problem: RayProblem, num_threads: int) -> Engine:
        """The problem made ready: what is computed once per network."""
        ...


@dataclass(frozen=True)
class Choice:
    """The backend that runs, and why it was chosen."""

    backend: Backend
    reason: str


def backends() -> dict[str, Backend]:
    """All backends by name, in the order in which "auto" tries them."""
    from .native import NativeBackend
    from .reference import ReferenceBackend

    return {backend.name: backend for backend in (NativeBackend(), ReferenceBackend())}


def resolve(name: str, problem: RayProblem) -> Choice:
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
    return backend.unusable(problem.landscape.device) or backend.unsupported(problem)
