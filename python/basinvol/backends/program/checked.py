"""Holds a program against the model that it was made from, before anything is measured with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ...inputs.fields import loss_in_outputs
from ...inputs.row_loss import TorchRowLoss, row_loss
from ...model.directions import Directions
from ...model.landscape import Landscape
from ...model.parameters import ParameterSpace
from ...model.scale import Scale
from ..extension import compiled_extension
from ..working_copy import WorkingCopy
from .lowering import lower
from .program import Program
from .source import source_on_cpu
from .values import Refused

_MOST_BYTES = 2**30  # that parameters, moves and packed weights of one direction may take
_COPIES = 3
_ROWS = 8  # on which the losses are compared
_RADIUS_PER_ROOT_DIM = 0.01  # where parameters are away from the center
_SAME, _FLOOR = 1e-3, 1e-5  # how far losses may be apart: float32 through a deep network, and a wrong operation shows

RowLosses = Callable[[float], Tensor]  # the losses of all examples of a program at a radius, summed over terms. [N]


def lowered_program(landscape: Landscape, space: ParameterSpace) -> Program:
    """The program of a landscape, on the CPU wherever the landscape is.

    Args:
        landscape: the model and its data.
        space: which parameters are perturbed.

    Raises:
        Refused: there is no such program; the message names the operation.
    """
    if _COPIES * 4 * space.dim > _MOST_BYTES:
        raise Refused(f"{space.dim:,} parameters in packed form would take more than {_MOST_BYTES / 2**30:g} GiB")
    loss_fn = landscape.loss_fn
    # Asked first because it is quick: tracing a network takes a tenth of a second.
    if loss_fn is not loss_in_outputs and not isinstance(row_loss(loss_fn), TorchRowLoss):
        raise Refused("the loss is not the mean of one of torch's losses")
    try:
        return lower(source_on_cpu(landscape), space)
    except Refused:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise Refused(
            f"an operation is used in a way that programs do not know ({type(error).__name__}: {error})"
        ) from error


def compare(program: Program, landscape: Landscape, copy: WorkingCopy, prepare: Callable[[Program], RowLosses]) -> None:
    """Expects of a program the model's own losses, at the center and away from it.

    Args:
        program: the program of the landscape.
        landscape: the model and its data.
        copy: parameters to perturb, along the direction 0 that is tried.
        prepare: gives what executes a program with fewer examples along that direction.

    Raises:
        Refused: the losses differ; the message says what was seen.
    """
    count = min(_ROWS, landscape.num_examples)
    row_losses = prepare(program.first(count))
    copy.aim(0)
    for radius in (0.0, _RADIUS_PER_ROOT_DIM * math.sqrt(copy.dim)):
        copy.place(radius)
        found = row_losses(radius)
        for first, last in ((0, count), (0, 1), (count - 1, count)):
            _expect_same(found, program.weights, landscape, copy.named, first, last)


def on_this_machine(directions: Directions, scale: Scale) -> Callable[[Program], RowLosses]:
    """What executes programs in the compiled extension, for `compare`."""

    def prepare(program: Program) -> RowLosses:
        extension, space = compiled_extension(), directions.space
        engine = extension.ProgramRays(
            program.describe(),
            [len(program.weights)],
            scale.vector().float().numpy(),
            list(space.sizes),
            extension.Resources(1, 0),
        )
        normals = None if directions.kind == "philox" else directions.normals(0)[None].numpy()
        return lambda radius: torch.tensor(engine.row_losses(directions.seed, 0, normals, radius))

    return prepare


def _expect_same(
    found: Tensor, weights: Tensor, landscape: Landscape, named: Mapping[str, Tensor], first: int, last: int
) -> None:
    weight = float(weights[first:last].sum())
    if not weight > 0.0:
        return
    ours = float(found[first:last].sum()) / weight
    with landscape.measuring():
        theirs = float(landscape.loss_at(named, first, last))
    if not (abs(ours - theirs) <= _SAME * abs(theirs) + _FLOOR or (math.isnan(ours) and math.isnan(theirs))):
        raise Refused(f"the traced operations give the loss {ours:.6g} where the model gives {theirs:.6g}")
