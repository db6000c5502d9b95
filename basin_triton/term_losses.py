"""Computes the losses of examples from the outputs of a network: one float64 number per direction and example.

Reference: cross_entropy, binary_cross_entropy_with_logits, mse_loss, l1_loss and huber_loss of torch.nn.functional with
reduction="sum", for every example. A term of the loss has one target: an example has one of them, or one for every
position or output. Terms are added in float64, in an order that depends on their number alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .loss_math import cross_entropy, finite, log1p
from .strided import Strided

LOSSES = ("cross_entropy", "bce_with_logits", "mse", "l1", "huber")
_CLASSES = 16  # classes of a tile
_TERMS, _ELEMENTS = 32, 512  # terms of a program, with and without classes


@dataclass(frozen=True)
class Terms:
    """The terms of every example, evenly spaced.

    Attributes:
        value: The memory.
        stride: The floats from one term to the next.
    """

    value: Strided
    stride: int


@triton.jit(do_not_specialize=["examples", "first", "second"])
def _class_losses_kernel(
    out,
    out_direction,
    x,
    x_direction,
    x_example,
    x_stride,
    labels,
    labels_direction,
    labels_example,
    labels_stride,
    class_weight,
    num_terms,
    classes,
    examples,
    first,
    second,
    HAS_WEIGHT: tl.constexpr,
    IS_SMOOTHED: tl.constexpr,
    BE: tl.constexpr,
    BT: tl.constexpr,
    BC: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BE * BT)
    example = tl.program_id(0) * BE + lane // BT
    x += direction * x_direction
    labels += direction * labels_direction
    total = tl.zeros((BE * BT,), dtype=tl.float64)
    for start in range(0, num_terms, BT):
        term = start + lane % BT
        inside = (example < examples) & (term < num_terms)
        label = tl.load(labels + (example * labels_example + term * labels_stride), mask=inside, other=first)
        counts = inside & (label != first)
        at = tl.where(counts, label, 0.0).to(tl.int32)
        row = x + (example * x_example + term * x_stride)
        at_label = tl.load(row + at, mask=counts, other=0.0)
        largest = tl.full((BE * BT,), float("-inf"), dtype=tl.float32)
        others = tl.zeros((BE * BT,), dtype=tl.float32)
        spread = tl.zeros((BE * BT,), dtype=tl.float64)
        for first_class in range(0, classes, BC):
            c = first_class + tl.arange(0, BC)[None, :]
            in_class = counts[:, None] & (c < classes)
            logit = tl.load(row[:, None] + c, mask=in_class, other=float("-inf"))
            above = tl.maximum(largest, tl.max(logit, axis=1))
            zero = finite(above)
            more = tl.where(c == at[:, None], 0.0, tl.exp(logit - zero[:, None]))
            others = others * tl.exp(largest - zero) + tl.sum(more, axis=1)
            largest = above
            if IS_SMOOTHED:
                spread += tl.sum(tl.where(in_class, at_label[:, None] - logit, 0.0), axis=1).to(tl.float64)
        loss = cross_entropy(largest, at_label, others).to(tl.float64)
        if IS_SMOOTHED:
            loss += second * spread / classes
        if HAS_WEIGHT:
            loss *= tl.load(class_weight + at, mask=counts, other=0.0)
        total += tl.where(counts, loss, 0.0)
    example = tl.program_id(0) * BE + tl.arange(0, BE)
    total = tl.sum(tl.reshape(total, (BE, BT)), axis=1)
    tl.store(out + direction * out_direction + example, total, mask=example < examples)


@triton.jit(do_not_specialize=["examples", "first", "second"])
def _element_losses_kernel(
    out,
    out_direction,
    x,
    x_direction,
    x_example,
    x_stride,
    labels,
    labels_direction,
    labels_example,
    labels_stride,
    num_terms,
    examples,
    first,
    second,
    LOSS: tl.constexpr,
    BE: tl.constexpr,
    BT: tl.constexpr,
):
    direction = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BE * BT)
    example = tl.program_id(0) * BE + lane // BT
    x += direction * x_direction
    labels += direction * labels_direction
    total = tl.zeros((BE * BT,), dtype=tl.float64)
    for start in range(0, num_terms, BT):
        term = start + lane % BT
        inside = (example < examples) & (term < num_terms)
        value = tl.load(x + (example * x_example + term * x_stride), mask=inside, other=0.0)
        target = tl.load(labels + (example * labels_example + term * labels_stride), mask=inside, other=0.0)
        if LOSS == "bce_with_logits":
            product = value.to(tl.float64) * target
            loss = tl.where(value < 0.0, 0.0, value) - product + log1p(tl.exp(-tl.abs(value)))
        else:
            distance = tl.abs(value.to(tl.float64) - target)
            if LOSS == "mse":
                loss = distance * distance
            elif LOSS == "l1":
                loss = distance
            else:  # quadratic up to `first`, times `second`
                linear = first * (distance - 0.5 * first)
                loss = second * tl.where(distance < first, 0.5 * distance * distance, linear)
        total += tl.where(inside, loss, 0.0)
    example = tl.program_id(0) * BE + tl.arange(0, BE)
    total = tl.sum(tl.reshape(total, (BE, BT)), axis=1)
    tl.store(out + direction * out_direction + example, total, mask=example < examples)


def term_losses(
    out: Tensor,
    x: Terms,
    targets: Terms,
    terms: int,
    directions: int,
    *,
    loss: str,
    classes: int = 0,
    first: float = 0.0,
    second: float = 0.0,
    class_weight: Tensor | None = None,
) -> None:
    """Write the loss of every example, summed over its terms, to the first rows of `out`.

    Args:
        out: The losses. [D or more, E] float64, rows contiguous
        x: The outputs of the network; the logits of a term lie side by side.
        targets: The targets, of labels whole numbers in float32.
        terms: How many an example has.
        directions: How many.
        loss: One of `LOSSES`.
        classes: How many logits a term has.
        first, second: The label that does not count, and label smoothing; delta of "huber", and a factor.
        class_weight: A factor for the terms of each class, or None. [classes] float32

    Raises:
        ValueError: An unknown loss, or an `out` of another type or shape.
    """
    if loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {', '.join(map(repr, LOSSES))}, got {loss!r}.")
    if out.dtype != torch.float64 or out.ndim != 2 or out.stride(1) != 1 or len(out) < directions:
        raise ValueError(f"`out` must be float64 [{directions} or more, E] with contiguous rows, got {out.dtype}.")
    examples = out.shape[1]
    if examples == 0 or directions == 0:
        return
    together, at_once = shape_of(loss, terms)
    arguments = (
        out,
        out.stride(0),
        x.value.memory,
        x.value.direction,
        x.value.example,
        x.stride,
        targets.value.memory,
        targets.value.direction,
        targets.value.example,
        targets.stride,
    )
    grid = (triton.cdiv(examples, together), directions)
    if loss == "cross_entropy":
        _class_losses_kernel[grid](
            *arguments,
            x.value.memory if class_weight is None else class_weight,
            terms,
            classes,
            examples,
            first,
            second,
            HAS_WEIGHT=class_weight is not None,
            IS_SMOOTHED=second > 0.0,
            BE=together,
            BT=at_once,
            BC=_CLASSES,
            enable_fp_fusion=True,
        )
    else:
        _element_losses_kernel[grid](
            *arguments, terms, examples, first, second, LOSS=loss, BE=together, BT=at_once, enable_fp_fusion=True
        )


def shape_of(loss: str, terms: int) -> tuple[int, int]:
    """Return how many examples a program takes, and how many of their terms at a time."""
    most = _TERMS if loss == "cross_entropy" else _ELEMENTS
    at_once = 1 if terms == 1 else most if terms > most // 4 else 8
    return most // at_once, at_once
