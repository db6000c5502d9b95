"""How each instruction of a program becomes a launch of one of basin_triton's kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from basin_triton.attention import attention
from basin_triton.batched import Matrices, batched
from basin_triton.by_rows import by_rows
from basin_triton.convolution import Image, Window, convolution
from basin_triton.depthwise import depthwise
from basin_triton.elementwise import elementwise
from basin_triton.embed import embed
from basin_triton.functions import BINARY
from basin_triton.pool import Windows, pool
from basin_triton.product import Finish, Rows, product
from basin_triton.strided import Loop, Strided
from basin_triton.term_losses import LOSSES, Terms, term_losses

from ...program.program import Instruction, Operand
from ...program.values import Space


class Site(Protocol):
    """Memory for some examples of some directions."""

    @property
    def precision(self) -> str:
        """The precision of products."""
        ...

    def examples(self, stage: Space) -> int:
        """How many examples an instruction of this stage works on."""
        ...

    def strided(self, operand: Operand) -> Strided:
        """Where a value is."""
        ...


Launch = Callable[..., None]  # launch(directions=n)
Prepared = Callable[[Site], Launch]


def prepared(instruction: Instruction, device: torch.device) -> Prepared:
    """What gives the launch of an instruction, for any memory.

    The launch of a loss wants to know where its results go: launch(directions=n, out=losses).

    Args:
        instruction: the instruction.
        device: where its tables are kept.
    """
    return _PREPARED[instruction.op](instruction, device)


def _elementwise(i: Instruction, device: torch.device) -> Prepared:
    x, *others = _given(i)
    y = others[0] if others else None
    loop = Loop.over([operand.extents for operand in (i.output, *_given(i))], device)
    kind, first, second = i.function if y is None else (BINARY[i.sizes[0]], 0.0, 0.0)

    def place(site: Site) -> Launch:
        other = None if y is None else site.strided(y)
        values = site.strided(i.output), site.strided(x), other
        return partial(elementwise, kind, *values, loop, examples=site.examples(i.stage), first=first, second=second)

    return place


def _by_rows(i: Instruction, device: torch.device) -> Prepared:
    x, *others = i.inputs
    assert x is not None
    rows = i.output.extents if i.op == "reduce" else i.output.extents[:-1]
    loop = Loop.over([rows, x.extents[:-1]], device)
    kind = {
        "normalize": ("rms_norm", "layer_norm"),
        "softmax": ("softmax", "log_softmax"),
        "reduce": ("sum", "largest"),
    }[i.op][i.sizes[0]]

    def place(site: Site) -> Launch:
        weight, bias = ([None if part is None else site.strided(part) for part in others] + [None, None])[:2]
        return partial(
            by_rows,
            kind,
            site.strided(i.output),
            site.strided(x),
            loop,
            x.extents[-1][0],
            examples=site.examples(i.stage),
            number=i.numbers[0] if i.numbers else 0.0,
            weight=weight,
            bias=bias,
        )

    return place


def _product(i: Instruction, device: torch.device) -> Prepared:
    x, weight, *_ = i.inputs
    assert x is not None
    assert weight is not None
    count, depth, outputs, stride = i.sizes

    def place(site: Site) -> Launch:
        return partial(
            product,
            Rows(site.strided(i.output), i.output.extents[0][1]),
            Rows(site.strided(x), stride),
            Rows(site.strided(weight), depth),
            count * site.examples(i.stage),
            depth,
            outputs,
            finish=_finish(i, site),
            precision=site.precision,
        )

    return place


def _convolution(i: Instruction, device: torch.device) -> Prepared:
    x, weight, *_ = i.inputs
    assert x is not None
    assert weight is not None
    window = Window(*i.sizes[:12])
    channels, outputs, groups = i.sizes[12:]

    def place(site: Site) -> Launch:
        return partial(
            convolution,
            Rows(site.strided(i.output), i.output.extents[1][1]),
            _image(x, site),
            site.strided(weight),
            window,
            channels,
            outputs,
            groups,
            examples=site.examples(i.stage),
            finish=_finish(i, site),
            precision=site.precision,
        )

    return place


def _depthwise(i: Instruction, device: torch.device) -> Prepared:
    x, weight, bias = i.inputs
    assert x is not None
    assert weight is not None

    def place(site: Site) -> Launch:
        return partial(
            depthwise,
            Rows(site.strided(i.output), i.output.extents[1][1]),
            _image(x, site),
            site.strided(weight),
            None if bias is None else site.strided(bias),
            Window(*i.sizes[:12]),
            i.sizes[12],
            examples=site.examples(i.stage),
        )

    return place


def _pool(i: Instruction, device: torch.device) -> Prepared:
    (x,) = _given(i)
    is_max, channels, height, width, *bounds = i.sizes
    windows = Windows.of(bounds, i.numbers, height, width, device)

    def place(site: Site) -> Launch:
        image = _image(x, site)
        return partial(
            pool,
            site.strided(i.output),
            image.value,
            image.row_stride,
            image.column_stride,
            channels,
            windows,
            bool(is_max),
            examples=site.examples(i.stage),
        )

    return place


def _embed(i: Instruction, device: torch.device) -> Prepared:
    table, indices = _given(i)
    (_, entry_stride), (columns, column_stride) = table.extents
    loop = Loop.over([indices.extents], device)

    def place(site: Site) -> Launch:
        return partial(
            embed,
            site.strided(i.output),
            site.strided(table),
            entry_stride,
            column_stride,
            columns,
            site.strided(indices),
            loop,
            examples=site.examples(i.stage),
        )

    return place


def _batched(i: Instruction, device: torch.device) -> Prepared:
    x, y = _given(i)
    (batch, _), (rows, _), (depth, _) = x.extents

    def place(site: Site) -> Launch:
        return partial(
            batched,
            _matrices(i.output, site),
            _matrices(x, site),
            _matrices(y, site),
            batch=batch,
            rows=rows,
            depth=depth,
            outputs=y.extents[2][0],
            examples=site.examples(i.stage),
            precision=site.precision,
        )

    return place


def _attention(i: Instruction, device: torch.device) -> Prepared:
    queries, keys, values, *mask = _given(i)
    (heads, _), (rows, _), (features, _) = queries.extents
    is_causal, is_added = (bool(flag) for flag in i.sizes)

    def place(site: Site) -> Launch:
        return partial(
            attention,
            _matrices(i.output, site),
            _matrices(queries, site),
            _matrices(keys, site),
            _matrices(values, site),
            mask=_matrices(mask[0], site) if mask else None,
            heads=heads,
            rows=rows,
            columns=keys.extents[1][0],
            features=features,
            outputs=values.extents[2][0],
            examples=site.examples(i.stage),
            factor=i.numbers[0],
            is_causal=is_causal,
            is_added=is_added,
            precision=site.precision,
        )

    return place


def _loss(i: Instruction, device: torch.device) -> Prepared:
    outputs, targets, *by_class = _given(i)
    loss = LOSSES[i.sizes[0]]
    (terms, stride), classes = outputs.extents[0], outputs.extents[1][0] if loss == "cross_entropy" else 0
    first, second = [*i.numbers, 0.0, 0.0][:2]

    def place(site: Site) -> Launch:
        weight: Tensor | None = site.strided(by_class[0]).memory if by_class else None
        return partial(
            term_losses,
            x=Terms(site.strided(outputs), stride),
            targets=Terms(site.strided(targets), targets.extents[0][1]),
            terms=terms,
            loss=loss,
            classes=classes,
            first=first,
            second=second,
            class_weight=weight,
        )

    return place


_PREPARED: dict[str, Callable[[Instruction, torch.device], Prepared]] = {
    "copy": _elementwise,
    "unary": _elementwise,
    "binary": _elementwise,
    "normalize": _by_rows,
    "softmax": _by_rows,
    "reduce": _by_rows,
    "product": _product,
    "convolution": _convolution,
    "depthwise": _depthwise,
    "pool": _pool,
    "embed": _embed,
    "batched": _batched,
    "attention": _attention,
    "loss": _loss,
}


def _given(i: Instruction) -> list[Operand]:
    return [operand for operand in i.inputs if operand is not None]


def _finish(i: Instruction, site: Site) -> Finish:
    _, _, bias, added = i.inputs
    kind, first, second = i.function
    return Finish(
        bias=None if bias is None else site.strided(bias),
        added=None if added is None else Rows(site.strided(added), added.extents[0][1]),
        function=kind,
        first=first,
        second=second,
    )


def _image(operand: Operand, site: Site) -> Image:
    (_, row_stride), (_, column_stride) = operand.extents
    return Image(site.strided(operand), row_stride, column_stride)


def _matrices(operand: Operand, site: Site) -> Matrices:
    (_, batch), (_, row), (_, column) = operand.extents
    return Matrices(site.strided(operand), batch, row, column)
