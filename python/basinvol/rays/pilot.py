"""The first directions of a search, and what they teach all others."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ..backends import Engine, RayProblem
from ..search.radii import NUM_PILOT, Guess, Radii, Status
from .blocks import Order
from .first_radius import first_radius
from .kept import KeptRays

# The first directions of a seed are solved from a generic guess, and all others from what these show. The guess is a
# function of the problem alone, so blocks may run anywhere, in any order, and give the same bytes.
NUM_FIRST = 4
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

    @functools.cached_property
    def radii(self) -> Radii:
        """The first 32 directions, whose longest says which others matter; the engine learns its order from them."""
        count = min(NUM_PILOT, self._problem.directions.count)

        def solve() -> Radii:
            rest = [self._engine.solve(range(NUM_FIRST, count), self.guess)] if count > NUM_FIRST else []
            return Radii.concatenate([self.first, *rest])

        pilot = self._kept.once("pilot", solve)
        self.order = self._order_of(pilot)
        if self.order is not None:
            self._engine.learn_order(list(self.order.rays), list(self.order.radii))
        return pilot

    @functools.cached_property
    def negligible(self) -> Tensor:
        """For each level and cutoff, the radius below which a ray cannot matter. [L, C]"""
        pilot, directions = self.radii, self._problem.directions
        nats = math.log(directions.count / _SKIPPED_NATS)
        # D rays of radius longest x exp(-nats / P) weigh together _SKIPPED_NATS of the longest one.
        longest = torch.where(pilot.is_status(Status.CROSSED), pilot.lower, 0.0).amax(dim=-1)
        # An unbounded ray outweighs every bounded one, or is dropped: then no ray is known to be negligible.
        is_bounded = ~pilot.is_status(Status.CENSORED).any(dim=-1)
        wanted = torch.tensor([level in self._problem.landscape.levels for level in pilot.levels])
        return torch.where(is_bounded & wanted[:, None], longest * math.exp(-nats / directions.space.dim), 0.0)

    @staticmethod
    def _order_of(pilot: Radii) -> Order | None:
        """A few rays of the pilot, at the largest cutoff and level."""
        column = max(range(len(pilot.cutoffs)), key=lambda c: pilot.cutoffs[c])
        last = pilot.at(pilot.levels[-1], pilot.cutoffs[column])
        rays = last.is_status(Status.CROSSED).nonzero().reshape(-1)[:NUM_FIRST].tolist()
        return Order(tuple(rays), tuple(last.upper[rays].tolist())) if rays else None
