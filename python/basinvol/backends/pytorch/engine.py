"""The radius search of any module: C++ asks where to look, torch computes the losses, one direction to a thread."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ...model.caller import ModelCaller
from ...search import SearchSettings
from ...search.radii import Guess, Radii
from ...search.targets import Targets
from ...search.trace import Trace
from ..compiled import BRACKET_FIELDS, native_settings, native_targets
from ..extension import compiled_extension
from ..problem import RayProblem, Resources
from ..working_copy import WorkingCopy
from .compilation import compiled_callers
from .cuda_capture import CudaCapture, may_capture
from .evaluators import Evaluator, OnDevice, OnThreads
from .graphs import replaying
from .proof_order import ProofOrder
from .replicas import replicas
from .team import Team, run_teams
from .units import units_of

_MEMORY_BUDGET = 2**30  # bytes of perturbed parameters and moves
# Seconds of an evaluation below which threads would mostly wait for Python's lock: one is then faster than two.
_SHORT = 1e-3
# Directions between two updates of the progress bar, or two chances to interrupt: each starts threads anew.
_STEP_PER_TEAM, _SHORT_STEP = 4, 32
# A proof reads in finer steps than an evaluation: into how many a batch is cut, and the units of the smallest.
_PARTS_IN_PROOF, _LEAST_IN_PROOF = 16, 128
_TRIED_RADIUS_PER_ROOT_DIM = 0.01  # where copies of the model must agree with it


class TorchEngine:
    """See `Engine`. Results do not depend on threads: a direction's operations run in one, and sums in data order."""

    def __init__(self, problem: RayProblem, resources: Resources) -> None:
        self._problem = problem
        landscape, space = problem.landscape, problem.directions.space
        self.levels = landscape.levels
        self._units, self._is_nonnegative = units_of(landscape)
        self._stop = threading.Event()
        # In which order proofs of each level read units; before one was learned, that of the data.
        self._order = self._orders(torch.zeros(1, len(self._units.weights), dtype=torch.float64))

        first = problem.working_copy
        first.aim(0)
        tried = _TRIED_RADIUS_PER_ROOT_DIM * math.sqrt(space.dim)
        first.place(tried)
        self._callers = replicas(landscape, resources.num_threads, first.named)
        # A model that cannot be copied is evaluated by one thread at a time, which then may use all cores.
        self._intra_threads = resources.num_threads if self._callers == [landscape.caller] else 1
        if problem.compile:
            self._callers = self._compiled(first, tried, resources.num_threads)
        each = 2 * space.dim * space.dtype.itemsize
        budget = resources.memory_budget or _MEMORY_BUDGET
        count = min(len(self._callers), max(1, budget // each))
        copies = [first, *(problem.new_working_copy() for _ in range(count - 1))]
        with self._measuring():
            evaluators = [self._evaluator(copies[k], self._callers[k::count], tried) for k in range(count)]
        self._teams = [Team(copies[k], self._units, evaluators[k]) for k in range(count)]
        with self._measuring():
            found, seconds = run_teams(self._teams[:1], self._at_center, 1, self._stop)[0]
        self.center_losses = torch.tensor(found, dtype=torch.float64)
        self.step = _STEP_PER_TEAM * len(self._teams)
        if seconds < _SHORT or landscape.device.type != "cpu":
            self._teams, self.step = self._teams[:1], _SHORT_STEP

    @property
    def description(self) -> str:
        """The version of torch, the device, the threads and the batches, in a few words."""
        landscape = self._problem.landscape
        parts = (
            f"torch {torch.__version__} on {landscape.device}",
            f"{len(self._teams)} directions at a time on {self._teams[0].evaluator.width} threads each",
            f"batches of {landscape.batch_size}",
            f"losses by {self._units.kind}",
        )
        how = "compiled" if self._problem.compile else "", self._teams[0].evaluator.kind
        return ", ".join([*parts, *filter(None, how)])

    def solve(self, indices: Sequence[int], guess: Guess, negligible: Tensor | None = None) -> Radii:
        """See `Engine.solve`."""
        settings = self._problem.settings
        targets = self._targets(guess, settings.rtol)
        thresholds = None if negligible is None else negligible.reshape(-1).tolist()
        return self._search(indices, targets, settings, thresholds, None)

    def refine(self, indices: Sequence[int], known: Radii, rtol: float) -> Radii:
        """See `Engine.refine`."""
        guess = Guess.generic(len(self.levels), len(self._problem.cutoffs), 1.0)  # not used: brackets are known
        settings = self._problem.settings.for_refinement()
        brackets = [getattr(known, name).flatten(0, 1).tolist() for name in BRACKET_FIELDS]
        by_target = [list(zip(*parts, strict=True)) for parts in zip(*brackets, strict=True)]
        return self._search(indices, self._targets(guess, rtol), settings, None, by_target)

    def learn_order(self, indices: Sequence[int], radii: Sequence[float]) -> None:
        """See `Engine.learn_order`."""
        if not self._is_nonnegative:  # a partial sum proves nothing
            return

        def hardness(team: Team, number: int) -> Tensor:
            team.aim(indices[number])
            return team.values(radii[number])

        with self._measuring():
            found = run_teams(self._teams, hardness, len(indices), self._stop)
        self._order = self._orders(torch.stack(found))

    def _at_center(self, team: Team, _: int) -> tuple[list[float], float]:
        """The losses at the center, and the seconds of an evaluation, after a first one that warms up."""
        losses = team.losses(0.0, len(self.levels))
        started = time.perf_counter()
        team.losses(0.0, len(self.levels))
        return losses, time.perf_counter() - started

    def _evaluator(self, copy: WorkingCopy, callers: Sequence[ModelCaller], tried: float) -> Evaluator:
        """What evaluates a copy that is turned to a direction; `tried` is a radius along it."""
        if copy.device.type == "cpu":
            return OnThreads(self._units, copy, callers, self._stop)
        eager = OnDevice(self._units, copy, callers[0], self._stop)
        return replaying(eager, CudaCapture(copy.device), tried) if may_capture(copy.device) else eager

    def _compiled(self, copy: WorkingCopy, tried: float, num_threads: int) -> list[ModelCaller]:
        """The callers through torch.compile, or where threads cannot share that, one that may use all cores."""
        landscape, callers = self._problem.landscape, self._callers
        with self._measuring():
            found = compiled_callers(landscape, callers, self._units, copy, tried)
        if len(found) == len(callers):
            return found
        self._intra_threads = num_threads  # compiled code is for one number of threads
        with self._measuring():
            return compiled_callers(landscape, callers[:1], self._units, copy, tried)

    def _orders(self, found: Tensor) -> list[ProofOrder]:
        """The order of proofs on each level, by the losses of the units on some rays. [rays, U] float64"""
        first, last = self._units.batches[0]
        size = last - first
        # What was captured or compiled is for the batches of the data.
        if self._problem.landscape.device.type == "cpu" and not self._problem.compile:
            size = min(size, max(_LEAST_IN_PROOF, size // _PARTS_IN_PROOF))
        return [ProofOrder(found, self._units.classes, stop, size) for stop in self._units.stops]

    def _targets(self, guess: Guess, rtol: float) -> Targets:
        return Targets.of(self.center_losses, self._problem.cutoffs, self.levels, guess, rtol)

    def _search(
        self,
        indices: Sequence[int],
        targets: Targets,
        settings: SearchSettings,
        negligible: list[float] | None,
        known: list[list[tuple[Any, ...]]] | None,
    ) -> Radii:
        given, order, limits = native_targets(targets), targets.order.tolist(), native_settings(settings)

        def one(team: Team, number: int) -> _Found:
            search = compiled_extension().RaySearch(given, order, limits, team.aim(indices[number]))
            for target, brackets in enumerate(known or ()):
                search.restore(target, *brackets[number])
            evaluations: list[list[float]] = []
            if negligible is None or self._prove(team, search, targets, negligible, evaluations):
                while (probe := search.ask()) is not None:
                    radius, level, _ = probe
                    losses = team.losses(radius, level + 1)
                    search.tell(radius, level, losses)
                    evaluations.append(self._noted(radius, losses))
            return _Found(search.brackets(), evaluations)

        with self._measuring():
            found = run_teams(self._teams, one, len(indices), self._stop)
        state = {
            name: torch.cat([torch.from_numpy(part.brackets[name]) for part in found], dim=-1)
            for name in (*BRACKET_FIELDS, "num_evaluations", "num_examples")
        }
        radii = targets.radii(state, rounds_up=settings.method == "grid")
        return dataclasses.replace(radii, trace=self._trace(found))

    def _prove(
        self,
        team: Team,
        search: Any,
        targets: Targets,
        negligible: list[float],
        evaluations: list[list[float]],
    ) -> bool:
        """Evaluates a ray where it would begin to matter; returns whether any of its targets does."""
        any_matters = False
        for target in targets.order.tolist():
            if not search.is_running(target):
                continue
            radius = search.test_radius(negligible[target])
            if not radius > 0.0:
                any_matters |= bool(targets.is_wanted[target])
                continue
            level, cutoff = int(targets.level[target]), float(targets.cutoff[target])
            bound, share = None, 0.0
            if self._is_nonnegative:
                bound, share = team.proves_outside(radius, cutoff, self._order[level], level)
            if bound is not None:
                search.settle(target, radius, bound, True, math.ceil(share * self.levels[level]))
                continue
            losses = team.losses(radius, level + 1)
            evaluations.append(self._noted(radius, losses))
            is_outside = not losses[level] <= cutoff
            search.settle(target, radius, losses[level], is_outside, math.ceil((1 + share) * self.levels[level]))
            any_matters |= not is_outside
        return any_matters

    def _noted(self, radius: float, losses: Sequence[float]) -> list[float]:
        """An evaluation as a row of the trace: NaN stands for a level that was not evaluated, so a loss is infinite."""
        seen = [math.inf if math.isnan(loss) else loss for loss in losses]
        return [radius, *seen, *[math.nan] * (len(self.levels) - len(seen))]

    def _trace(self, found: Sequence[_Found]) -> Trace:
        rows = [row for part in found for row in part.evaluations]
        rays = [ray for ray, part in enumerate(found) for _ in part.evaluations]
        table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 1 + len(self.levels))
        return Trace(torch.tensor(rays, dtype=torch.int64), table[:, 0], table[:, 1:])

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        """Sets eval mode, the random state and torch's threads; they are restored on the way out."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self._intra_threads)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._problem.landscape.measuring())
                for caller in self._callers:
                    if caller is not self._problem.landscape.caller:
                        stack.enter_context(caller.evaluating())
                yield
        finally:
            torch.set_num_threads(threads)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What the search of one ray left: its brackets by target, and its evaluations. [1 + L] each"""

    brackets: dict[str, NDArray[Any]]
    evaluations: list[list[float]]
