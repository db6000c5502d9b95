"""Any module, as fast as PyTorch computes it."""

from __future__ import annotations

import torch

from ..problem import RayProblem, Resources
from .engine import TorchEngine


class TorchBackend:
    """The backend for every module that no kernel engine takes."""

    name = "torch"
    precisions: tuple[str, ...] = ("fp32",)
    compiles = True
    direction_kinds: tuple[str, ...] = ()  # it takes their vectors, and makes those of the library itself

    def unusable(self, device: torch.device) -> str | None:
        """Returns None for every device, because it runs wherever torch does."""
        return None

    def unsupported(self, problem: RayProblem) -> str | None:
        """Returns None for every problem, because it takes any model and any search."""
        return None

    def prepare(self, problem: RayProblem, resources: Resources) -> TorchEngine:
        """Makes working copies of the parameters, evaluates the center, and returns the engine."""
        return TorchEngine(problem, resources)
