"""The user's model, and the module inside it that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def read_model(model: object) -> nn.Module:
    """The module whose parameters are measured: inside DataParallel and torch.compile, the module that they wrap.

    Raises:
        ValueError: the model is not a module, or its parameters cannot be replaced: it is scripted, lazy, or on the
            meta device.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"`model` must be a torch.nn.Module, got {_describe(model)}.")
    inner: nn.Module | None = model
    while inner is not None:
        found, inner = inner, _wrapped(inner)
    return _checked(found)


def _wrapped(model: nn.Module) -> nn.Module | None:
    """The module inside a wrapper that adds none of its own parameters, or None."""
    if isinstance(model, _WRAPPERS):
        return cast(nn.Module, model.module)
    inner = getattr(model, "_orig_mod", None)  # what torch.compile returns has it
    return inner if isinstance(inner, nn.Module) else None


def _checked(model: nn.Module) -> nn.Module:
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            "`model` is scripted by torch.jit, and its parameters cannot be replaced for one evaluation; pass the "
            "module that was scripted."
        )
    for name, parameter in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(parameter):
            raise ValueError(f"`model` has the lazy parameter {name!r}, which has no shape yet; call the model once.")
        if parameter.is_meta:
            raise ValueError(
                f"`model` has {name!r} on the meta device, where tensors have no values; load the weights first."
            )
    return model


def _describe(model: object) -> str:
    if isinstance(model, Mapping):
        return "a state dict; build the module and call load_state_dict on it"
    if isinstance(model, type):
        return f"the class {model.__name__} and not an instance; call it first"
    if callable(model):
        return (
            "a function; the parameters must belong to a module, so write the function as the forward of a "
            "torch.nn.Module"
        )
    return f"a {type(model).__name__}"
