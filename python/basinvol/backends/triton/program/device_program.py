"""A program and its data on a device: what is made once, whatever the rays."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from basin_triton import Pieces, materialize
from basin_triton.compact import MAX_RAYS

from ...problem import BackendUnavailable, RayProblem
from ...program.program import Program
from ..directions import DeviceDirections
from ..memory import kept_bytes
from ..place import Place
from .layout import Layout
from .workspace import Workspace

# Fewer examples of each direction in one launch than this leave tiles of products empty.
_LEAST_ROWS = 64
_MOST_ELEMENTS = 2**31 - 1  # of a value in one direction, which kernels count in 32 bits


class DeviceProgram:
    """The network and its examples, ready for any radius along any ray.

    Args:
        problem: the landscape, directions, center and scale.
        program: the network as instructions, with its data.
        precision: precision of all products, one of `basin_triton.linear`.
        memory_budget: bytes for what rays keep between evaluations; None for most of what is free.
        levels: numbers of examples, scouts included. [L]
        scratch_bytes: bytes for the values of a chunk of examples, of all directions together.

    Raises:
        BackendUnavailable: one direction does not fit into the memory.
    """

    def __init__(
        self,
        problem: RayProblem,
        program: Program,
        precision: str,
        memory_budget: int | None,
        levels: tuple[int, ...],
        scratch_bytes: int,
    ) -> None:
        self.device = problem.landscape.device
        self.levels = levels
        self.kind = f"a program of {len(program.instructions)} instructions"
        self.is_nonnegative = program.is_nonnegative
        self.terms = list(itertools.accumulate(program.weights.tolist()))
        self.terms = [self.terms[level - 1] for level in levels]
        self.level_terms = torch.tensor(self.terms, dtype=torch.float64, device=self.device)
        self.level_rows = torch.tensor(levels, dtype=torch.int32, device=self.device)
        self.fields = [field.to(self.device) for field in program.fields]
        self._problem = problem
        space = problem.directions.space
        self._layout = layout = Layout.of(program, space)
        refusal = too_large(layout, levels[-1], self.device, memory_budget)
        if refusal is not None:
            raise BackendUnavailable(f"{refusal}: measure fewer examples, free memory, or choose backend='torch'.")
        self._floats = max(scratch_bytes // 4, layout.block_size + layout.shared_size)
        rows = min(levels[-1], _LEAST_ROWS)
        together = (self._floats // rows - layout.shared_size) // layout.block_size
        fit = kept_bytes(self.device, memory_budget) // _bytes_per_ray(layout, levels[-1])
        self.most_rays = max(1, min(MAX_RAYS, together, fit))
        self.center, self.scale = problem.center.float(), problem.scale.vector().float()
        whole = [Place(i, space.offsets[i], space.sizes[i], 0) for i in range(len(space.names))]
        self.all_pieces, self._pieces = (
            Pieces.of([place.row(place.at) for place in places], self.device) for places in (whole, self._layout.places)
        )
        self._workspace = Workspace(
            self._layout, program.constants, self.most_rays, self._floats, precision, self.device
        )

    def bytes_per_ray(self) -> int:
        """See `Network.bytes_per_ray`; the parameters of `most_rays` have their memory already."""
        return 8 * self.levels[-1]

    def rows_at_once(self, directions: int) -> int:
        """How many examples of so many directions fit into a chunk: a power of two, so that few sizes are prepared."""
        layout = self._layout
        fit = self._floats // (layout.block_size * directions + layout.shared_size)
        rows = max(1, min(fit, _MOST_ELEMENTS // layout.largest, self.levels[-1]))
        return 1 << (rows.bit_length() - 1) if rows < self.levels[-1] else rows

    def place(self, directions: DeviceDirections, slots: Tensor, radius: Tensor) -> None:
        """Puts the parameters of some directions at their radii, and computes what follows from them alone.

        Args:
            directions: the directions, S of them.
            slots: which, at most `most_rays`. [n] int32
            radius: radius of every direction. [S] float64
        """
        materialize(
            self._workspace.rows[: len(slots)],
            self._pieces,
            self.scale,
            slots,
            directions.index,
            directions.inverse_norm,
            seed=self._problem.directions.seed,
            center=self.center,
            radius=radius,
            normals=directions.normals,
        )
        self._workspace.compute_parameters(len(slots))

    def losses(self, chosen: slice | Tensor, directions: int, out: Tensor) -> None:
        """Writes the losses of some examples with the parameters that were placed first.

        Args:
            chosen: which examples, R of them.
            directions: of how many, the first.
            out: where to write. [directions or more, R] float64
        """
        self._workspace.losses(self.fields, chosen, directions, out)


def too_large(layout: Layout, num_examples: int, device: torch.device, memory_budget: int | None) -> str | None:
    """The reason why one direction does not fit into the memory, or None.

    Args:
        layout: the program.
        num_examples: N.
        device: where.
        memory_budget: bytes for what rays keep between evaluations; None for most of what is free.
    """
    needed = _bytes_per_ray(layout, num_examples) + 4 * (layout.block_size + layout.shared_size)
    allowed = kept_bytes(device, memory_budget)
    if needed <= allowed:
        return None
    return f"one direction needs {needed / 2**30:.2f} GiB on {device} and {allowed / 2**30:.2f} GiB may be used"


def _bytes_per_ray(layout: Layout, num_examples: int) -> int:
    """The parameters of a direction, and the losses of all examples."""
    return 4 * layout.row_size + 8 * num_examples
