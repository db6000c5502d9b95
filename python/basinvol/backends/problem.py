"""The problem and the resources that every backend is given, and the protocols that it fulfills."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..model.directions import Directions
from ..model.landscape import Landscape
from ..model.scale import Scale
from ..search import SearchSettings
from ..search.radii import Guess, Radii
from .program.checked import compare, lowered_program, on_this_machine
from .program.program import Program
from .program.values import Refused
from .working_copy import WorkingCopy, channels_last_weights


class BackendUnavailable(ValueError):
    """The error for a backend that was asked for and cannot be used; the message says why and what to do."""


# "fp32" is float32 products; "fp16x3" and "tf32x3" are tensor cores with split operands, which are as exact; "tf32"
# proposes radii that the others certify.
PRECISIONS = ("fp32", "fp16x3", "tf32x3", "tf32")


@dataclass(frozen=True)
class RayProblem:
    """Everything that determines the radii, and nothing that does not (threads, blocks, backend).

    Attributes:
        landscape: the loss and its levels.
        directions: which rays.
        scale: the positive factor of each parameter.
        cutoffs: losses that bound the basin. [C]
        settings: how to search.
        precision: precision of the products, one of the backend's `precisions`; None for its best that certifies.
        compile: whether the model is evaluated through torch.compile.
    """

    landscape: Landscape
    directions: Directions
    scale: Scale
    cutoffs: tuple[float, ...]
    settings: SearchSettings
    precision: str | None = None
    compile: bool = False

    @functools.cached_property
    def center(self) -> Tensor:
        """The trained parameters as one vector, made when it is first asked for. [P]"""
        space = self.directions.space
        return space.flatten(self.landscape.model).to(self.landscape.device)

    @functools.cached_property
    def working_copy(self) -> WorkingCopy:
        """Parameters to perturb in place, made when they are first asked for."""
        return self.new_working_copy()

    def new_working_copy(self) -> WorkingCopy:
        """One more of them, for another thread."""
        return WorkingCopy(self.landscape, self.directions, self.scale, self._channels_last)

    @functools.cached_property
    def lowered(self) -> Program | Refused:
        """The network as a program, or the reason why it is none; not compared with the model yet."""
        try:
            return lowered_program(self.landscape, self.directions.space)
        except Refused as refusal:
            return refusal

    @functools.cached_property
    def program(self) -> Program | Refused:
        """The program for the compiled engine, which has the model's losses there, or the reason why there is none."""
        if isinstance(self.lowered, Refused):
            return self.lowered
        try:
            run = on_this_machine(self.directions, self.scale)
            compare(self.lowered, self.landscape, self.working_copy, run)
        except Refused as refusal:
            return refusal
        return self.lowered

    @functools.cached_property
    def _channels_last(self) -> frozenset[str]:
        return channels_last_weights(self.landscape, self.directions.space.names)


@dataclass(frozen=True)
class Resources:
    """The resources that a backend may use; the radii do not depend on them.

    Attributes:
        num_threads: threads of the CPU.
        memory_budget: bytes for what is kept between evaluations; None for 1 GiB, or on a device most of what is free.
        instruction_set: instruction set of the native backend; empty for the best this machine has.
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
        """The device and settings that the engine runs with, in a few words."""
        ...

    @property
    def step(self) -> int:
        """The number of directions that are best solved by one call of `solve`."""
        ...

    def solve(self, indices: Sequence[int], guess: Guess, negligible: Tensor | None = None) -> Radii:
        """The radii of these directions on all levels of the engine. [L, C, len(indices)]

        They are a pure function of the arguments and the problem: not of threads, memory, or what was solved before.

        Args:
            indices: which directions.
            guess: where to look first. [L, C]
            negligible: a ray outside at this radius is NEGLIGIBLE and not solved; 0 where there is no such radius.
                [L, C] float64
        """
        ...

    def refine(self, indices: Sequence[int], known: Radii, rtol: float) -> Radii:
        """Narrows the brackets with status RUNNING in `known` to `rtol`, and keeps the others. [L, C, len(indices)]

        Args:
            indices: which directions.
            known: their brackets so far, on the landscape's levels. [L, C, len(indices)]
            rtol: relative width at which a bracket is closed.
        """
        ...

    def learn_order(self, indices: Sequence[int], radii: Sequence[float]) -> None:
        """Puts the examples with the largest losses at these radii along these directions first, for shorter proofs."""
        ...


class Backend(Protocol):
    """One way to execute the radius search. Any object with these members may be passed as `backend`.

    A package registers a backend by name through an entry point of the group "basinvol.backends" that gives a class or
    function without arguments; `backend="auto"` tries only those that come with basinvol. A backend that evaluates the
    model through torch.compile where the problem says so has a member `compiles` that is true.
    """

    name: str
    precisions: tuple[str, ...]  # of its products
    direction_kinds: tuple[str, ...]  # of `Directions.kind` that it can make; empty for all, from their vectors

    def unusable(self, device: torch.device) -> str | None:
        """The reason why it cannot run on this device, or None."""
        ...

    def unsupported(self, problem: RayProblem) -> str | None:
        """The reason why it cannot solve this problem, naming the layer or the setting, or None."""
        ...

    def prepare(self, problem: RayProblem, resources: Resources) -> Engine:
        """The engine for a problem, after all that is computed once per network."""
        ...
