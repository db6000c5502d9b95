"""The engine of a network on a device: blocks of directions, proofs, and the search of each block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from basin_triton.compact import MAX_RAYS

from ...search import Queries, SearchSettings
from ...search.radii import Guess, Radii
from ...search.targets import Targets
from ..problem import BackendUnavailable, RayProblem
from ..scouts import scouts_of, with_scouts
from .device import current
from .directions import DeviceDirections
from .memory import kept_bytes, scratch_bytes
from .network import Network, center_losses
from .search import DeviceSearch

# A proof takes this share of the rows first, then as many again as it has taken. Reasoned from proofs on a CPU, which
# need 6 to 10 % of the rows.
_FIRST_SHARE = 32
# tf32 products are off by up to 5e-3 in a radius: narrower brackets than this say nothing.
_PROPOSAL_RTOL = 1e-2


class DeviceEngine:
    """See `Engine`.

    Args:
        problem: the problem, on a device, or on the CPU in Triton's interpreter.
        make: gives the network with its data on the device, from the numbers of examples of the levels and the bytes
            that one pass may use.
        precision: "fp16x3", "tf32x3", "fp32", or "tf32": tf32 products propose, tf32x3 products certify.
        memory_budget: bytes for what rays keep between evaluations; None for most of what is free.
    """

    def __init__(
        self,
        problem: RayProblem,
        make: Callable[[tuple[int, ...], int], Network],
        precision: str,
        memory_budget: int | None,
    ) -> None:
        self._problem = problem
        self.precision = precision
        self._scouts = scouts_of(problem.landscape.levels)
        self.levels = tuple(sorted((*problem.landscape.levels, *self._scouts)))
        scratch = scratch_bytes(problem.landscape.device, memory_budget)
        with current(self._problem.landscape.device):
            self._network = make(self.levels, scratch)
            self.center_losses = center_losses(self._network, len(self.levels), problem.landscape.device).cpu()
        self._hardest_first = torch.arange(self.levels[-1], device=problem.landscape.device)
        self._block_size = self._plan(memory_budget)

    @property
    def description(self) -> str:
        """The device, the precision and the number of directions at a time, in a few words."""
        device = self._problem.landscape.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "Triton's interpreter"
        kind = f", {self._network.kind}" if self._network.kind else ""
        return f"{name}, {self.precision}{kind}, up to {self._block_size} directions at a time"

    @property
    def step(self) -> int:
        """The number of directions that are best solved together."""
        return self._block_size

    def solve(self, indices: Sequence[int], guess: Guess, negligible: Tensor | None = None) -> Radii:
        """See `Engine.solve`."""
        with current(self._problem.landscape.device):
            return Radii.concatenate([self._solve(block, guess, negligible) for block in self._blocks(indices)])

    def refine(self, indices: Sequence[int], known: Radii, rtol: float) -> Radii:
        """See `Engine.refine`."""
        guess = Guess.generic(len(self.levels), len(self._problem.cutoffs), 1.0)  # not used: brackets are known
        everywhere = with_scouts(known, self.levels)
        parts = []
        for position, block in zip(self._blocks(range(len(indices))), self._blocks(indices), strict=True):
            with current(self._problem.landscape.device):
                search, rays = self._start(block, guess, rtol, self._problem.settings.for_refinement())
                search.restore(everywhere.take(torch.tensor(position)))
                self._run(search, rays)
                parts.append(dataclasses.replace(search.radii(), trace=search.recording.trace()))
        return Radii.concatenate(parts).only(known.levels)

    def learn_order(self, indices: Sequence[int], radii: Sequence[float]) -> None:
        """See `Engine.learn_order`."""
        device = self._problem.landscape.device
        losses = torch.empty((len(indices), self.levels[-1]), dtype=torch.float32, device=device)
        with current(self._problem.landscape.device):
            rays = DeviceDirections.of(self._problem.directions, indices, self._network.all_pieces)
            self._network.rays(rays).summed_losses(torch.tensor(radii, dtype=torch.float64, device=device), losses)
        hardness = losses.nan_to_num(nan=torch.finfo(torch.float32).max).double().sum(dim=0)
        self._hardest_first = hardness.argsort(descending=True, stable=True)

    def _solve(self, block: Sequence[int], guess: Guess, negligible: Tensor | None) -> Radii:
        settings = self._problem.settings
        search, rays = self._start(block, guess, settings.rtol)
        if negligible is not None:
            self._run(search, rays, self._prove(search, rays, negligible.reshape(-1)))
        elif self.precision == "tf32" and settings.method == "interpolate":
            self._certify(search, rays, guess)
        else:
            self._run(search, rays)
        return dataclasses.replace(search.radii(), trace=search.recording.trace())

    def _start(
        self, block: Sequence[int], guess: Guess, rtol: float, settings: SearchSettings | None = None
    ) -> tuple[DeviceSearch, DeviceDirections]:
        device = self._problem.landscape.device
        cutoffs = self._problem.cutoffs
        targets = Targets.of(self.center_losses, cutoffs, self.levels, guess, rtol, self._scouts).to(device)
        rays = DeviceDirections.of(self._problem.directions, block, self._network.all_pieces)
        return DeviceSearch(targets, settings or self._problem.settings, len(block), 1.0 / rays.inverse_norm), rays

    def _run(self, search: DeviceSearch, rays: DeviceDirections, block: _Taken | None = None) -> None:
        queries = search.ask()
        if queries is not None and block is None:
            block = _Taken(self._network, rays, queries.rays)
        while queries is not None and block is not None:
            search.tell(queries, block.losses(queries, queries.highest))
            queries = search.ask()

    def _certify(self, search: DeviceSearch, rays: DeviceDirections, guess: Guess) -> None:
        """Searches with tf32 products after the first layer, then in full precision from where that search crosses."""
        rough, _ = self._start(rays.indices, guess, max(self._problem.settings.rtol, _PROPOSAL_RTOL))
        queries = rough.ask()
        if queries is None:
            return
        block = _Taken(self._network, rays, queries.rays)
        while queries is not None:
            rough.tell(queries, block.losses(queries, queries.highest, "tf32"))
            queries = rough.ask()
        found = rough.radii()
        search.num_evaluations += rough.num_evaluations
        search.num_examples += rough.num_examples
        for target in search.targets.order.tolist():
            level, cutoff = divmod(target, len(self._problem.cutoffs))
            at, slope = (values[level, cutoff].to(rays.index.device) for values in (found.radius, found.slope))
            chosen = (torch.isfinite(at) & (at > 0)).nonzero().reshape(-1)
            if len(chosen):
                first = Queries(chosen, at[chosen], torch.full_like(chosen, level))
                search.slope[chosen, target] = slope[chosen]
                search.begin(first, target, block.losses(first, level))
        self._run(search, rays, block)

    def _prove(self, search: DeviceSearch, rays: DeviceDirections, negligible: Tensor) -> _Taken | None:
        """Tests each ray where it would begin to matter; returns the rays that are not proved to be outside there."""
        tests = []
        for target in search.targets.order.tolist():
            chosen, radius = search.candidates(target, float(negligible[target]))
            if len(chosen):
                tests.append((target, chosen, radius, *self._test(rays.take(chosen), radius, target, search)))
        if not tests:
            return None
        # Proofs stop early; rays without one are evaluated in full, in data order as every other evaluation.
        is_kept = torch.zeros(len(rays), dtype=torch.bool, device=rays.index.device)
        for _, chosen, _, is_proved, *_ in tests:
            is_kept[chosen[~is_proved]] = True
        kept = is_kept.nonzero().reshape(-1)
        block = _Taken(self._network, rays, kept) if len(kept) else None
        for target, chosen, radius, is_proved, value, num_read in tests:
            level = int(search.targets.level[target])
            left = (~is_proved).nonzero().reshape(-1)
            if block is not None and len(left):
                queries = Queries(chosen[left], radius[left], torch.full_like(left, level))
                losses = block.losses(queries, level)
                search.recording.add(queries, losses)
                value[left] = losses[:, level]
                num_read[left] += self.levels[level]
            search.settle(Queries(chosen, radius, torch.full_like(chosen, level)), target, value, num_read)
        return block

    def _test(self, rays: DeviceDirections, radius: Tensor, target: int, search: DeviceSearch) -> tuple[Tensor, ...]:
        """Whether part of the rows proves each ray outside at `radius`, its mean loss so far, and their number. [n]"""
        level = int(search.targets.level[target])
        num_examples = self.levels[level]
        order = self._hardest_first[self._hardest_first < num_examples]
        terms = self._network.terms[level]
        # A little above the cutoff, because the sum in data order may differ in its last bits.
        enough = float(search.targets.cutoff[target]) * terms * (1.0 + 1e-12)
        total = torch.zeros(len(rays), dtype=torch.float64, device=radius.device)
        is_proved = torch.zeros(len(rays), dtype=torch.bool, device=radius.device)
        num_read = torch.zeros(len(rays), dtype=torch.int64, device=radius.device)
        if not self._network.is_nonnegative:
            return is_proved, total, num_read
        first, chunk = 0, max(1, num_examples // _FIRST_SHARE)
        while first < num_examples:
            left = (~is_proved).nonzero().reshape(-1)
            if len(left) == 0:
                break
            rows = order[first : first + chunk]
            total[left] += self._network.rays(rays.take(left), rows).summed_losses(radius[left])
            num_read[left] += len(rows)
            is_proved = ~(total <= enough)
            first += len(rows)
            chunk = first
        return is_proved, total / terms, num_read

    def _plan(self, memory_budget: int | None) -> int:
        """The number of directions that fit into the memory together."""
        device, needed = self._problem.landscape.device, self._network.bytes_per_ray()
        allowed = kept_bytes(device, memory_budget)
        if needed > allowed:
            raise BackendUnavailable(
                f"one direction needs {needed / 2**30:.2f} GiB on {device} and {allowed / 2**30:.2f} GiB may be "
                "used: measure fewer examples, free memory, or choose backend='reference'."
            )
        return min(allowed // needed, MAX_RAYS, self._network.most_rays)

    def _blocks(self, indices: Sequence[int]) -> list[Sequence[int]]:
        return [indices[i : i + self._block_size] for i in range(0, len(indices), self._block_size)]


class _Taken:
    """The rays of a search that are evaluated, with what a network keeps of them; settled rays have none."""

    def __init__(self, network: Network, rays: DeviceDirections, taken: Tensor) -> None:
        self._block = network.rays(rays.take(taken))
        self._place = torch.full((len(rays),), -1, dtype=torch.int32, device=taken.device)
        self._place[taken] = torch.arange(len(taken), dtype=torch.int32, device=taken.device)
        self._radius = torch.zeros(len(taken), dtype=torch.float64, device=taken.device)
        self._level = torch.zeros(len(taken), dtype=torch.int64, device=taken.device)

    def losses(self, queries: Queries, highest: int, precision: str | None = None) -> Tensor:
        """See `Rays.losses`. [A, highest + 1]"""
        active = self._place[queries.rays]
        self._radius[active.long()], self._level[active.long()] = queries.radius, queries.level
        return self._block.losses(active, self._radius, self._level, highest, precision)
