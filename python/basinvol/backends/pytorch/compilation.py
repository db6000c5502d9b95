"""The model through torch.compile, for users who ask for it: held against the model itself before it is used."""

from __future__ import annotations

import contextlib
import functools
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...inputs.fields import Inputs, call_model
from ...model.caller import ModelCaller
from ...model.landscape import Landscape
from ..problem import BackendUnavailable
from ..working_copy import WorkingCopy
from .units import Units, weighted_losses

_COMPILER = "inductor"  # torch's own default
# By how much compiled losses, which add in another order, may differ: relatively to a unit's and to the mean loss.
_SAME = 1e-4
_FLOOR = 1e-6  # ... and absolutely, for a network that fits exactly


def compiled_callers(
    landscape: Landscape, callers: Sequence[ModelCaller], units: Units, copy: WorkingCopy, radius: float
) -> list[ModelCaller]:
    """Callers of the same models through torch.compile, for the batches of the data; one alone if threads cannot share.

    The parameters are inputs of what is compiled, so that the same code serves every radius. All that is compiled is
    compiled here, before threads begin: torch's settings and Python's warnings belong to a thread or to all of them.
    Batches of other sizes, as the last ones of a proof are, go to the models themselves.

    Torch checks what it compiled against its assumptions before every call, and these checks are not made for threads:
    so each caller has a function of its own. Of a model that is no single graph for torch, all copies would share the
    parts, and only the first caller is compiled.

    Args:
        landscape: the model and its data.
        callers: the model, once for every thread; they are being measured.
        units: the data.
        copy: the perturbed parameters, turned to a direction.
        radius: where parameters are away from the center.

    Raises:
        BackendUnavailable: the model cannot be compiled, or has other losses when it is.
    """
    parts = _parts_by_size(units)

    def compiled(number: int, is_whole: bool) -> ModelCaller:
        call = _CompiledCall(_function_of(landscape, number, is_whole), frozenset(parts))
        found = callers[number].through(call)
        _check(units, copy, callers[number], found, parts.values(), radius)
        return found

    try:
        with _strict(len(parts)):
            try:
                return [compiled(number, is_whole=True) for number in range(len(callers))]
            except _Refused:
                raise
            except Exception:  # noqa: BLE001  (it is no single graph, which torch says in several ways)
                return [compiled(0, is_whole=False)]
    except Exception as error:  # whatever the model does that cannot be compiled, and whatever that raises
        raise BackendUnavailable(_sentence(_reason(error))) from error


class _Refused(RuntimeError):
    """What was compiled is not what was asked for.

    Args:
        reason: why, without a period.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(_sentence(reason))
        self.reason = reason


class _Ran(threading.local):
    """What torch.compile made and used in this thread."""

    compilations = 0
    calls = 0


_ran = _Ran()


class _CompiledCall:
    """Calls a model through torch.compile on batches of the sizes for which it was compiled.

    Args:
        function: function(model, *inputs), compiled.
        sizes: these numbers of examples.
    """

    def __init__(self, function: Callable[..., Any], sizes: frozenset[int]) -> None:
        self._function, self._sizes = function, sizes

    def __call__(self, model: nn.Module, inputs: Inputs) -> Any:
        if len(inputs) not in self._sizes:
            return call_model(model, inputs)
        before = _ran.calls
        outputs = call_model(functools.partial(self._function, model), inputs)
        if _ran.calls == before:  # torch gives up in silence, after too many versions or where it is switched off
            raise _Refused("torch.compile calls it as it is")
        return outputs


def _call(model: nn.Module, /, *arguments: Any, **named: Any) -> Any:
    return model(*arguments, **named)


# Solvers on one landscape share what was compiled, and new copies of the model do: torch asks for equal structure.
_functions: weakref.WeakKeyDictionary[Landscape, dict[tuple[int, bool], Callable[..., Any]]]
_functions = weakref.WeakKeyDictionary()


def _function_of(landscape: Landscape, number: int, is_whole: bool) -> Callable[..., Any]:
    """The compiled function of one thread.

    Args:
        landscape: what is measured.
        number: which thread.
        is_whole: whether the model must be a single graph.
    """
    known = _functions.setdefault(landscape, {})
    if (number, is_whole) not in known:
        # Torch keeps what it compiled with the code of a function, and only a few versions: so each has its own code.
        own = types.FunctionType(_call.__code__.replace(), _call.__globals__)
        known[number, is_whole] = torch.compile(own, fullgraph=is_whole, dynamic=False, backend=_compile)
    return known[number, is_whole]


def _compile(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    """Compiles a graph as torch would, and notes when it is called."""
    from torch._dynamo import lookup_backend

    _ran.compilations += 1
    compiled = lookup_backend(_COMPILER)(graph, inputs)

    def run(*arguments: Any) -> Any:
        _ran.calls += 1
        return compiled(*arguments)

    return run


@contextlib.contextmanager
def _strict(versions: int) -> Iterator[None]:
    """Torch's settings with which a failure is an error, and as many versions are kept as there will be.

    Args:
        versions: how many.
    """
    from torch._dynamo import config

    limit = max(config.recompile_limit, versions + 1)
    settings = {"suppress_errors": False, "fail_on_recompile_limit_hit": True, "recompile_limit": limit}
    with warnings.catch_warnings(), config.patch(settings):
        warnings.simplefilter("ignore")  # of what torch itself uses while it compiles
        yield


def _parts_by_size(units: Units) -> dict[int, slice]:
    """One batch of units for each number of examples that batches have."""
    found: dict[int, slice] = {}
    for first, last in units.batches:
        part = slice(first, last)
        if units.factor(part) > 0.0:
            found.setdefault(len(units.data[0][units.rows(part)]), part)
    return found


def _check(
    units: Units, copy: WorkingCopy, eager: ModelCaller, compiled: ModelCaller, parts: Iterable[slice], radius: float
) -> None:
    """Compiles a model for some batches, and holds its losses against those of the model itself.

    Raises:
        _Refused: they differ, or what was compiled is not used again.
    """
    with compiled.evaluating():
        for at in (0.0, radius):
            copy.place(at)
            for part in parts:
                _compare(_losses(units, copy, compiled, part), _losses(units, copy, eager, part))
        before = _ran.compilations
        for part in parts:
            _losses(units, copy, compiled, part)
    if _ran.compilations > before:
        raise _Refused("torch.compile would compile it again for the same batches")


def _compare(found: Tensor, expected: Tensor) -> None:
    tolerance = _SAME * float(expected.abs().nanmean().nan_to_num(posinf=0.0)) + _FLOOR
    if not torch.allclose(found, expected, rtol=_SAME, atol=tolerance, equal_nan=True):
        gap = float((found - expected).abs().nan_to_num(nan=float("inf")).max())
        raise _Refused(f"its losses differ by up to {gap:.2g} when it is compiled")


def _losses(units: Units, copy: WorkingCopy, caller: ModelCaller, part: slice) -> Tensor:
    weights = units.weights[part]
    return weighted_losses(units, caller, copy.named, part, torch.empty_like(weights)) / weights


def _sentence(reason: str) -> str:
    return f"backend 'torch' cannot compile this model: {reason}; pass compile=False to evaluate it as it is."


def _reason(error: Exception) -> str:
    """What went wrong, in one line and without a period."""
    if isinstance(error, _Refused):
        return error.reason
    cause = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0].rstrip('.;')}" if lines else type(cause).__name__
