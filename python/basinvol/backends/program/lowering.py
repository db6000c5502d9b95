"""Lowers a network with its loss to a program: torch.export traces it, and every operation has a rule."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from ...inputs.fields import Fields, Inputs
from ...model.parameters import ParameterSpace
from .builder import Builder
from .operations import RULES, VIEWS, Call
from .operations.losses import LoweredLoss
from .program import Instruction, Operand, Program, as_floats, place
from .source import Source
from .values import Buffer, Factor, NotAView, Refused, Space, Value, row_major

# Examples of the traced batch: a number that a network has no reason to treat as anything else.
_TRACED = 3
_IGNORED = ("_assert",)  # operations that return nothing


def lower(landscape: Source, space: ParameterSpace) -> Program:
    """The program of a landscape's loss by example.

    Args:
        landscape: the model, its loss and its data, on the CPU.
        space: which parameters are perturbed.

    Raises:
        Refused: an operation, a type or a loss is not one that programs have; the message names it.
    """
    for name, p in landscape.center.items():
        if p.dtype != torch.float32:
            raise Refused(f"the parameter {name!r} is {p.dtype}, and it computes in float32")
    return _Lowering(landscape, space).program()


class _Objective(nn.Module):
    """The loss as a function of the data, as the user's model and loss compute it."""

    def __init__(self, model: nn.Module, loss_fn: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._loss = (loss_fn,)  # not a submodule: what it holds is constant

    def forward(self, inputs: Any, targets: Any) -> Any:
        if isinstance(inputs, Mapping):
            outputs = self.model(**inputs)
        else:
            outputs = self.model(*inputs) if isinstance(inputs, tuple) else self.model(inputs)
        return self._loss[0](outputs, targets)


def _arguments(inputs: Inputs, targets: Inputs) -> tuple[Any, Any]:
    """A batch as the objective takes it."""

    def plain(batch: Inputs) -> Any:
        if not isinstance(batch, Fields):
            return batch
        return dict(batch.values) if batch.is_named else tuple(batch.values.values())

    return plain(inputs), plain(targets)


class _Lowering:
    """One walk over the traced operations."""

    def __init__(self, landscape: Source, space: ParameterSpace) -> None:
        self._landscape, self._space = landscape, space
        self._builder = Builder()
        self._known: dict[fx.Node, Any] = {}  # a Value, a constant, or a tuple of them
        self._data: dict[Buffer, fx.Node] = {}  # values that are known from the data alone
        self._leaves = pytree.tree_leaves(_arguments(landscape.inputs, landscape.targets))
        exported, objective = _traced(landscape)
        self._graph = exported.graph
        self._take_placeholders(exported, objective)

    def program(self) -> Program:
        """See `lower`."""
        output = next(node for node in self._graph.nodes if node.op == "output")
        for node in self._graph.nodes:
            if node.op == "get_attr":
                raise Refused(f"a function inside the function ({node.name})")
            if node.op == "call_function":
                self._take(node)
        (result,) = output.args[0]
        loss = self._known.get(result)
        if not isinstance(loss, LoweredLoss):
            raise Refused("the loss does not end in the mean of one of torch's losses")
        return self._finished(loss)

    def _take_placeholders(self, exported: ExportedProgram, objective: nn.Module) -> None:
        landscape, space = self._landscape, self._space
        names = {id(p): name for name, p in reversed(list(landscape.model.named_parameters()))}
        own = dict(objective.named_parameters(remove_duplicate=False))
        offsets = dict(zip(space.names, space.offsets, strict=True))
        nodes = {node.name: node for node in self._graph.nodes if node.op == "placeholder"}
        leaves = iter(self._leaves)
        self._leaf_of: dict[fx.Node, Tensor] = {}
        parameters: dict[str, Value] = {}
        for spec in exported.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind == InputKind.USER_INPUT:
                self._leaf_of[node] = next(leaves)
                self._known[node] = self._data_value(node)
            elif spec.kind == InputKind.PARAMETER:
                name = names[id(own[str(spec.target)])]
                center = landscape.center[name]
                if name not in offsets:
                    self._known[node] = center
                    continue
                if name not in parameters:
                    buffer = Buffer(Space.PERTURBED, center.numel(), offset=offsets[name], is_fixed=True)
                    parameters[name] = Value(buffer, row_major(center.shape))
                self._known[node] = parameters[name]
            else:
                held = exported.constants if spec.kind == InputKind.CONSTANT_TENSOR else exported.state_dict
                self._known[node] = (held.get(spec.target, exported.constants.get(spec.target))).detach()

    def _take(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            parts, position = self._known[node.all_input_nodes[0]], node.args[1]
            self._known[node] = parts[position]
            return
        space, kind, form = str(_operation(node)).split(".")
        if kind.startswith(_IGNORED):
            return
        is_in_place = kind.endswith("_") and not kind.startswith("_")
        name = f"{space}.{kind.rstrip('_')}.{form}"
        inputs = [self._known[n] for n in node.all_input_nodes]
        flat = [v for given in inputs for v in (given if isinstance(given, tuple) else (given,))]
        if all(isinstance(v, Tensor) for v in flat):
            self._known[node] = _evaluated(node, self._known)
        elif all(isinstance(v, Tensor) or (isinstance(v, Value) and v.is_data) for v in flat):
            self._known[node] = self._data_part(node, name)
        else:
            self._known[node] = self._lowered(node, name)
        if is_in_place:
            self._known[node.all_input_nodes[0]] = self._known[node]

    def _lowered(self, node: fx.Node, name: str) -> Any:
        function = RULES.get(name)
        if function is None:
            raise Refused(f"{name} is not an operation that programs have")
        try:
            return function(self._builder, self._call(node, name))
        except NotAView as error:
            raise Refused(f"{name} acts on values that lie in another way ({error})") from None

    def _data_part(self, node: fx.Node, name: str) -> Any:
        """What depends on the data alone: a view of them, or data of its own."""
        if name in VIEWS:
            before = len(self._builder.instructions)
            try:
                found = RULES[name](self._builder, self._call(node, name))
                if len(self._builder.instructions) == before:
                    return found
            except ValueError:
                pass
            del self._builder.instructions[before:]
        if not isinstance(node.meta["val"], Tensor):
            raise Refused(f"{name} gives several results")
        return self._data_value(node)

    def _data_value(self, node: fx.Node) -> Value:
        shape = node.meta["val"].shape
        if not shape or shape[0] % _TRACED:
            raise Refused(f"{node.name} depends on the batch as a whole")
        each = shape[0] // _TRACED
        dims = [(Factor(_TRACED, None), Factor(each, 1)), *((Factor(size, 1),) for size in shape[1:])]
        value = self._builder.new(Space.BLOCK, [tuple(f for f in dim if f.size != 1) for dim in dims])
        self._data[value.buffer] = node
        return Value(value.buffer, value.dims, value.offset, is_data=True)

    def _call(self, node: fx.Node, name: str) -> Call:
        schema = _operation(node)._schema
        given: dict[str, Any] = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        named = {a.name: value for a, value in zip(schema.arguments, node.args, strict=False)}
        named.update(node.kwargs)
        given.update({key: fx.node.map_arg(value, self._known.__getitem__) for key, value in named.items()})
        result = node.meta["val"]
        shape = tuple(result.shape if isinstance(result, Tensor) else result[0].shape)
        return Call(node, name, given, shape, named, lambda argument: self._is_last_use(named.get(argument)))

    def _is_last_use(self, node: Any) -> bool:
        """Whether nothing else reads the buffer that a node's value is in, through this or any other view."""
        if not isinstance(node, fx.Node):
            return False
        while len(node.users) == 1:
            if str(node.target) not in VIEWS:
                return node.op == "call_function" and node.target is not operator.getitem
            node = node.args[0]
        return False

    def _finished(self, loss: LoweredLoss) -> Program:
        builder, landscape = self._builder, self._landscape
        kept, needed = _needed(builder.instructions)
        count = landscape.num_examples
        reader = _DataReader(self._leaf_of, self._known, count)
        nodes = {buffer: node for buffer, node in self._data.items() if buffer in needed}
        fields = [as_floats(reader.read(node)).reshape(count, -1) for node in nodes.values()]
        loads = [
            Instruction("load", [], Operand(Value(buffer, ()), []), [number]) for number, buffer in enumerate(nodes)
        ]
        instructions = [*loads, *kept]
        targets = _viewed_rows(loss.targets, fields[list(nodes).index(loss.targets.buffer)])
        weights, is_nonnegative = loss.weights(targets)
        constants = builder.constants
        rows, sizes = place(instructions, constants.numel(), self._space.dim)
        parameters = [landscape.center[name] for name in self._space.names]
        return Program(instructions, fields, parameters, constants, weights, is_nonnegative, rows, sizes)


def _traced(landscape: Source) -> tuple[ExportedProgram, nn.Module]:
    rows = torch.arange(_TRACED) % landscape.num_examples
    # Tracing runs the user's forward: on a copy that shares the parameters, with random numbers of its own.
    shared: dict[int, Any] = {id(p): p for p in landscape.model.parameters()}
    try:
        objective = _Objective(copy.deepcopy(landscape.model, shared), landscape.loss_fn).eval()
        arguments = _arguments(landscape.inputs[rows], landscape.targets[rows])
        with torch.random.fork_rng(devices=[]), torch.no_grad(), _quiet():
            return torch.export.export(objective, arguments, strict=False), objective
    except Exception as error:  # noqa: BLE001  (export lets through whatever the user's forward raises on symbols)
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise Refused(f"torch.export cannot trace it ({type(error).__name__}: {reason})") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what torch says of a failed trace from the user, who hears the reason in one sentence."""
    disabled, unread = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _needed(instructions: list[Instruction]) -> tuple[list[Instruction], set[Buffer]]:
    """The instructions on which the last one depends, by stages, and the buffers that they read or write."""
    # A weight that a later operation changed is made after the product that it is for.
    instructions = sorted(instructions, key=lambda instruction: instruction.stage)
    last = instructions[-1]
    needed = {operand.value.buffer for operand in last.inputs if operand is not None}
    kept = [last]
    for instruction in reversed(instructions[:-1]):
        if instruction.output.value.buffer in needed:
            kept.append(instruction)
            needed.update(operand.value.buffer for operand in instruction.inputs if operand is not None)
    return kept[::-1], needed


def _operation(node: fx.Node) -> OpOverload[..., Any]:
    if not isinstance(node.target, OpOverload):
        raise Refused(f"{node.target} is not an operation that programs have")
    return node.target


def _evaluated(node: fx.Node, known: Mapping[fx.Node, Any]) -> Any:
    """What torch makes of tensors; of copies, where it changes them in place."""
    is_in_place = str(node.target).split(".")[1].endswith("_")
    args, kwargs = fx.node.map_arg(
        (node.args, dict(node.kwargs)), lambda n: copy.deepcopy(known[n]) if is_in_place else known[n]
    )
    return _operation(node)(*args, **kwargs)


def _viewed_rows(value: Value, rows: Tensor) -> Tensor:
    """The elements of a value within all examples, from its field [N, size]. [N, ...]"""
    sizes = [f.size for dim in value.dims for f in dim if f.stride is not None]
    strides = [f.stride for dim in value.dims for f in dim if f.stride is not None]
    return rows.as_strided((len(rows), *sizes), (rows.shape[1], *strides), value.offset)


class _DataReader:
    """Computes what depends on the data alone, for all examples, as many at a time as were traced."""

    def __init__(self, leaves: Mapping[fx.Node, Tensor], known: Mapping[fx.Node, Any], count: int) -> None:
        self._leaves, self._known, self._count = leaves, known, count

    def read(self, node: fx.Node) -> Tensor:
        """The values of a node. [N, ...]"""
        if node in self._leaves:
            return self._leaves[node]
        parts = []
        for first in range(0, self._count, _TRACED):
            rows = torch.arange(first, first + _TRACED) % self._count
            found = self._value(node, {leaf: tensor[rows] for leaf, tensor in self._leaves.items()})
            each = found.reshape(_TRACED, -1)
            parts.append(each[: self._count - first])
        return torch.cat(parts)

    def _value(self, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
        if node not in known:
            constant = self._known.get(node)
            if isinstance(constant, Tensor):
                known[node] = constant
            else:
                for needed in node.all_input_nodes:
                    self._value(needed, known)
                known[node] = _evaluated(node, known)
        return known[node]
