"""Multilayer perceptrons on the CPU: the whole radius search in C++, threads over directions."""

from __future__ import annotations

import torch

from .compiled import CompiledEngine, unsupported_mlp
from .extension import compiled_extension
from .problem import RayProblem, Resources

_MEMORY_BUDGET = 2**30  # bytes
_STEP_PER_THREAD = 8  # directions between two updates of the progress bar, or two chances to interrupt


class NativeBackend:
    """The backend of the compiled CPU engine (csrc/cpu)."""

    name = "native"
    precisions: tuple[str, ...] = ("fp32",)
    direction_kinds: tuple[str, ...] = ("philox", "legacy")

    def unusable(self, device: torch.device) -> str | None:
        """The reason why it cannot run, or None on the CPU."""
        return None if device.type == "cpu" else f"it computes on the cpu, and the landscape is on {device}"

    def unsupported(self, problem: RayProblem) -> str | None:
        """The reason why the problem is not a float32 perceptron with one of three losses, or None."""
        return unsupported_mlp(problem)

    def prepare(self, problem: RayProblem, resources: Resources) -> NativeEngine:
        """Multiplies the inputs by the first layer and evaluates the center."""
        return NativeEngine(problem, resources)


class NativeEngine(CompiledEngine):
    """The engine of the CPU, with threads over directions."""

    def __init__(self, problem: RayProblem, resources: Resources) -> None:
        extension = compiled_extension()
        self.step = _STEP_PER_THREAD * resources.num_threads
        budget = resources.memory_budget or _MEMORY_BUDGET
        given = extension.Resources(resources.num_threads, budget, resources.instruction_set)
        super().__init__(problem, extension.MlpRays, given)

    @property
    def description(self) -> str:
        """The instruction set and the share of the inputs that is stored, in a few words."""
        return f"{self._engine.instruction_set()}, {self._engine.stored_share():.0%} of the inputs stored"

    @property
    def operations(self) -> int:
        """The floating-point operations of all matrix products so far, for benchmarks."""
        return int(self._engine.operations())
