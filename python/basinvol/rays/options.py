"""How rays are searched and where: one immutable object, checked once and handed down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import torch

from ..backends import PRECISIONS, Backend, Resources
from ..inputs.arguments import one_of, real_number, whole_number
from ..search import SearchSettings

RESOLVES = ("all", "decisive")
PAPER_GRID = tuple((k / 99) ** 2 for k in range(1, 100))  # linspace(0, 1, 100)^2 without the center

# Rays still inside at this radius over sqrt(P) are censored: a million times the scale of every parameter.
_RADIUS_MAX_PER_ROOT_DIM = 1e6


@dataclass(frozen=True)
class SearchOptions:
    """All settings of a search but the landscape, the directions and the cutoffs.

    Attributes:
        search: "interpolate", "bisect" or "grid", see `SearchSettings`.
        rtol: relative width at which a bracket is closed; rays that decide a volume are refined further.
        resolve: "all", every radius; "decisive", the first 8 to 32 in full, and of the others only those long enough
            to matter.
        radius_max: rays still inside there are CENSORED; default 1e6 sqrt(P).
        max_steps: most evaluations for one level and cutoff of one ray.
        grid: coefficients for search="grid", default linspace(0, 1, 100)^2.
        backend: a name, "auto", or an object with the interface of `basinvol.backends.Backend`.
        num_threads: threads of the CPU; default torch's number.
        precision: precision of the products, one of `basinvol.backends.PRECISIONS`; default the backend's best that is
            as exact as float32.
        compile: whether the model is evaluated through torch.compile, which only the backend "torch" does.
        memory_budget: bytes that the backend may keep between evaluations; it changes no result.
        instruction_set: instruction set of the native backend; empty for the best that this machine has.
        executor: where blocks of directions are searched; None for this process. It changes no result.

    Raises:
        ValueError: a setting has a value that is not allowed.
    """

    search: str = "interpolate"
    rtol: float = 1e-4
    resolve: str = "all"
    radius_max: float | None = None
    max_steps: int = 100
    grid: Sequence[float] | None = None
    backend: str | Backend = "auto"
    num_threads: int | None = None
    precision: str | None = None
    compile: bool = False
    memory_budget: int | None = None
    instruction_set: str = ""
    executor: Executor | None = None

    def __post_init__(self) -> None:
        one_of("resolve", self.resolve, RESOLVES)
        one_of("compile", self.compile, (False, True))
        if self.precision is not None:
            one_of("precision", self.precision, PRECISIONS)
        if self.num_threads is not None:
            whole_number("num_threads", self.num_threads, least=1)
        if self.memory_budget is not None:
            whole_number("memory_budget", self.memory_budget, least=0)
        self.settings(dim=1)  # checks the others

    def settings(self, dim: int) -> SearchSettings:
        """The settings of the search itself, in `dim` = P dimensions."""
        reach = self.radius_max
        return SearchSettings(
            method=self.search,
            rtol=self.rtol,
            radius_max=_RADIUS_MAX_PER_ROOT_DIM * math.sqrt(dim) if reach is None else real_number("radius_max", reach),
            max_steps=self.max_steps,
            grid=_check_grid(self.grid) if self.search == "grid" else (),
        )

    def resources(self) -> Resources:
        """The threads, memory and instruction set that the backend may use."""
        num_threads = torch.get_num_threads() if self.num_threads is None else int(self.num_threads)
        return Resources(num_threads, self.memory_budget, self.instruction_set)

    def resources_of_workers(self) -> Resources:
        """The same for each call on an executor: one thread, unless the user says more."""
        num_threads = 1 if self.num_threads is None else int(self.num_threads)
        return Resources(num_threads, self.memory_budget, self.instruction_set)


DEFAULTS = SearchOptions()


def check_cutoffs(cutoffs: Sequence[float]) -> tuple[float, ...]:
    """The cutoffs as a tuple of floats; they must be different finite losses, at least one.

    Raises:
        ValueError: they are not.
    """
    if isinstance(cutoffs, (str, bytes)) or not hasattr(cutoffs, "__iter__"):
        raise ValueError(f"`cutoffs` must be a list of losses, got {cutoffs!r}.")
    checked = tuple(real_number("cutoffs", cutoff) for cutoff in cutoffs)
    if not checked or not all(math.isfinite(cutoff) for cutoff in checked) or len(set(checked)) < len(checked):
        raise ValueError(f"`cutoffs` must be different finite losses, at least one, got {list(cutoffs)}.")
    return checked


def _check_grid(grid: Sequence[float] | None) -> tuple[float, ...]:
    checked = PAPER_GRID if grid is None else tuple(float(point) for point in grid)
    increasing = all(a < b for a, b in zip((0.0, *checked), checked, strict=False))
    if not checked or not increasing or not math.isfinite(checked[-1]):
        raise ValueError("`grid` must be increasing positive coefficients; the center, 0, is always evaluated.")
    return checked
