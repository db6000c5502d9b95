"""Random directions, known by (seed, index) alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.arguments import one_of, whole_number
from .default_device import cpu_by_default
from .parameters import ParameterSpace
from .philox import philox_normals

GENERATORS = ("philox", "legacy")
_MAX_INDEX = 2**32  # the direction is one 32-bit word of the generator's counter


@dataclass(frozen=True)
class Directions:
    """A set of `count` unit vectors, uniform on the sphere of the chosen (scaled) coordinates.

    Direction i is a function of `seed` and i only: the same on every backend, device, block size and machine, and the
    first 100 of 500 are the 100 of 100. A perturbed network is center + radius x scale x direction.

    >>> space = ParameterSpace.of(torch.nn.Linear(4, 3))
    >>> directions = Directions(space, count=500, seed=0)
    >>> directions.materialize([0, 7]).shape
    torch.Size([2, 15])
    >>> torch.equal(directions.materialize([7]), Directions(space, 8).materialize([7]))
    True

    Args:
        space: the coordinates.
        count: D, the number of directions, at most 2^32.
        seed: the seed, at least 0 and below 2^64.
        generator: "philox", the library's own; "legacy", the published protocol of Fan, Sandlund and Ko (2025):
            direction i is drawn from torch's generator after `manual_seed(i + 1)`, tensor by tensor in model order,
            and `seed` is not used.
    """

    space: ParameterSpace
    count: int
    seed: int = 0
    generator: str = "philox"

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", whole_number("num_directions", self.count))
        object.__setattr__(self, "seed", whole_number("seed", self.seed))
        if self.count < 1 or self.count > _MAX_INDEX:
            raise ValueError(f"`num_directions` must be between 1 and 2^32, got {self.count}.")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"`seed` must be between 0 and 2^64 - 1, got {self.seed}.")
        one_of("generator", self.generator, GENERATORS)

    @property
    def kind(self) -> str:
        """How the directions are made: a backend that makes them itself refuses kinds that it does not know."""
        return self.generator if type(self) is Directions else type(self).__name__

    @cpu_by_default
    def normals(self, index: int, device: torch.device | str = "cpu") -> Tensor:
        """The Gaussian vector behind a direction, not normalized. [P] float32"""
        if not 0 <= index < self.count:
            raise ValueError(f"direction index {index} is not between 0 and {self.count - 1}.")
        if self.generator == "legacy":
            # Drawn on the CPU whatever the device: torch's generators differ between devices.
            legacy = torch.Generator().manual_seed(index + 1)
            draws = [
                torch.randn(shape, generator=legacy, dtype=torch.float32).reshape(-1) for shape in self.space.shapes
            ]
            return torch.cat(draws).to(device)
        sizes = enumerate(self.space.sizes)
        return torch.cat([philox_normals(self.seed, index, tensor, size, device) for tensor, size in sizes])

    @cpu_by_default
    def norms(self, indices: Iterable[int]) -> Tensor:
        """Euclidean norms of the Gaussian vectors, about sqrt(P). [len(indices)] float64"""
        return torch.stack([_norm(self.normals(index)) for index in indices])

    @cpu_by_default
    def materialize(
        self, indices: Iterable[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """The directions as vectors of unit norm. [len(indices), P]

        Args:
            indices: which directions, each from 0 to `count` - 1.
            dtype: dtype of the vectors.
            device: where the vectors are made.
        """
        rows = []
        for index in indices:
            normals = self.normals(index, device)
            # In float64: a relative error e of the norm would move every radius by e, and log V by P e nats.
            rows.append((normals.double() / _norm(normals)).to(dtype))
        return torch.stack(rows) if rows else torch.empty((0, self.space.dim), dtype=dtype, device=device)


def _norm(normals: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(normals, dtype=torch.float64)
    return norm
