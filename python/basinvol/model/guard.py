"""Leaves a module as it was: flags, buffers, caches, counters and hooks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_CONTAINERS = (dict, list, set)


class ModuleGuard:
    """Keeps the attributes of a module and all its submodules, to put them back.

    The guard covers attributes that are set, replaced or deleted, the contents of lists, dictionaries and sets that are
    attributes, and tensors that are attributes but neither parameters nor buffers and are changed in place. (Parameters
    and buffers are never changed, because every call gets its own.) The guard does not see what lies deeper, such as a
    field of an object that is an attribute.
    """

    def __init__(self, model: nn.Module) -> None:
        self._attributes = [(module, dict(module.__dict__)) for module in model.modules()]
        self._contents = [
            (value, _items(value))
            for _, attributes in self._attributes
            for value in attributes.values()
            if isinstance(value, _CONTAINERS)
        ]
        self._tensors = [
            (value, value._version, value.detach().clone())
            for _, attributes in self._attributes
            for value in attributes.values()
            if isinstance(value, Tensor) and not value.is_inference()  # inference tensors have no version counter
        ]

    def restore(self) -> bool:
        """Puts everything back; returns whether anything had changed."""
        changed = False
        for module, attributes in self._attributes:
            now = module.__dict__
            if len(now) != len(attributes) or any(now.get(name) is not value for name, value in attributes.items()):
                changed = True
                now.clear()
                now.update(attributes)
        for container, items in self._contents:
            if not _is_same(_items(container), items):
                changed = True
                container.clear()
                container.extend(items) if isinstance(container, list) else container.update(items)
        for position, (tensor, version, content) in enumerate(self._tensors):
            if tensor._version != version:
                changed = True
                # Copying back raises the version too: the new one is what the next call is compared with.
                tensor.detach().copy_(content)
                self._tensors[position] = tensor, tensor._version, content
        return changed


def _items(container: Any) -> list[Any]:
    return list(container.items()) if isinstance(container, dict) else list(container)


def _is_same(now: list[Any], then: list[Any]) -> bool:
    """Whether two lists hold the same objects; by identity, because tensors have no single truth value."""
    if len(now) != len(then):
        return False
    for a, b in zip(now, then, strict=True):
        pairs = (
            zip(a, b, strict=True) if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) else [(a, b)]
        )
        if any(x is not y and not _is_equal_scalar(x, y) for x, y in pairs):
            return False
    return True


def _is_equal_scalar(a: Any, b: Any) -> bool:
    return type(a) is type(b) and isinstance(a, (int, float, str, bytes, bool, type(None))) and a == b
