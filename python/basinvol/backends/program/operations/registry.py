"""The rules by which operations of torch become instructions, by the names of the operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from ..builder import Builder
from ..values import Refused, Value


@dataclass(frozen=True)
class Call:
    """One traced operation with its arguments.

    Attributes:
        node: the node of the graph.
        name: the name of the operation, as in "aten.relu.default".
        given: its arguments by their names in torch's schema, defaults included; tensors are values or constants.
        shape: the shape of its result; of several results, that of the first.
        nodes: the arguments that were given as nodes of the graph, by name.
        is_last_use: tells for an argument's name whether the result of a product is read here and nowhere else.
    """

    node: fx.Node
    name: str
    given: dict[str, Any]
    shape: tuple[int, ...]
    nodes: dict[str, Any]
    is_last_use: Callable[[str], bool]

    def __getitem__(self, argument: str) -> Any:
        return self.given[argument]

    def value(self, builder: Builder, argument: str) -> Value:
        """A tensor argument as a value."""
        return as_value(builder, self.given[argument])

    def optional(self, builder: Builder, argument: str) -> Value | None:
        """A tensor argument that may be None as a value."""
        return None if self.given.get(argument) is None else self.value(builder, argument)

    def tensor(self, argument: str) -> Tensor:
        """The shape and type of a tensor argument, as a tensor without numbers."""
        node = self.nodes[argument]
        found: Tensor = node.meta["val"] if isinstance(node, fx.Node) else node
        return found

    def expect(self, holds: bool, what: str) -> None:
        """Refuses the operation, with a reason, if something does not hold.

        Raises:
            Refused: it does not.
        """
        if not holds:
            raise Refused(f"{self.name} {what}")


Rule = Callable[[Builder, Call], Any]

RULES: dict[str, Rule] = {}
VIEWS: set[str] = set()  # of RULES those that compute nothing


def rule(*names: str, is_view: bool = False) -> Callable[[Rule], Rule]:
    """Registers a function as the rule of these operations."""

    def registered(function: Rule) -> Rule:
        for name in names:
            RULES[f"aten.{name}"] = function
            if is_view:
                VIEWS.add(f"aten.{name}")
        return function

    return registered


def as_value(builder: Builder, given: Any) -> Value:
    """A value, or a constant as one."""
    if isinstance(given, Value):
        return given
    if isinstance(given, Tensor | int | float | bool):
        return builder.constant(given)
    raise Refused(f"an argument that is a {type(given).__name__}")
