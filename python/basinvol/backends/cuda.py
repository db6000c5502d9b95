"""Multilayer perceptrons on a CUDA device: the whole radius search in the extension's kernels."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from .compiled import CompiledMlpEngine, unsupported_mlp
from .extension import compiled_extension
from .in_memory import unsupported_size
from .problem import Engine, RayProblem, Resources
from .split import devices_of, split


class CudaBackend:
    """The backend of the compiled CUDA kernels (csrc/cuda).

    Networks that fit into one thread block always compute in fp32, whatever the precision.
    """

    name = "cuda"
    precisions: tuple[str, ...] = ("fp32", "tf32x3")
    direction_kinds: tuple[str, ...] = ("philox", "legacy")

    def unusable(self, device: torch.device) -> str | None:
        """The reason why it cannot run, or None; the landscape may be on the CPU or on a CUDA device."""
        build = compiled_extension().build_info()
        if build["cuda"] is None:
            return "this installation was built without CUDA (reinstall where nvcc is on the path)"
        if not build["cuda_devices"]:
            return f"it needs a CUDA device and a driver for CUDA {build['cuda']}, and none was found"
        if device.type not in ("cpu", "cuda"):
            return f"it takes landscapes on the cpu or on a CUDA device, and this one is on {device}"
        return None

    def unsupported(self, problem: RayProblem) -> str | None:
        """The reason why the data are too large or the problem no perceptron with one of three losses, or None."""
        return unsupported_size(problem.landscape) or unsupported_mlp(problem)

    def prepare(self, problem: RayProblem, resources: Resources) -> Engine:
        """Copies network and data to every device that is asked for, multiplies them, and evaluates the center."""
        devices = devices_of(problem.landscape.device, len(compiled_extension().build_info()["cuda_devices"]))
        precision = problem.precision or self.precisions[0]
        return split([CudaEngine(problem, resources, precision, device.index or 0) for device in devices])


class CudaEngine(CompiledMlpEngine):
    """The engine of the CUDA kernels on one device.

    Args:
        problem: the landscape, directions, center and scale.
        resources: the memory that it may use.
        precision: precision of the products, "fp32" or "tf32x3".
        device: number of the device.
    """

    keeps_trace = False
    step = 1024  # the extension divides them further, by memory

    def __init__(self, problem: RayProblem, resources: Resources, precision: str, device: int) -> None:
        extension = compiled_extension()
        on = problem.landscape.device
        if on.type == "cuda":
            # The extension has a stream of its own, which must not run ahead of torch's, and takes the memory that is
            # free: what torch keeps for later is not.
            torch.cuda.current_stream(on).synchronize()
            torch.cuda.empty_cache()
        budget = resources.memory_budget or 0  # 0: what is free
        # Tools that watch every launch do not see those of a graph.
        uses_graphs = os.environ.get("BASINVOL_CUDA_GRAPHS") != "0"
        given = extension.CudaResources(device, budget, precision, uses_graphs)
        super().__init__(problem, extension.CudaMlpRays, given)

    def _given(self, tensor: Tensor) -> Any:
        """What lies on a device stays there: the extension reads it by its `__cuda_array_interface__`."""
        return tensor.detach().contiguous() if tensor.is_cuda else super()._given(tensor)

    @property
    def description(self) -> str:
        """The device and the path of kernels, in a few words."""
        return str(self._engine.description())
