"""Multilayer perceptrons and programs on a CUDA device, with the kernels of basin_triton."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..compiled import unsupported_mlp
from ..in_memory import unsupported_size
from ..mlp import read_loss, read_mlp
from ..problem import Engine, RayProblem, Resources
from ..program.values import Refused
from ..split import devices_of, on_device, split

PROGRAM_PRECISIONS = ("tf32x3", "fp32")  # of programs, the one that is used where none is asked for first


class TritonBackend:
    """The backend of the Triton kernels, with the search and its state on the device."""

    name = "triton"
    # Three products of split operands are as exact as one in float32, and run on the tensor cores.
    precisions: tuple[str, ...] = ("fp16x3", "tf32x3", "fp32", "tf32")
    direction_kinds: tuple[str, ...] = ("philox", "legacy")

    def unusable(self, device: torch.device) -> str | None:
        """The reason why it cannot run, or None; for tests, Triton's interpreter is a device too."""
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed: pip install 'basinvol[triton]'"
        if device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1":
            return None
        if torch.cuda.is_available():
            return f"it computes on a CUDA device, and the landscape is on {device}; pass device='cuda'"
        return "it needs a CUDA device, and torch finds none on this machine"

    def only_by_name(self, problem: RayProblem) -> str | None:
        """The reason why "auto" takes another backend: kernels of programs have not been timed on a device yet."""
        refusal = unsupported_mlp(problem)
        return None if refusal is None else f"{refusal}; as a program it may run there, with backend='triton'"

    def unsupported(self, problem: RayProblem) -> str | None:
        """The reason why the data are too large, or the problem is neither a perceptron nor a program, or None."""
        too_large = unsupported_size(problem.landscape)
        if too_large is not None:
            return too_large
        if problem.precision == "fp16x3" and not _has_halves(problem.landscape.device):
            return "fp16x3 needs a device of compute capability 9.0 or newer, and triton 3.4 or newer"
        refusal = unsupported_mlp(problem)
        if refusal is None:
            return None
        if problem.precision not in (None, *PROGRAM_PRECISIONS):
            reason: str | None = f"it is multiplied in {' or '.join(PROGRAM_PRECISIONS)}, not in {problem.precision}"
        else:
            from .program.checked import refusal as refusal_of_program  # imports triton

            reason = refusal_of_program(problem, problem.precision or PROGRAM_PRECISIONS[0])
        return None if reason is None else f"{refusal}, and as a program {reason}"

    def prepare(self, problem: RayProblem, resources: Resources) -> Engine:
        """Makes what is made once per network, and evaluates the center, on every device that is asked for."""
        from .engine import DeviceEngine  # imports triton

        precision, make = _perceptron(problem) if unsupported_mlp(problem) is None else _program(problem, resources)
        engines = []
        for device in devices_of(problem.landscape.device, torch.cuda.device_count()):
            moved = on_device(problem, device)
            engines.append(DeviceEngine(moved, partial(make, moved), precision, resources.memory_budget))
        return split(engines)


def _perceptron(problem: RayProblem) -> tuple[str, Callable[..., Any]]:
    """The precision of a perceptron, and what makes it on a device from a problem, its levels and scratch bytes."""
    from .mlp import DeviceMlp  # imports triton
    from .perceptron import Perceptron

    mlp = read_mlp(problem.landscape.model, problem.landscape.inputs)
    loss = read_loss(problem.landscape.loss_fn, problem.landscape.targets, mlp)
    precision = problem.precision or _default_precision(problem.landscape.device)
    products = "tf32x3" if precision == "tf32" else precision  # of all that does not only propose

    def make(moved: RayProblem, levels: tuple[int, ...], scratch: int) -> Perceptron:
        return Perceptron(DeviceMlp(moved, mlp, loss, products, levels, scratch))

    return precision, make


def _program(problem: RayProblem, resources: Resources) -> tuple[str, Callable[..., Any]]:
    """The same of a program."""
    from .program.device_program import DeviceProgram  # imports triton
    from .program.network import ProgramNetwork

    program = problem.lowered
    if isinstance(program, Refused):
        raise program
    precision = problem.precision or PROGRAM_PRECISIONS[0]

    def make(moved: RayProblem, levels: tuple[int, ...], scratch: int) -> ProgramNetwork:
        return ProgramNetwork(DeviceProgram(moved, program, precision, resources.memory_budget, levels, scratch))

    return precision, make


def _default_precision(device: torch.device) -> str:
    """The fastest of those that certify; the interpreter takes longest for halves."""
    return "fp16x3" if device.type == "cuda" and _has_halves(device) else "tf32x3"


def _has_halves(device: torch.device) -> bool:
    """Whether the device has a unit that copies tiles, and this version of Triton uses it."""
    from basin_triton import has_descriptors

    return has_descriptors() and (device.type != "cuda" or torch.cuda.get_device_capability(device) >= (9, 0))
