"""A network over several devices by torch.distributed.tensor, as a module with whole parameters in main memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class TensorParallel(nn.Module):
    """A module whose parameters `parallelize_module` has spread over devices, in the form in which it can be measured.

    It holds every parameter whole, in main memory, under its own name; forward() puts each rank's part of them on its
    device and calls the parallel module as it is. Every rank makes one, and calls the same functions of this package
    with the same arguments and backend="reference": the ranks walk the same search, step by step, because the module
    gives all of them the same outputs. Other backends would call the module in an order of their own.

    Args:
        module: what `torch.distributed.tensor.parallel.parallelize_module` returned; its outputs may be spread too.

    Raises:
        ValueError: no parameter is spread, or one is neither cut along a dimension nor copied.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        from torch.distributed.tensor import DTensor

        own = dict(module.named_parameters())
        if not any(isinstance(p, DTensor) for p in own.values()):
            raise ValueError(
                "`module` must have parameters that torch.distributed.tensor has spread over devices; call "
                "parallelize_module first, or measure the module as it is."
            )
        # Not a submodule: its parameters are the parts of those that are registered here.
        self._parallel = (module,)
        for name, p in own.items():
            whole = p.full_tensor() if isinstance(p, DTensor) else p
            _register(self, name, nn.Parameter(whole.detach().cpu().clone(), requires_grad=p.requires_grad))
            if isinstance(p, DTensor):
                _check_placements(name, p)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The outputs of the parallel module, whole and in main memory, the same on every rank."""
        (module,) = self._parallel
        own = dict(module.named_parameters())
        parts = {name: _part(whole, own[name]) for name, whole in self.named_parameters()}
        device = next(iter(own.values())).device
        given = [_to(value, device) for value in inputs]
        outputs = functional_call(
            module, parts, tuple(given), {name: _to(value, device) for name, value in named.items()}
        )
        return _whole(outputs)


def _register(root: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Registers a parameter under a name with dots, as in the module that it comes from."""
    *path, last = name.split(".")
    for part in path:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = getattr(root, part)
    root.register_parameter(last, parameter)


def _check_placements(name: str, p: Any) -> None:
    for placement in p.placements:
        if not placement.is_shard() and not placement.is_replicate():
            raise ValueError(f"parameter {name!r} is {placement}, and must be cut along a dimension or copied.")


def _part(whole: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a parameter, placed as `like`."""
    from torch.distributed.tensor import DTensor, Shard

    if not isinstance(like, DTensor):
        return whole.to(like.device)
    local, mesh = whole, like.device_mesh
    for axis, placement in enumerate(like.placements):
        if isinstance(placement, Shard):
            parts = local.chunk(mesh.size(axis), placement.dim)
            rank = mesh.get_local_rank(axis)
            local = parts[rank] if rank < len(parts) else local.narrow(placement.dim, 0, 0)
    shape, stride = like.shape, like.stride()
    return DTensor.from_local(
        local.to(like.device).contiguous(), mesh, like.placements, run_check=False, shape=shape, stride=stride
    )


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _whole(outputs: Any) -> Any:
    from torch.distributed.tensor import DTensor

    if isinstance(outputs, DTensor):
        outputs = outputs.full_tensor()
    if isinstance(outputs, Tensor):
        return outputs.cpu()
    if isinstance(outputs, dict):
        return type(outputs)({name: _whole(value) for name, value in outputs.items()})
    return outputs
