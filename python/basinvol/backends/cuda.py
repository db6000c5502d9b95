"""Multilayer perceptrons on a CUDA device: the whole radius search in the extension's kernels."""

from __future__ import annotations

import torch

from . import RayProblem, Resources
from .native import CompiledEngine, compiled_extension, unsupported_mlp

# The default budget is for a CPU's memory; on a device, directions in flight may take what is free.
_DEFAULT_BUDGET = Resources(num_threads=1).memory_budget


class CudaBackend:
    """The compiled kernels (csrc/cuda).

    Args:
        precision: of products: "fp32", or "tf32x3", three tensor-core products of split operands, which is as exact and
            not yet measured; networks that fit into one thread block always compute in fp32.
    """

    name = "cuda"

    def __init__(self, precision: str = "fp32") -> None:
        self._precision = precision

    def unusable(self, device: torch.device) -> str | None:
        """It needs a build with CUDA and a device; the landscape may be on the CPU or on that device."""
        build = compiled_extension().build_info()
        if build["cuda"] is None:
            return "this installation was built without CUDA (reinstall where nvcc is on the path)"
        if not build["cuda_devices"]:
            return f"it needs a CUDA device and a driver for CUDA {build['cuda']}, and none was found"
        if device.type not in ("cpu", "cuda"):
            return f"it takes landscapes on the cpu or on a CUDA device, and this one is on {device}"
        return None

    def unsupported(self, problem: RayProblem) -> str | None:
        """It takes float32 perceptrons with three losses."""
        return unsupported_mlp(problem)

    def prepare(self, problem: RayProblem, resources: Resources) -> CudaEngine:
        """Copy the network and the data to the device, multiply them, and evaluate the center."""
        return CudaEngine(problem, resources, self._precision)


class CudaEngine(CompiledEngine):
    """The engine on the landscape's device, or on the first one."""

    def __init__(self, problem: RayProblem, resources: Resources, precision: str) -> None:
        extension = compiled_extension()
        budget = 0 if resources.memory_budget == _DEFAULT_BUDGET else resources.memory_budget
        given = extension.CudaResources(problem.landscape.device.index or 0, budget, precision)
        super().__init__(problem, extension.CudaMlpRays, given)

    @property
    def description(self) -> str:
        """The device and the path that is taken."""
        return str(self._engine.description())
