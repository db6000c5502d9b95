"""Attention, of one value to others."""

from __future__ import annotations

import math

import torch

from ..builder import Builder
from ..program import Operand
from ..values import Value
from .products import matrices
from .registry import Call, rule


@rule("scaled_dot_product_attention.default")
def _attention(b: Builder, call: Call) -> Value:
    q, k, v = (call.value(b, name) for name in ("query", "key", "value"))
    call.expect(not call["dropout_p"], "drops out")
    call.expect(not call.given.get("enable_gqa", False), "shares heads among groups")
    lead = q.shape[:-2]
    call.expect(k.shape[:-2] == lead and v.shape[:-2] == lead, "has keys or values of other heads")
    factor = 1.0 / math.sqrt(q.shape[-1]) if call["scale"] is None else float(call["scale"])
    mask, is_added = _mask(b, call, [*lead, q.shape[-2], k.shape[-2]])
    # The heads of a position lie side by side, as the projection that follows reads them.
    dims = [*q.dims[:-1], v.dims[-1]]
    places = [[(d, f) for f in range(len(dim))] for d, dim in enumerate(dims)]
    order = [*places[-2], *(at for part in places[:-2] for at in part), *places[-1]]
    out = b.new(b.stage(q, k, v, None if mask is None else mask.value), dims, order)
    parts = [matrices(b, part) for part in (q, k, v)]
    b.emit("attention", [*parts, mask], matrices(b, out), [int(bool(call["is_causal"])), int(is_added)], [factor])
    return out


def _mask(b: Builder, call: Call, shape: list[int]) -> tuple[Operand | None, bool]:
    """The mask as matrices, and whether it is added."""
    if call["attn_mask"] is None:
        return None, False
    is_bool = call.tensor("attn_mask").dtype == torch.bool
    value: Value = call.value(b, "attn_mask")
    return matrices(b, value.expand(shape)), not is_bool
