"""Multilayer perceptrons on a CUDA device, with the kernels of basin_triton."""

from __future__ import annotations

import importlib.util
import os

import torch

from ..in_memory import unsupported_size
from ..mlp import Mlp, Unsupported, read_loss, read_mlp
from ..problem import Engine, RayProblem, Resources
from ..split import devices_of, on_device, split


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

    def unsupported(self, problem: RayProblem) -> str | None:
        """The reason why the data are too large or the problem no perceptron with one of three losses, or None."""
        too_large = unsupported_size(problem.landscape)
        if too_large is not None:
            return too_large
        if problem.precision == "fp16x3" and not _has_halves(problem.landscape.device):
            return "fp16x3 needs a device of compute capability 9.0 or newer, and triton 3.4 or newer"
        try:
            read_loss(problem.landscape.loss_fn, problem.landscape.targets, self._read(problem))
        except Unsupported as refusal:
            return str(refusal)
        return None

    def prepare(self, problem: RayProblem, resources: Resources) -> Engine:
        """Multiplies the inputs by the first layer and evaluates the center, on every device that is asked for."""
        from .engine import DeviceEngine  # imports triton

        mlp = self._read(problem)
        loss = read_loss(problem.landscape.loss_fn, problem.landscape.targets, mlp)
        precision = problem.precision or _default_precision(problem.landscape.device)
        engines = [
            DeviceEngine(on_device(problem, device), mlp, loss, precision, resources.memory_budget)
            for device in devices_of(problem.landscape.device, torch.cuda.device_count())
        ]
        return split(engines)

    def _read(self, problem: RayProblem) -> Mlp:
        return read_mlp(problem.landscape.model, problem.landscape.inputs)


def _default_precision(device: torch.device) -> str:
    """The fastest of those that certify; the interpreter takes longest for halves."""
    return "fp16x3" if device.type == "cuda" and _has_halves(device) else "tf32x3"


def _has_halves(device: torch.device) -> bool:
    """Whether the device has a unit that copies tiles, and this version of Triton uses it."""
    from basin_triton import has_descriptors

    return has_descriptors() and (device.type != "cuda" or torch.cuda.get_device_capability(device) >= (9, 0))
