"""Leaves a module as it was: flags, buffers, caches, counters and hooks."""

from __future__ import annotations

from operator import is_
from typing import Any

from torch import Tensor, nn

_CONTAINERS = (dict, list, set)


class ModuleGuard:
    """Keeps the attributes of a module and all its submodules, to put them back.

    The guard covers attributes that are set, replaced or deleted, the contents of lists, dictionaries and sets that are
    attributes, and tensors that are attributes but neither parameters nor buffers and are changed in place. (Parameters
    and buffers are never changed, because every call gets its own.) The guard does not see what lies deeper, such as a
    field of an object that is an attribute.

    Attributes:
        has_restored_tensors: whether a tensor that is an attribute had been changed in place, and was put back.
    """

    def __init__(self, model: nn.Module) -> None:
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._empty: list[Any] = []  # most containers of a module are: its hooks
        self._filled: list[tuple[Any, Any]] = []
        self._tensors: list[tuple[Tensor, int, Tensor]] = []
        self.has_restored_tensors = False
        for module in model.modules():
            attributes = module.__dict__
            self._attributes.append((attributes, attributes.copy()))
            for value in attributes.values():
                if isinstance(value, _CONTAINERS):
                    if value:
                        self._filled.append((value, value.copy()))
                    else:
                        self._empty.append(value)
                elif isinstance(value, Tensor) and not value.is_inference():
                    self._tensors.append((value, value._version, value.detach().clone()))

    def restore(self) -> bool:
        """Puts everything back; returns whether anything had changed."""
        changed = False
        for now, then in self._attributes:
            if not _is_same_dict(now, then):
                changed = True
                now.clear()
                now.update(then)
        for container in self._empty:
            if container:
                changed = True
                container.clear()
        for container, content in self._filled:
            if not _is_same(container, content):
                changed = True
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)
        for position, (tensor, version, values) in enumerate(self._tensors):
            if tensor._version != version:
                changed = self.has_restored_tensors = True
                # Copying back raises the version too: the new one is what the next call is compared with.
                tensor.detach().copy_(values)
                self._tensors[position] = tensor, tensor._version, values
        return changed


def _is_same(now: Any, then: Any) -> bool:
    """By identity of what is inside: values such as tensors have no single truth value."""
    if isinstance(now, dict):
        return _is_same_dict(now, then)
    if isinstance(now, list):
        return len(now) == len(then) and all(map(is_, now, then))
    return bool(now == then)


def _is_same_dict(now: dict[Any, Any], then: dict[Any, Any]) -> bool:
    return len(now) == len(then) and all(map(is_, now, then)) and all(map(is_, now.values(), then.values()))
