"""A table of every loss that a search looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """The evaluations of D rays, ray by ray.

    Attributes:
        ray: position of the ray in its `Radii`. [E] int64, not decreasing
        radius: where the loss was evaluated. [E] float64
        losses: mean loss of every level; NaN where it was not evaluated, infinity where it was not a number. [E, L]
    """

    ray: Tensor
    radius: Tensor
    losses: Tensor

    def take(self, rays: Tensor) -> Trace:
        """The evaluations of some rays, which are numbered anew by their place in `rays`. [n] int64"""
        highest = max(int(self.ray.max()) if len(self.ray) else 0, int(rays.max()) if len(rays) else 0)
        place = torch.full((highest + 1,), -1, dtype=torch.int64)
        place[rays] = torch.arange(len(rays))
        renumbered = place[self.ray]
        kept = renumbered >= 0
        return Trace(renumbered[kept], self.radius[kept], self.losses[kept])._sorted()

    def at_rays(self, rays: Tensor) -> Trace:
        """The same evaluations where ray i becomes rays[i], the inverse of `take`."""
        return Trace(rays[self.ray], self.radius, self.losses)

    def without(self, rays: Tensor) -> Trace:
        """All evaluations but those of the rays at these positions. [n] int64"""
        kept = ~torch.isin(self.ray, rays)
        return Trace(self.ray[kept], self.radius[kept], self.losses[kept])

    def only(self, levels: Sequence[int]) -> Trace:
        """The losses of some levels, by position; evaluations that saw none of them are left out."""
        losses = self.losses[:, list(levels)]
        seen = ~torch.isnan(losses).all(dim=1)
        return Trace(self.ray[seen], self.radius[seen], losses[seen])

    @classmethod
    def empty(cls, num_levels: int) -> Trace:
        """A trace of `num_levels` levels without evaluations."""
        none = torch.empty(0, dtype=torch.float64)
        return cls(torch.empty(0, dtype=torch.int64), none, none.new_empty((0, num_levels)))

    @staticmethod
    def joined(parts: Sequence[Trace]) -> Trace:
        """The evaluations of the same rays from several searches."""
        return Trace(*(torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS))._sorted()

    def _sorted(self) -> Trace:
        order = torch.argsort(self.ray, stable=True)  # stable: evaluations of a ray stay in the order of the search
        return Trace(self.ray[order], self.radius[order], self.losses[order])


_FIELDS = ("ray", "radius", "losses")
