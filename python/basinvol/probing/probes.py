"""Probes for what random directions do not show: parameters without effect, unbounded directions, symmetries.

Every probe evaluates the loss elsewhere than on the way to a radius; the landscape counts these evaluations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..model.landscape import Landscape
from ..model.parameters import ParameterSpace

# A move that changes nothing is tried this many times farther than where a typical ray leaves the basin.
_FAR = 1000.0
# Rounding may change the loss by this share of the way to the cutoff.
_SAME = 1e-3
_NUM_GRADIENTS = 3  # points, the center included, at which dead parameters must have a gradient of zero
_MOST_DOUBLINGS, _CROSSING_RTOL = 30, 0.01  # of a search along a single direction
_NUM_BETWEEN = 24  # steps from the center to a point, at each of which a gap is looked for
# Eigenvalues of a layer's Gram matrix below this share of the largest are rounding of float32 inputs.
_RANK_RTOL = 1e-11
_MAX_COLUMNS = 4096  # eigenvalues of a larger Gram matrix take longer than the volume


@dataclass(frozen=True)
class Unbounded:
    """Unbounded directions and symmetries that were found.

    Attributes:
        sentences: one for each finding.
        is_star_infinite: whether the part of the basin that is visible from the center has infinite Lebesgue volume.
    """

    sentences: tuple[str, ...] = ()
    is_star_infinite: bool = False

    def and_(self, other: Unbounded) -> Unbounded:
        """These findings, followed by those of another probe."""
        return Unbounded(self.sentences + other.sentences, self.is_star_infinite or other.is_star_infinite)


class Prober:
    """A landscape, its center and some of its rays, with the loss at single points.

    Args:
        landscape: the loss; it counts every evaluation.
        space: which parameters are perturbed.
        center, scale: see `RayProblem`. [P]
        directions: unit vectors of some rays that crossed. [k, P]
        radius: where they crossed. [k]
        cutoff: loss that bounds the basin.
    """

    def __init__(
        self,
        landscape: Landscape,
        space: ParameterSpace,
        center: Tensor,
        scale: Tensor,
        directions: Tensor,
        radius: Tensor,
        cutoff: float,
    ) -> None:
        self.landscape, self.space, self.cutoff = landscape, space, cutoff
        self.center, self.scale = center, scale.to(center)
        self.directions, self.radius = directions.to(center), radius
        self.center_loss = self.loss(center)
        self._generator = torch.Generator().manual_seed(0)

    def loss(self, vector: Tensor) -> float:
        """The mean loss on the largest level at a parameter vector [P]."""
        return float(self.landscape.losses(self.space.unflatten(vector.to(self.center)))[-1])

    def is_same(self, vector: Tensor, reference: float | None = None) -> bool:
        """Whether the loss at `vector` [P] is that of the center, or `reference`, but for rounding."""
        reference = self.center_loss if reference is None else reference
        return abs(self.loss(vector) - reference) <= _SAME * (self.cutoff - self.center_loss)

    def far_move(self) -> Tensor:
        """A move of random signs times a step far beyond the basin, in parameters. [P]"""
        typical = float(self.radius.median()) if len(self.radius) else 1.0
        step = _FAR * typical / math.sqrt(self.space.dim)
        signs = torch.randint(0, 2, (self.space.dim,), generator=self._generator) * 2.0 - 1.0
        return step * signs.to(self.center) * self.scale

    def boundary(self, ray: int) -> Tensor:
        """The point where a ray leaves the basin. [P]"""
        return self.center + float(self.radius[ray]) * self.directions[ray] * self.scale

    def crossing(self, unit: Tensor) -> float:
        """Where a direction in scaled coordinates leaves the basin, within a percent; the last radius tried at most."""
        low, high = 0.0, float(self.radius.median()) if len(self.radius) else 1.0
        move = self.scale * unit.to(self.center)
        for _ in range(_MOST_DOUBLINGS):
            if not self.loss(self.center + high * move) <= self.cutoff:
                break
            low, high = high, 1.5 * high
        while high - low > _CROSSING_RTOL * high:
            middle = 0.5 * (low + high)
            is_inside = self.loss(self.center + middle * move) <= self.cutoff
            low, high = (middle, high) if is_inside else (low, middle)
        return low

    def sees(self, unit: Tensor, distance: float) -> bool:
        """Whether the points between the center and a distance in a direction are inside, looked at evenly."""
        move = distance / _NUM_BETWEEN * self.scale * unit.to(self.center)
        return all(self.loss(self.center + step * move) <= self.cutoff for step in range(1, _NUM_BETWEEN))

    def find_unbounded(self) -> Unbounded:
        """Finds dead parameters, inputs of deficient rank, and symmetries that only scale weights."""
        dead, found = self._dead_parameters()
        return found.and_(self._deficient_inputs(dead)).and_(self._scalings(dead))

    def _dead_parameters(self) -> tuple[Tensor, Unbounded]:
        """Finds parameters with zero gradient at the center and on the boundary that can move far on their own."""
        points = [self.center, *(self.boundary(ray) for ray in range(min(_NUM_GRADIENTS - 1, len(self.radius))))]
        is_zero = self.scale != 0
        for point in points:
            gradients = self.landscape.gradient(self.space.unflatten(point))[1]
            is_zero &= torch.cat([gradients[name].reshape(-1) for name in self.space.names]) == 0
        move, last = self.far_move(), points[-1]
        reference = self.loss(last)
        dead, sentences = torch.zeros_like(is_zero), []
        for name, part in self.parts():
            candidates = torch.zeros_like(is_zero)
            candidates[part] = is_zero[part]
            moved = torch.where(candidates, move, 0.0)
            count = int(candidates.sum())
            # At the center and on the boundary: units that no example reaches at one may be active at the other.
            if count and self.is_same(self.center + moved) and self.is_same(last + moved, reference):
                dead |= candidates
                sentences.append(
                    f"{count} of {candidates[part].numel()} parameters of {name} have no effect on the loss"
                )
        return dead, Unbounded(tuple(sentences), is_star_infinite=bool(sentences))

    def _deficient_inputs(self, dead: Tensor) -> Unbounded:
        """Finds linear layers whose inputs span fewer dimensions than their weights have columns.

        A move of the weights across that span changes no output. If the inputs depend on no parameter, as in a first
        layer, the whole basin is a cylinder along it.
        """
        grams = self._grams(self.center)
        elsewhere = self._grams(self.boundary(0)) if len(self.radius) else {}
        sentences, is_infinite = [], False
        for name, (gram, num_outputs) in grams.items():
            values, vectors = torch.linalg.eigh(gram)
            null = values <= _RANK_RTOL * values[-1]
            columns = len(gram)
            count = int(null.sum())
            # Columns that see only zeros are dead parameters, and reported as such.
            part = dict(self.parts())[f"{name}.weight"]
            if count == 0 or bool(dead[part].any()):
                continue
            move = torch.zeros_like(self.center)
            mixture = vectors[:, null] @ torch.randn(count, num_outputs, generator=self._generator, dtype=torch.float64)
            step = float(self.far_move()[part].abs().mean())
            num_weights = len(move[part])
            move[part] = step * mixture[: num_weights // num_outputs].T.reshape(-1).to(move)
            if columns * num_outputs > num_weights:
                move[dict(self.parts())[f"{name}.bias"]] = step * mixture[-1].to(move)
            if not self.is_same(self.center + move):
                continue
            # Inputs that are the same on the boundary are taken to depend on no parameter.
            is_fixed = name in elsewhere and torch.equal(elsewhere[name][0], gram)
            is_infinite |= is_fixed
            sentences.append(
                f"the inputs of {name} span {columns - count} of {columns} dimensions, so that {count * num_outputs} "
                f"directions change no output{'' if is_fixed else ' at the center'}"
            )
        return Unbounded(tuple(sentences), is_infinite)

    def _grams(self, vector: Tensor) -> dict[str, tuple[Tensor, int]]:
        """The Gram matrix of the inputs, with a one for the bias, and the number of outputs of each linear layer."""
        offered = {
            name: module
            for name, module in self.landscape.model.named_modules()
            if type(module) is nn.Linear
            and f"{name}.weight" in self.space.names
            and module.in_features < _MAX_COLUMNS
            and (module.bias is None or f"{name}.bias" in self.space.names)
        }
        grams: dict[str, Tensor] = {}

        def collector(name: str, has_bias: bool) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def collect(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
                rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1) if has_bias else rows
                grams[name] = grams.get(name, 0.0) + (rows.T @ rows).cpu()

            return collect

        handles = [m.register_forward_pre_hook(collector(n, m.bias is not None)) for n, m in offered.items()]
        try:
            self.loss(vector)
        finally:
            for handle in handles:
                handle.remove()
        return {name: (gram, offered[name].out_features) for name, gram in grams.items()}

    def _scalings(self, dead: Tensor) -> Unbounded:
        """Finds weights that can be scaled alone, and pairs of layers whose units can be scaled by (a, 1/a)."""
        base = self.boundary(0) if len(self.radius) else self.center
        named, parts = self.space.unflatten(base), dict(self.parts())
        reference = self.loss(base)
        weights = [name for name in self.space.names if named[name].ndim >= 2 and not bool(dead[parts[name]].all())]
        sentences, is_infinite = [], False
        free = set()
        for name in weights:
            if self.is_same(self._scaled(named, {name: 2.0}), reference):
                free.add(name)
                sentences.append(f"{name} can be scaled by any positive factor")
            elif self._can_grow(name):
                sentences.append(f"{name} can grow a thousandfold inside the basin")
            else:
                continue
            is_infinite = True
        for first, second in itertools.pairwise(weights):
            units = named[first].shape[0]
            if free & {first, second} or named[second].shape[1] != units:
                continue
            if self.is_same(self._scaled(named, _unit_factors(named, first, second)), reference):
                sentences.append(
                    f"{units} units between {first} and {second} can be scaled by (a, 1/a); this makes the set of all "
                    "such minima infinite, not the part visible from the center"
                )
        return Unbounded(tuple(sentences), is_infinite)

    def _can_grow(self, name: str) -> bool:
        """Whether the loss at the center stays below the cutoff as a tensor grows, as it does on separated examples."""
        named = self.space.unflatten(self.center)
        for factor in (10.0, _FAR):
            if not self.loss(self._scaled(named, {name: factor})) <= self.cutoff:
                return False
        return bool((named[name] != 0).any())

    def _scaled(self, named: Mapping[str, Tensor], factors: Mapping[str, Tensor | float]) -> Tensor:
        return torch.cat([(named[name] * factors.get(name, 1.0)).reshape(-1) for name in self.space.names])

    def parts(self) -> list[tuple[str, slice]]:
        """The name of each parameter of the space, and where it lies in the flat vector."""
        space = self.space
        return [
            (name, slice(start, start + size))
            for name, start, size in zip(space.names, space.offsets, space.sizes, strict=True)
        ]


def _unit_factors(named: Mapping[str, Tensor], first: str, second: str) -> dict[str, Tensor | float]:
    """Factors a for the weights into each unit and 1/a for those out of it; powers of two, so that nothing rounds."""
    units = named[first].shape[0]
    factor = torch.where(torch.arange(units) % 2 == 0, 2.0, 0.5).to(named[first])
    factors: dict[str, Tensor | float] = {
        first: factor.reshape(-1, *[1] * (named[first].ndim - 1)),
        second: 1.0 / factor.reshape(1, -1, *[1] * (named[second].ndim - 2)),
    }
    bias = first.removesuffix("weight") + "bias"
    if bias in named and named[bias].shape == (units,):
        factors[bias] = factor
    return factors
