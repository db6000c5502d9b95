"""The first directions of a search, and what they teach all others."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ..backends import Engine, RayProblem
from ..search.radii import NUM_SPREAD, NUM_SPREAD_FEW, Guess, Radii, Status
from .blocks import Order
from .first_radius import first_radius
from .kept import KeptRays

# The first directions of a seed are solved from a generic guess, and all others from what these show. The guess is a
# function of the problem alone, so blocks may run anywhere, in any order, and give the same bytes.
NUM_FIRST = 4
# With resolve="decisive", each stage is solved as far as the ones before it leave open whether its directions matter,
# and all others as far as the last one leaves it open: 64 are likely to know a length that few of 500 exceed. Where the
# verdict needs a distribution, NUM_SPREAD directions are solved in full.
STAGES = (NUM_FIRST, NUM_SPREAD_FEW, NUM_SPREAD, 64)
# How far the longest of a few directions may be above the median, in units of what D directions resolve. Beyond that
# the number will not be called trustworthy, whatever more of them show.
_HOPELESS_SPREAD = 10.0
# All rays that are skipped together are worth less than this, in nats.
_SKIPPED_NATS = 1e-6


class Pilot:
    """The first directions, each stage of which is solved when it is first asked for.

    Args:
        problem: what is searched.
        engine: the problem made ready on its backend.
        kept: where solved rays are kept, and taken from.
        center_loss: loss at the center on the largest level.

    Attributes:
        order: what the engine was told to learn the order of the examples from; None before `radii` was asked for.
    """

    def __init__(self, problem: RayProblem, engine: Engine, kept: KeptRays, center_loss: float) -> None:
        self._problem, self._engine, self._kept, self._center_loss = problem, engine, kept, center_loss
        self.order: Order | None = None

    @property
    def generic_guess(self) -> Guess:
        """Where the first rays look first: where a few examples cross the cutoff along the first of them. [L, C]"""
        return Guess.generic(len(self._engine.levels), len(self._problem.cutoffs), self.scan[0])

    @functools.cached_property
    def scan(self) -> tuple[float, int]:
        """That radius, and how many evaluations it took to find."""
        if self._problem.settings.method == "grid":  # a walk along a grid needs no guess
            return 1.0, 0
        return first_radius(self._problem, self._center_loss)

    @functools.cached_property
    def first(self) -> Radii:
        """The first four directions, from the generic guess. [L, C, 4]"""
        count = min(NUM_FIRST, self._problem.directions.count)

        def solve() -> Radii:
            found = self._engine.solve(range(count), self.generic_guess)
            found.num_evaluations[0] += self.scan[1]  # it went along this ray
            found.num_full_evaluations[0] += self.scan[1]
            return found

        return self._kept.once("first", solve)

    @functools.cached_property
    def guess(self) -> Guess:
        """The guess that the first directions give for all others. [L, C]"""
        return Guess.learned(self.first, self.generic_guess)

    @property
    def size(self) -> int:
        """The number of directions of all stages, where there are so many."""
        return STAGES[-1]

    @functools.cached_property
    def radii(self) -> Radii:
        """The directions of all stages; the longest says which others matter. [L, C, 64]"""
        pilot, count = self.first, self._problem.directions.count
        for stop in STAGES[1:]:
            if len(pilot) < count:
                pilot = self._kept.once(f"first {stop}", functools.partial(self._extended, pilot, min(stop, count)))
        return pilot

    @functools.cached_property
    def negligible(self) -> Tensor:
        """For each level and cutoff, the radius below which a ray after the stages cannot matter. [L, C]"""
        return self._negligible(self.radii)

    def _extended(self, pilot: Radii, stop: int) -> Radii:
        """The same directions and those up to `stop`."""
        negligible = self._negligible(pilot) if len(pilot) > NUM_FIRST else None
        rest = self._engine.solve(range(len(pilot), stop), self.guess, negligible)
        return Radii.concatenate([pilot, rest])

    def _negligible(self, pilot: Radii) -> Tensor:
        """What these directions say of the next ones; the engine learns its order from them. [L, C]"""
        directions = self._problem.directions
        if self.order is None:
            self.order = self._order_of(pilot.between(0, min(NUM_SPREAD_FEW, len(pilot))))
            if self.order is not None:
                self._engine.learn_order(list(self.order.rays), list(self.order.radii))
        nats = math.log(directions.count / _SKIPPED_NATS)
        # D rays of radius longest x exp(-nats / P) weigh together _SKIPPED_NATS of the longest one.
        crossed = torch.where(pilot.is_status(Status.CROSSED), pilot.lower, 0.0)
        # An unbounded ray outweighs every bounded one, or is dropped: then no ray is known to be negligible.
        may_skip = ~pilot.is_status(Status.CENSORED).any(dim=-1)
        if len(pilot) < NUM_SPREAD:
            spread = directions.space.dim * (crossed.amax(dim=-1) / crossed.median(dim=-1).values).log()
            may_skip &= spread > _HOPELESS_SPREAD * math.sqrt(2.0 * math.log(directions.count))
        may_skip &= torch.tensor([level in self._problem.landscape.levels for level in pilot.levels])[:, None]
        return torch.where(may_skip, crossed.amax(dim=-1) * math.exp(-nats / directions.space.dim), 0.0)

    @staticmethod
    def _order_of(pilot: Radii) -> Order | None:
        """A few rays of the pilot, at the largest cutoff and level."""
        column = max(range(len(pilot.cutoffs)), key=lambda c: pilot.cutoffs[c])
        last = pilot.at(pilot.levels[-1], pilot.cutoffs[column])
        rays = last.is_status(Status.CROSSED).nonzero().reshape(-1)[:NUM_FIRST].tolist()
        return Order(tuple(rays), tuple(last.upper[rays].tolist())) if rays else None
