"""Perceptrons and programs on the CPU: the whole radius search in C++."""

from __future__ import annotations

from typing import Any

import torch

from .compiled import CompiledEngine, CompiledMlpEngine, unsupported_mlp
from .extension import compiled_extension
from .in_memory import unsupported_size
from .problem import RayProblem, Resources
from .program.program import Program

_MEMORY_BUDGET = 2**30  # bytes
# Directions between two updates of the progress bar, or two chances to interrupt.
_STEP_PER_THREAD = 8
_PROGRAM_STEP_PER_THREAD = 2


class NativeBackend:
    """The backend of the compiled CPU engine (csrc/cpu)."""

    name = "native"
    precisions: tuple[str, ...] = ("fp32",)
    direction_kinds: tuple[str, ...] = ("philox", "legacy")

    def unusable(self, device: torch.device) -> str | None:
        """The reason why it cannot run, or None on the CPU."""
        return None if device.type == "cpu" else f"it computes on the cpu, and the landscape is on {device}"

    def unsupported(self, problem: RayProblem) -> str | None:
        """The reason why the data are too large, or the problem is no float32 perceptron and no program, or None."""
        too_large = unsupported_size(problem.landscape)
        if too_large is not None:
            return too_large
        refusal = unsupported_mlp(problem)
        if refusal is None or isinstance(problem.program, Program):
            return None
        return f"{refusal}, and as a program {problem.program}"

    def prepare(self, problem: RayProblem, resources: Resources) -> CompiledEngine:
        """The engine of perceptrons, or that of programs, with the center evaluated."""
        return (
            NativeEngine(problem, resources) if unsupported_mlp(problem) is None else ProgramEngine(problem, resources)
        )


class _CountsOperations:
    """What both engines of the CPU say for benchmarks."""

    _engine: Any

    @property
    def operations(self) -> int:
        """The floating-point operations of all matrix products so far."""
        return int(self._engine.operations())


class NativeEngine(_CountsOperations, CompiledMlpEngine):
    """The engine of perceptrons on the CPU, with threads over directions."""

    def __init__(self, problem: RayProblem, resources: Resources) -> None:
        self.step = _STEP_PER_THREAD * resources.num_threads
        super().__init__(problem, compiled_extension().MlpRays, _given(resources))

    @property
    def description(self) -> str:
        """The instruction set and the share of the inputs that is stored, in a few words."""
        return f"{self._engine.instruction_set()}, {self._engine.stored_share():.0%} of the inputs stored"


class ProgramEngine(_CountsOperations, CompiledEngine):
    """The engine of programs on the CPU, with threads over directions, or over rows where memory is short."""

    def __init__(self, problem: RayProblem, resources: Resources) -> None:
        program = problem.program
        if not isinstance(program, Program):
            raise program
        self.step = _PROGRAM_STEP_PER_THREAD * resources.num_threads
        self._program = program

        def make(levels: tuple[int, ...]) -> Any:
            scale, sizes = problem.scale.vector().float().numpy(), list(problem.directions.space.sizes)
            return compiled_extension().ProgramRays(program.describe(), list(levels), scale, sizes, _given(resources))

        super().__init__(problem, make)

    @property
    def description(self) -> str:
        """The instruction set, the size of the program and that of its blocks, in a few words."""
        program = self._program
        return (
            f"{self._engine.instruction_set()}, a program of {len(program.instructions)} instructions on blocks of "
            f"{program.block_rows} examples"
        )


def _given(resources: Resources) -> Any:
    """The resources in the form in which the extension takes them."""
    budget = resources.memory_budget or _MEMORY_BUDGET
    return compiled_extension().Resources(resources.num_threads, budget, resources.instruction_set)
