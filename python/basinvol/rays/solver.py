"""Radii along many directions: a backend, a pilot, blocks of directions, and the rays that decide."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..backends import Choice, RayProblem, choose
from ..model.default_device import cpu_by_default
from ..model.directions import Directions
from ..model.landscape import Landscape
from ..model.scale import Scale
from ..progress import is_watched, progress_bar
from ..search import RUNNING
from ..search.radii import COUNTS, Guess, Radii, Status
from ..storage.journal import Journal
from .announcement import Announcement
from .blocks import Block, SpreadRays
from .kept import KeptRays
from .options import DEFAULTS, SearchOptions, check_cutoffs
from .pilot import NUM_FIRST, Pilot

# Rays within this many nats of the largest weight decide the volume; their brackets are refined ...
_DECISIVE_NATS = 20.0
# ... until each is worth at most this many nats, or is as narrow as float32 radii can be told apart.
_REFINED_NATS = 0.1
_RADIUS_NOISE = 4 * torch.finfo(torch.float32).eps
_WORTH_THE_WAY = 32  # fewer rays are refined here, and not on an executor


class RaySearchFailed(RuntimeError):
    """A search that ended early; `radii` holds the directions that were finished, or None."""

    def __init__(self, message: str, radii: Radii | None) -> None:
        super().__init__(message)
        self.radii = radii


class RaySolver:
    """A problem on its backend, ready to give the radii of any range of directions.

    Args:
        landscape: the loss and its levels.
        directions: which rays.
        cutoffs: losses that bound the basin, in any order.
        scaling: "filter", "none", or the scale itself, a positive factor for every parameter. [P]
        options: how to search, and where.
        journal: where solved rays are kept, and taken from; None to keep none.
        changes: single options by name, instead of those in `options`, see `SearchOptions`.

    Attributes:
        problem: what the backend was given.
        choice: the backend, and why it was chosen.
        engine: the problem made ready on that backend.
        center_losses: loss at the center on each level of the landscape. [L] float64

    Raises:
        ValueError: an argument is bad.
        BackendUnavailable: the named backend cannot solve this problem.
    """

    @cpu_by_default
    def __init__(
        self,
        landscape: Landscape,
        directions: Directions,
        cutoffs: Sequence[float],
        *,
        scaling: str | Tensor = "filter",
        options: SearchOptions = DEFAULTS,
        journal: Journal | None = None,
        **changes: Any,
    ) -> None:
        check_types(landscape, directions)
        options = dataclasses.replace(options, **changes)
        space = directions.space
        if isinstance(scaling, Tensor):
            scale = Scale.from_vector(scaling, space.shapes)
        else:
            scale = space.scale_by_tensor(landscape.model, scaling)
        resources = options.resources()
        self.problem = RayProblem(
            landscape=landscape,
            directions=directions,
            scale=scale.to(landscape.device),
            cutoffs=check_cutoffs(cutoffs),
            settings=options.settings(space.dim),
            precision=options.precision,
            compile=options.compile,
        )
        self.resolve = options.resolve
        self.num_threads = resources.num_threads
        self.choice: Choice = choose(options.backend, self.problem)
        self.engine = self.choice.backend.prepare(self.problem, resources)
        # The engine may have scouts between the landscape's levels.
        rows = [self.engine.levels.index(level) for level in landscape.levels]
        self.center_losses = self.engine.center_losses[rows]
        self._kept = KeptRays(journal, self.problem, options.resolve)
        self._spread: SpreadRays | None = None
        if options.executor is not None:
            workers = options.resources_of_workers()
            self._spread = SpreadRays(self.problem, self.choice.backend, workers, options.executor)

    @functools.cached_property
    def pilot(self) -> Pilot:
        """The first directions, and what they teach all others."""
        return Pilot(self.problem, self.engine, self._kept, float(self.center_losses[-1]))

    @property
    def generic_guess(self) -> Guess:
        """Where the first rays look first. [L, C]"""
        return self.pilot.generic_guess

    @property
    def description(self) -> str:
        """The device and settings that the backend runs with, in a few words."""
        return self.engine.description

    @cpu_by_default
    def solve_all(self, progress: bool = False, purpose: str = "directions") -> Radii:
        """The radii of all directions, refined. [L, C, D]

        Args:
            progress: whether to show a bar, on a terminal or in a notebook.
            purpose: name of the bar.
        """
        count = self.problem.directions.count
        announced = Announcement(count, is_shown=progress and is_watched())
        with progress_bar(progress, count, purpose, "dir") as bar:

            def on_done(number: int) -> None:
                bar.update(number)
                announced.update(number)

            return self._kept.once("refined", lambda: self.refine(self.solve(0, count, on_done)), self._book)

    @cpu_by_default
    def solve(self, start: int, stop: int, on_done: Callable[[int], object] = lambda _: None) -> Radii:
        """The radii of directions start to stop - 1, the same however a range is split. [L, C, stop - start]

        Args:
            start, stop: the range of directions, without `stop`.
            on_done: called with the number of directions finished since the last call.

        Raises:
            RaySearchFailed: an evaluation failed; the error carries the radii found so far.
        """
        if self._spread is not None:
            return self._solve_spread(self._spread, start, stop, on_done)
        parts: list[Radii] = []
        first = start
        try:
            while first < stop:
                last = min(first + self.engine.step, stop)
                part = self._kept.block(first)
                if part is None:
                    part = self._try_step(first, last, parts)
                    self._kept.keep(first, part)
                parts.append(part)
                first += len(part)
                self._book(part)
                on_done(len(part))
        finally:
            self._kept.flush()
        return Radii.concatenate(parts)

    def _try_step(self, first: int, last: int, parts: Sequence[Radii]) -> Radii:
        try:
            return self._solve_step(first, last)
        except (RuntimeError, MemoryError) as error:
            done = Radii.concatenate(parts) if parts else None
            raise RaySearchFailed(f"the search failed at directions {first} to {last - 1}: {error}", done) from error

    def _solve_spread(self, spread: SpreadRays, start: int, stop: int, on_done: Callable[[int], object]) -> Radii:
        """The same on an executor. The first directions teach all others, and are searched here."""
        parts: dict[int, Radii] = {}

        def finish(first: int, part: Radii) -> None:
            parts[first] = part
            self._book(part)
            on_done(len(part))

        head = start
        while head < stop and (kept := self._kept.block(head)) is not None:
            finish(head, kept)
            head += len(kept)
        try:
            known = head
            head = min(max(known, self._num_pilot), stop)
            if known < head:
                finish(known, self._solve_step(known, head))
                self._kept.keep(known, parts[known])
            if head < stop:
                guess = self.pilot.guess
                negligible = None if self.resolve == "all" else self.pilot.negligible
                block = Block(range(head, stop), guess, negligible, order=self.pilot.order)
                for positions, part in spread.search(block, self._least):
                    first = head + positions.start
                    finish(first, part.only(self.problem.landscape.levels))
                    self._kept.keep(first, parts[first])
        except (RuntimeError, MemoryError) as error:
            done = self._first_of(parts, start)
            raise RaySearchFailed(f"the search failed: {error}", Radii.concatenate(done) if done else None) from error
        finally:
            self._kept.flush()
        return Radii.concatenate([parts[first] for first in sorted(parts)])

    @property
    def _least(self) -> int:
        """The directions that keep an engine busy: on a device those of a batch, on a CPU any number."""
        return 1 if self.problem.landscape.device.type == "cpu" else self.engine.step

    @staticmethod
    def _first_of(parts: dict[int, Radii], start: int) -> list[Radii]:
        """The parts from the start on, up to the first direction that is not there."""
        found = []
        while start in parts:
            found.append(parts[start])
            start += len(found[-1])
        return found

    @cpu_by_default
    def refine(self, radii: Radii) -> Radii:
        """Narrows the brackets of the rays that decide a volume, of all directions together. [L, C, D]

        For every level and cutoff these are the crossed rays within 20 nats of the largest; the search goes on until
        their brackets are worth 0.1 nats, or to the resolution of float32 radii.
        """
        if self.problem.settings.method == "grid":
            return radii
        dim = self.problem.directions.space.dim
        crossed = radii.is_status(Status.CROSSED)
        log_lower = torch.where(crossed, radii.lower, 0.0).log()
        log_upper = torch.where(crossed, radii.upper, 0.0).log()
        # A ray counts if its upper end may reach within 20 nats of what the largest lower end already guarantees.
        largest = log_lower.amax(dim=-1, keepdim=True)
        rtol = max(_REFINED_NATS / dim, _RADIUS_NOISE)
        decides = crossed & (dim * (log_upper - largest) >= -_DECISIVE_NATS)
        wide = decides & (radii.upper - radii.lower > rtol * radii.upper)
        rays = wide.flatten(0, 1).any(dim=0).nonzero().reshape(-1)
        if len(rays) == 0:
            return radii
        known = radii.take(rays)
        status = torch.where(wide[..., rays], RUNNING, known.status_code).to(torch.int8)
        found = self._narrowed(rays, dataclasses.replace(known, status_code=status), rtol)
        self._book(found)
        spent = {name: getattr(known, name) + getattr(found, name) for name in COUNTS}
        trace = None
        if known.trace is not None and found.trace is not None:
            trace = known.trace.joined([known.trace, found.trace])
        return radii.replaced(rays, dataclasses.replace(found, **spent, trace=trace))

    def _narrowed(self, rays: Tensor, known: Radii, rtol: float) -> Radii:
        if self._spread is None or len(rays) < _WORTH_THE_WAY:
            return self.engine.refine(rays.tolist(), known, rtol)
        found = self._spread.search(Block(tuple(rays.tolist()), known=known, rtol=rtol), self._least)
        parts = {positions.start: part for positions, part in found}
        return Radii.concatenate([parts[first] for first in sorted(parts)])

    def _book(self, found: Radii) -> None:
        self.problem.landscape.count(int(found.num_evaluations.sum()))

    @property
    def _num_pilot(self) -> int:
        """The directions that teach all others."""
        return NUM_FIRST if self.resolve == "all" else self.pilot.size

    def _solve_step(self, start: int, stop: int) -> Radii:
        pilot, parts = self.pilot, []
        middle = min(max(start, self._num_pilot), stop)
        if start < middle:
            known = pilot.first if self.resolve == "all" else pilot.radii
            parts.append(known.between(start, middle))
        if middle < stop:
            negligible = None if self.resolve == "all" else pilot.negligible
            parts.append(self.engine.solve(range(middle, stop), pilot.guess, negligible))
        return Radii.concatenate(parts).only(self.problem.landscape.levels)


def check_types(landscape: object, directions: object) -> None:
    """Refuses what is no landscape, or no directions.

    Raises:
        ValueError: an argument is of another type.
    """
    if not isinstance(landscape, Landscape):
        raise ValueError(
            f"`landscape` must be a basinvol.Landscape, got a {type(landscape).__name__}; make one with "
            "basinvol.Landscape(model, loss_fn, data)."
        )
    if not isinstance(directions, Directions):
        raise ValueError(
            f"`directions` must be a basinvol.Directions, got a {type(directions).__name__}; make them with "
            "basinvol.Directions(basinvol.ParameterSpace.of(model), count)."
        )
