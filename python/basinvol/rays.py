"""Radii along many directions: a backend, a pilot, and blocks of directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm

from .backends import Choice, RayProblem, resolve
from .directions import Directions
from .landscape import Landscape
from .radii import Guess, Radii
from .search import SearchSettings

# The first directions of a seed are solved from a generic guess, and all others from what these teach. The guess is a
# function of the problem alone, so blocks may run anywhere, in any order, and give the same bytes.
NUM_PILOT = 4

# Rays still inside here are censored: a million times the scale of every parameter.
_RADIUS_MAX_PER_ROOT_DIM = 1e6
_FIRST_RADIUS_PER_ROOT_DIM = 0.1
_STEP_PER_THREAD = 8  # directions between two updates of the progress bar, or two chances to interrupt

PAPER_GRID = tuple((k / 99) ** 2 for k in range(1, 100))  # linspace(0, 1, 100)^2 without the center


class RaySearchFailed(RuntimeError):
    """A run ended early; `radii` holds the directions that were finished, or None."""

    def __init__(self, message: str, radii: Radii | None) -> None:
        super().__init__(message)
        self.radii = radii


class RaySolver:
    """A problem on its backend, ready to give the radii of any range of directions.

    Args: as `find_radii`.
    """

    def __init__(
        self,
        landscape: Landscape,
        directions: Directions,
        cutoffs: Sequence[float],
        *,
        scaling: str = "filter",
        search: str = "interpolate",
        rtol: float = 1e-4,
        radius_max: float | None = None,
        max_steps: int = 100,
        grid: Sequence[float] | None = None,
        backend: str = "auto",
        num_threads: int | None = None,
    ) -> None:
        space = directions.space
        root_dim = math.sqrt(space.dim)
        settings = SearchSettings(
            method=search,
            rtol=rtol,
            radius_max=_RADIUS_MAX_PER_ROOT_DIM * root_dim if radius_max is None else float(radius_max),
            max_steps=max_steps,
            grid=_check_grid(grid) if search == "grid" else (),
        )
        self.problem = RayProblem(
            landscape=landscape,
            directions=directions,
            center=space.flatten(landscape.model).to(landscape.device),
            scale=space.scale(landscape.model, scaling).to(landscape.device),
            cutoffs=_check_cutoffs(cutoffs),
            settings=settings,
        )
        self.num_threads = _check_num_threads(num_threads)
        self.choice: Choice = resolve(backend, self.problem)
        self._engine = self.choice.backend.prepare(self.problem, self.num_threads)
        self.center_losses = self._engine.center_losses
        self._generic = Guess.generic(
            len(landscape.levels), len(self.problem.cutoffs), _FIRST_RADIUS_PER_ROOT_DIM * root_dim
        )
        self._learned: tuple[Radii, Guess] | None = None

    def solve(self, start: int, stop: int, on_done: Callable[[int], object] = lambda _: None) -> Radii:
        """The radii of directions start to stop - 1, the same however a range is split. [L, C, stop - start]

        Args:
            on_done: called with the number of directions finished since the last call.

        Raises:
            RaySearchFailed: an evaluation failed; carries the radii found so far.
        """
        step = _STEP_PER_THREAD * self.num_threads
        parts: list[Radii] = []
        for first in range(start, stop, step):
            last = min(first + step, stop)
            try:
                parts.append(self._solve_step(first, last))
            except (RuntimeError, MemoryError) as error:
                done = Radii.concatenate(parts) if parts else None
                raise RaySearchFailed(
                    f"the search failed at directions {first} to {last - 1}: {error}", done
                ) from error
            on_done(last - first)
        return Radii.concatenate(parts)

    def _solve_step(self, start: int, stop: int) -> Radii:
        if self.problem.settings.method == "grid":
            return self._engine.solve(range(start, stop), self._generic)
        pilot, guess = self._learn()
        parts = []
        if start < NUM_PILOT:
            parts.append(pilot.between(start, min(stop, NUM_PILOT)))
        if stop > NUM_PILOT:
            parts.append(self._engine.solve(range(max(start, NUM_PILOT), stop), guess))
        return Radii.concatenate(parts)

    def _learn(self) -> tuple[Radii, Guess]:
        if self._learned is None:
            num_pilot = min(NUM_PILOT, self.problem.directions.count)
            pilot = self._engine.solve(range(num_pilot), self._generic)
            self._learned = pilot, Guess.learned(pilot, self._generic)
        return self._learned

    def solve_all(self, progress: bool = False) -> Radii:
        """The radii of all directions, with a progress bar on a terminal if asked. [L, C, D]"""
        count = self.problem.directions.count
        with tqdm(total=count, desc="directions", unit="dir", disable=None if progress else True) as bar:
            return self.solve(0, count, bar.update)


def find_radii(
    landscape: Landscape,
    directions: Directions,
    cutoffs: Sequence[float],
    *,
    scaling: str = "filter",
    search: str = "interpolate",
    rtol: float = 1e-4,
    radius_max: float | None = None,
    max_steps: int = 100,
    grid: Sequence[float] | None = None,
    backend: str = "auto",
    num_threads: int | None = None,
    progress: bool = False,
) -> Radii:
    """Boundary radii for every level, cutoff and direction, in one pass. [L, C, D]

    An evaluation serves every level and cutoff of its ray. A cutoff below the loss at the center is no error here: its
    rays have status CENTER_OUTSIDE and radius 0.

    Args:
        landscape: the loss and its levels.
        directions: which rays.
        cutoffs: losses that bound the basin, any order.
        scaling: "filter" or "none", see `ParameterSpace.scale`; radii are in units of it.
        search: "interpolate", "bisect" or "grid", see `SearchSettings`.
        rtol: relative width at which a bracket is closed.
        radius_max: rays inside there are CENSORED; default 1e6 sqrt(P).
        max_steps: most evaluations for one level and cutoff of one ray.
        grid: coefficients for search="grid", default linspace(0, 1, 100)^2; a ray's radii are these times the norm of
            its Gaussian vector, about sqrt(P).
        backend: "auto", "native" or "reference".
        num_threads: default torch's number; the result does not depend on it.
        progress: show a bar, if standard error is a terminal.

    Raises:
        ValueError: a bad argument.
        BackendUnavailable: the named backend can not do this.
        RaySearchFailed: an evaluation failed; carries the radii found so far.
    """
    solver = RaySolver(
        landscape,
        directions,
        cutoffs,
        scaling=scaling,
        search=search,
        rtol=rtol,
        radius_max=radius_max,
        max_steps=max_steps,
        grid=grid,
        backend=backend,
        num_threads=num_threads,
    )
    return solver.solve_all(progress)


def _check_cutoffs(cutoffs: Sequence[float]) -> tuple[float, ...]:
    checked = tuple(float(cutoff) for cutoff in cutoffs)
    if not checked or not all(math.isfinite(cutoff) for cutoff in checked) or len(set(checked)) < len(checked):
        raise ValueError(f"`cutoffs` must be different finite losses, at least one, got {list(cutoffs)}.")
    return checked


def _check_grid(grid: Sequence[float] | None) -> tuple[float, ...]:
    checked = PAPER_GRID if grid is None else tuple(float(point) for point in grid)
    increasing = all(a < b for a, b in zip((0.0, *checked), checked, strict=False))
    if not checked or not increasing or not math.isfinite(checked[-1]):
        raise ValueError("`grid` must be increasing positive coefficients; the center, 0, is always evaluated.")
    return checked


def _check_num_threads(num_threads: int | None) -> int:
    if num_threads is None:
        return torch.get_num_threads()
    if num_threads < 1:
        raise ValueError(f"`num_threads` must be at least 1, got {num_threads}.")
    return int(num_threads)
