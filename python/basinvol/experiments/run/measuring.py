"""Radii of one trained model, pass by pass: the first pass works in blocks, later ones start from what is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...estimators.paper import GENERATOR, published
from ...model.directions import Directions
from ...model.landscape import Landscape
from ...model.parameters import ParameterSpace
from ...rays import RaySolver, SearchOptions
from ...search import RUNNING
from ...search.radii import DEFAULT_SLOPE, Radii, Status
from ...search.recording import known_radii
from ...search.trace import Trace
from ..data.examples import Split
from ..describe.description import Experiment
from ..records.blocks import read_block, write_block
from ..records.run_directory import RunDirectory
from .execution import Execution
from .training import loss_function

BLOCK = 50  # directions in a Parquet part; a kill loses the work on one part at most


def block_starts(experiment: Experiment) -> range:
    """The first direction of every block."""
    return range(0, experiment.num_directions, BLOCK)


class Measurement:
    """The search for the radii of one model, which goes on from what is on disk.

    Args:
        experiment: what the model belongs to.
        directory: of the run.
        execution: how to run it.
        name: of the model, in file names.
        network: the model.
        split: the examples of its seed.
    """

    def __init__(
        self,
        experiment: Experiment,
        directory: RunDirectory,
        execution: Execution,
        name: str,
        network: nn.Module,
        split: Split,
    ) -> None:
        self.experiment = experiment
        self.directory = directory
        self.name = name
        self.space = ParameterSpace.of(network)
        self._execution = execution
        self._network = network
        self._split = split

    def solver(self, cutoffs: tuple[float, ...]) -> RaySolver:
        """A solver for these cutoffs, with the experiment's method."""
        experiment, execution, sizes = self.experiment, self._execution, self.experiment.landscape_sizes
        examples = self._split.inputs[: sizes[-1]], self._split.targets[: sizes[-1]]
        options = SearchOptions(resolve=execution.resolve, backend=execution.backend, num_threads=execution.num_threads)
        directions = Directions(self.space, experiment.num_directions, seed=0)
        if experiment.method == "paper":
            options = published(options, *experiment.grid)
            directions = replace(directions, generator=GENERATOR)
        landscape = Landscape(self._network, loss_function(experiment.loss), examples, sizes, device=execution.device)
        return RaySolver(landscape, directions, cutoffs, scaling=experiment.scaling, options=options)

    def first_pass(self, solver: RaySolver) -> Radii:
        """The radii at the cutoffs that the run began with. [L, C, D]"""
        experiment, parts = self.experiment, []
        with self._execution.bar(experiment.num_directions, f"measure {self.name}", "dir") as bar:
            for block in range(len(block_starts(experiment))):
                path = self.measure_block(solver, block, bar.update)
                parts.append(read_block(path, experiment.landscape_sizes, experiment.cutoffs)[0])
        return self._refined(solver, Radii.concatenate(parts))

    def measure_block(self, solver: RaySolver, block: int, on_done: Callable[[int], object] = lambda _: None) -> Path:
        """Searches one block of directions unless its file is there, and returns the file.

        Args:
            solver: for the cutoffs that the run began with.
            block: number of the block.
            on_done: called with the number of directions finished since the last call.
        """
        start = BLOCK * block
        stop = min(start + BLOCK, self.experiment.num_directions)
        path = self.directory.block_path(self.name, block)
        if path.exists():
            on_done(stop - start)
            return path
        with self.directory.timed(f"radii/{path.stem}"):
            radii = solver.solve(start, stop, on_done=on_done)
            write_block(path, radii, range(start, stop), self.experiment.landscape_levels)
        return path

    def _refined(self, solver: RaySolver, radii: Radii) -> Radii:
        """The radii with those that decide a volume narrowed further; they are known only when all blocks are done."""
        path = self.directory.refined_path(self.name)
        if not path.exists():
            with self.directory.timed(f"radii/{path.stem}"):
                refined = solver.refine(radii)
                changed = (refined.num_evaluations != radii.num_evaluations).nonzero().reshape(-1)
                write_block(path, refined.take(changed), changed.tolist(), self.experiment.landscape_levels)
        refined, rays = read_block(path, self.experiment.landscape_sizes, self.experiment.cutoffs)
        return radii.replaced(torch.tensor(rays, dtype=torch.int64), refined)

    def later_pass(self, number: int, solver: RaySolver, earlier: Callable[[], list[Radii]]) -> Radii:
        """The radii at cutoffs that were added, from the brackets that earlier passes know. [L, C, D]

        `num_evaluations` counts those of this pass alone.

        Args:
            number: of the pass, from 1 on.
            solver: for the cutoffs of this pass.
            earlier: gives the radii of all earlier passes, if they are needed.
        """
        path, cutoffs = self.directory.pass_path(self.name, number), solver.problem.cutoffs
        if not path.exists():
            with self.directory.timed(f"radii/{path.stem}"):
                radii = solver.refine(self._continued(solver, earlier()))
                directions = range(self.experiment.num_directions)
                write_block(path, radii, directions, self.experiment.landscape_levels)
        return read_block(path, self.experiment.landscape_sizes, cutoffs)[0]

    def _continued(self, solver: RaySolver, earlier: list[Radii]) -> Radii:
        """The radii of a search that begins at what earlier passes know, where they know enough."""
        count, kept = self.experiment.num_directions, [radii.trace for radii in earlier if radii.trace is not None]
        # Rays that were skipped as too short at one cutoff may matter at another: nothing is known of them.
        if self._execution.resolve != "all" or len(kept) < len(earlier):
            return solver.solve(0, count)
        is_grid, rtol = solver.problem.settings.method == "grid", solver.problem.settings.rtol
        known = known_radii(
            Trace.joined(kept),
            count,
            solver.center_losses,
            self.experiment.landscape_sizes,
            solver.problem.cutoffs,
            math.inf if is_grid else rtol,
            _slopes(earlier[0], solver.problem.cutoffs),
        )
        if is_grid and bool((known.status_code == RUNNING).any()):  # a grid is walked from its beginning
            return solver.solve(0, count)
        return solver.engine.refine(range(count), known, rtol)


def _slopes(known: Radii, cutoffs: tuple[float, ...]) -> Tensor:
    """The slope of every ray at the nearest earlier cutoff; where it did not cross, that of a quadratic. [L, C, D]"""
    nearest = [min(range(len(known.cutoffs)), key=lambda c: abs(known.cutoffs[c] - cutoff)) for cutoff in cutoffs]
    slopes = torch.where(known.is_status(Status.CROSSED), known.slope, DEFAULT_SLOPE)
    return slopes[:, nearest]
