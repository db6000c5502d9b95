"""The radius search with its state on a device: telling and asking is one kernel, and one small copy to the host."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from basin_triton.search_step import Plan, State, search_step

from ...search import Queries, RaySearch, SearchSettings
from ...search.recording import Recording
from ...search.targets import Targets


@dataclass(frozen=True)
class DeviceQueries(Queries):
    """Queries whose highest level is known to the host."""

    highest: int


class DeviceSearch(RaySearch):
    """The search of `RaySearch` with `ask` and `tell` in basin_triton's kernel: the same numbers, bit for bit.

    Args:
        targets: what is looked for, with its tensors on the device.
        settings: how to search.
        num_rays: D.
        unit: length of each ray's grid unit, for "grid" only; default 1. [D] float64
    """

    def __init__(self, targets: Targets, settings: SearchSettings, num_rays: int, unit: Tensor | None = None) -> None:
        super().__init__(targets, settings, num_rays, unit)
        device = targets.center.device
        self._radius = torch.zeros(num_rays, dtype=torch.float64, device=device)
        self._level = torch.zeros(num_rays, dtype=torch.int64, device=device)
        self._active = torch.arange(num_rays, dtype=torch.int32, device=device)
        self._losses: Tensor | None = None
        self.recording = Recording(len(targets.levels))
        self._plan = Plan(
            level=targets.level,
            relative=targets.relative,
            cutoff=targets.cutoff,
            center=targets.center,
            guess_radius=targets.guess_radius,
            guess_slope=targets.guess_slope,
            rtol=targets.rtol,
            is_wanted=targets.is_wanted,
            level_examples=targets.examples,
            order=targets.order,
            method=settings.method,
            radius_max=torch.tensor([settings.radius_max], dtype=torch.float64, device=device),
            max_steps=settings.max_steps,
            grid=self._grid,
        )

    def ask(self) -> DeviceQueries | None:
        """Takes the losses that were told last, then returns what `RaySearch.ask` returns."""
        active, summary = search_step(self._state(), self._plan, self._active, self._losses, self._radius, self._level)
        count, highest = summary.tolist()  # the one copy to the host in a pass
        self._active, self._losses = active[:count], None
        if count == 0:
            return None
        rays = self._active.long()
        return DeviceQueries(rays, self._radius[rays], self._level[rays], highest)

    def tell(self, queries: Queries, losses: Tensor) -> None:
        """Keeps the losses [A, L] of the rays asked for last; the next `ask` takes them."""
        self.recording.add(queries, losses)
        self._losses = losses

    def begin(self, queries: Queries, target: int, losses: Tensor) -> None:
        """Takes the first evaluation of rays of which nothing is known, as one side of their brackets.

        Args:
            queries: the n rays and their radii.
            target: index of the target.
            losses: the losses there. [n, L] float64
        """
        self.recording.add(queries, losses)
        rays, radius, value = queries.rays, queries.radius, losses[:, self.targets.level[target]]
        self.num_evaluations[rays] += 1
        self.num_examples[rays] += self._sizes[queries.level]
        is_inside = value <= self.targets.cutoff[target]
        inside, outside = rays[is_inside], rays[~is_inside]
        self.lower[inside, target], self.value_lower[inside, target] = radius[is_inside], value[is_inside]
        self.upper[outside, target], self.value_upper[outside, target] = radius[~is_inside], value[~is_inside]

    def _state(self) -> State:
        return State(
            lower=self.lower,
            upper=self.upper,
            value_lower=self.value_lower,
            value_upper=self.value_upper,
            replaced=self.replaced,
            value_replaced=self.value_replaced,
            slope=self.slope,
            steps=self.steps,
            width=self.width,
            stalls=self.stalls,
            status=self.status,
            num_evaluations=self.num_evaluations,
            num_examples=self.num_examples,
            grid_index=self._grid_index,
            unit=self._unit,
        )
