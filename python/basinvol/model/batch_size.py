"""How many examples are evaluated at once: by the shapes of what the model computes, the same on every machine."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ..inputs.fields import Inputs
from .caller import ModelCaller

# Bytes that the largest operation may read and write, parameters aside. Eight MiB is where a core was fastest on
# convolutions, ResNet-18, a transformer and a recurrent network; a device needs more rows to be filled.
_BYTES_ON_CPU = 8 * 2**20
_BYTES_ON_DEVICE = 512 * 2**20
_MOST_EXAMPLES = 8192


def examples_at_once(caller: ModelCaller, inputs: Inputs) -> int:
    """The number of examples per forward pass with which the largest operation stays near the caches.

    Args:
        caller: the model.
        inputs: its inputs. [N, ...]
    """
    try:
        with caller.measuring():
            each = _bytes_per_example(caller, inputs)
    except Exception:  # noqa: BLE001  (a model that fails is refused in a sentence, by the checks)
        return _MOST_EXAMPLES
    is_on_cpu = all(p.device.type == "cpu" for p in caller.parameters.values())
    budget = _BYTES_ON_CPU if is_on_cpu else _BYTES_ON_DEVICE
    return max(1, min(_MOST_EXAMPLES, budget // max(1, each)))


def _bytes_per_example(caller: ModelCaller, inputs: Inputs) -> int:
    """By how much the operation that grows most grows with one more example: parameters are the same for all."""
    seen = []
    caller.outputs({}, inputs[:1])  # the first call does more than others: it sees what the model changes
    for count in (2, 3):  # one alone takes short cuts
        with _Operations() as operations:
            caller.outputs({}, inputs[:count])
        seen.append(operations.num_bytes)
    two, three = seen
    if len(two) == len(three):
        return max((b - a for a, b in zip(two, three, strict=True)), default=0)
    return max(three, default=0) // 3  # parameters included: too much, so that batches are rather too small


class _Operations(TorchDispatchMode):
    """Sees every operation, and notes how many bytes each reads and writes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in pytree.tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        self.num_bytes.append(sum(t.numel() * t.element_size() for t in tensors))
        return out
