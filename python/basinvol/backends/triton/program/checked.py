"""Executes a program on the device before anything is measured with it, for the comparison with its model."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import torch
from triton.errors import TritonError

from ...problem import RayProblem
from ...program.checked import RowLosses, compare
from ...program.program import Program
from ...program.values import Refused
from ..device import current
from ..directions import DeviceDirections
from ..memory import scratch_bytes
from .device_program import DeviceProgram, too_large
from .layout import Layout
from .rays import ProgramRays

# No compiler on this machine, one that fails, a kernel too large for the device, a device that is too old or full.
_DOES_NOT_RUN = (TritonError, RuntimeError, OSError, subprocess.CalledProcessError)


def refusal(problem: RayProblem, precision: str) -> str | None:
    """The reason why a problem is no program, does not fit on the device or has other losses there, or None.

    Args:
        problem: the problem.
        precision: precision of products, one of `basin_triton.linear`.
    """
    program = problem.lowered
    if isinstance(program, Refused):
        return str(program)
    landscape = problem.landscape
    layout = Layout.of(program, problem.directions.space)
    found = too_large(layout, landscape.num_examples, landscape.device, None)
    if found is not None:
        return found
    try:
        with current(landscape.device):
            compare(program, landscape, problem.working_copy, _on_device(problem, precision))
    except Refused as different:
        return str(different)
    except _DOES_NOT_RUN as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        return f"its kernels do not run on {landscape.device} ({type(error).__name__}: {reason})"
    return None


def _on_device(problem: RayProblem, precision: str) -> Callable[[Program], RowLosses]:
    """What executes programs on the device, for `compare`."""
    device = problem.landscape.device

    def prepare(program: Program) -> RowLosses:
        held = DeviceProgram(
            problem, program, precision, None, (len(program.weights),), min(_SCRATCH, scratch_bytes(device, None))
        )
        directions = DeviceDirections.of(problem.directions, [0], held.all_pieces)
        rays = ProgramRays(held, directions)
        return lambda radius: rays.row_losses(torch.full((1,), radius, dtype=torch.float64, device=device))[0].cpu()

    return prepare


_SCRATCH = 2**28  # bytes; a few examples need no more, unless one alone does
