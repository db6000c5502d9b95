"""Compiles variants of every Triton kernel for one compute capability; prints what each uses, a JSON line each.

    python compile_kernels.py 90           all variants
    python compile_kernels.py 90 linear    those with this word in their names
    python compile_kernels.py 90 --pairs   enough of them that any two settings of a kernel meet, here or on the others

A program of its own, without TRITON_INTERPRET: the interpreter, once chosen in a process, cannot be left.
"""

from __future__ import annotations

import importlib
import itertools
import json
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

(
    compact,
    fused_mlp,
    last_layers,
    linear,
    loss_head,
    materialize,
    materialize_halves,
    normals,
    reduce,
    search_step,
    shared_linear,
) = (
    importlib.import_module(f"basin_triton.{name}")
    for name in (
        "compact",
        "fused_mlp",
        "last_layers",
        "linear",
        "loss_head",
        "materialize",
        "materialize_halves",
        "normals",
        "reduce",
        "search_step",
        "shared_linear",
    )
)
ACTIVATIONS = importlib.import_module("basin_triton.activations").ACTIVATIONS
tile_of = importlib.import_module("basin_triton.tiles").tile_of

# Types of the arguments by name; what is not here is a size or a stride.
_FLOATS = (
    "center scale normals inputs parameters weight bias base shift first_bias per_row inverse largest_center "
    "largest_scale inputs_inverse weight_inverse last_inverse last_bias"
)  # float32
_DOUBLES = (
    "inverse_norm radius partial terms losses lower upper value_lower value_upper slope width unit cutoff guess_radius "
    "guess_slope rtol radius_max grid"
)
_LONGS = "table directions level relative order steps stalls num_evaluations grid_index probe_level"
_INTS = "active num_rows places block_first block_count num_blocks ends still_active summary"
TYPES = {
    **dict.fromkeys(_FLOATS.split(), "*fp32"),
    **dict.fromkeys(_DOUBLES.split(), "*fp64"),
    **dict.fromkeys(_LONGS.split(), "*i64"),
    **dict.fromkeys(_INTS.split(), "*i32"),
    "status": "*i8",
    "is_wanted": "*i1",
    "last": "*fp16",
    "seed": "i64",
}
_STRIDES = (
    "depth",
    "outputs",
    "inputs_stride",
    "weight_stride",
    "bias_stride",
    "shift_stride",
    "first_bias_stride",
    "parameters_stride",
    "row_size",
    "hidden",
    "last_stride",
    "last_bias_stride",
)


CAPABILITIES = (80, 90)


@dataclass(frozen=True)
class Variant:
    """A kernel as one launch specializes it."""

    name: str
    kernel: Any
    constants: dict[str, Any]
    types: dict[str, str]  # of arguments whose type depends on the kernel
    options: dict[str, Any] = field(default_factory=dict)
    aligned: tuple[str, ...] = ()  # sizes that are multiples of sixteen: wide loads, and other code
    are_one: bool = False  # all sizes are one, which a launch makes constants
    least: int = 0  # the least capability on which it is launched


def variants() -> Iterator[Variant]:
    """Those below, and one of each kernel with all its sizes one."""
    seen = set()
    for variant in _variants():
        yield variant
        if variant.kernel not in seen:
            seen.add(variant.kernel)
            yield replace(variant, name=f"{variant.name}, sizes of one", aligned=(), are_one=True)


def pairs() -> list[tuple[int, Variant]]:
    """Capabilities and variants such that any two settings of a kernel, of which the capability is one, meet.

    Greedy: always the variant in which most settings meet that have not met before, on the device with less to compile.
    """
    every = list(variants())
    candidates = [(on, variant) for on in CAPABILITIES for variant in every if on >= variant.least]
    unmet = {}
    for place, (capability, variant) in enumerate(candidates):
        settings = {**variant.constants, "aligned": bool(variant.aligned), "one": variant.are_one, "on": capability}
        unmet[place] = {(variant.kernel.__name__, *two) for two in itertools.combinations(settings.items(), 2)}
    chosen: list[tuple[int, Variant]] = []
    while True:
        counts = {capability: sum(one == capability for one, _ in chosen) for capability in CAPABILITIES}
        best = max(unmet, key=lambda place: (len(unmet[place]), -counts[candidates[place][0]]))
        if not unmet[best]:
            return chosen
        chosen.append(candidates[best])
        done = unmet[best].copy()
        for rest in unmet.values():
            rest -= done


def _variants() -> Iterator[Variant]:
    exact = {"enable_fp_fusion": False}
    yield Variant("normals", normals._normals_kernel, {"BLOCK": normals._BLOCK}, {"out": "*fp32"}, exact)
    for scale, center, memory in itertools.product((False, True), repeat=3):
        constants = {"HAS_SCALE": scale, "HAS_CENTER": center, "FROM_MEMORY": memory, "BLOCK": materialize.BLOCK_GROUPS}
        name = f"materialize scale={scale} center={center} memory={memory}"
        yield Variant(name, materialize._materialize_kernel, constants, {"out": "*fp32"}, exact)
    for center, memory in itertools.product((False, True), repeat=2):
        constants = {"HAS_CENTER": center, "FROM_MEMORY": memory, "BLOCK": materialize.BLOCK_GROUPS}
        name = f"materialize_halves center={center} memory={memory}"
        kernel = materialize_halves._materialize_halves_kernel
        yield Variant(name, kernel, constants, {"out": "*fp16"}, exact, _STRIDES, least=90)
    constants = {"BLOCK": materialize.BLOCK_GROUPS}
    yield Variant("square_norms", materialize._square_norms_kernel, constants, {"out": "*fp64"}, exact)
    yield Variant(
        "reduce", reduce._reduce_kernel, {"BLOCK": reduce._BLOCK}, {"out": "*fp64"}, {**exact, "num_warps": 1}
    )
    for method, losses in itertools.product(search_step.METHODS, (False, True)):
        constants = {"HAS_LOSSES": losses, "METHOD": method, "RAYS": search_step._RAYS}
        name = f"search_step {method} losses={losses}"
        yield Variant(name, search_step._search_step_kernel, constants, {}, {**exact, "num_warps": 1})
    for count in (1, compact.MAX_RAYS):
        block, options = compact.block_of(count), {"num_warps": compact._WARPS}
        yield Variant(f"compact {block}", compact._compact_kernel, {"BLOCK": block}, {}, options)
    yield from _linear_variants()
    yield from _head_variants()
    yield from _fused_variants()
    yield from _split_variants()


def _split_variants() -> Iterator[Variant]:
    rows, outputs, depth = shared_linear._ROWS, shared_linear._OUTPUTS, shared_linear._DEPTH
    constants = {"GROUP": shared_linear._GROUP, "BM": rows, "BN": outputs, "BK": depth}
    types = {
        "out": f"tensordesc<fp32[1, {rows}, {outputs}]>",
        "inputs": f"tensordesc<fp16[1, {rows}, {depth}]>",
        "weight": f"tensordesc<fp16[1, 1, {outputs}, {depth}]>",
    }
    options = {"num_warps": shared_linear._WARPS, "num_stages": shared_linear._STAGES, "enable_fp_fusion": True}
    kernel = shared_linear._shared_linear_kernel
    yield Variant("shared_linear", kernel, constants, types, options, _STRIDES, least=90)
    kinds = [("cross_entropy", hidden, kind, True, False) for hidden in (16, 128, 256) for kind in (None, *ACTIVATIONS)]
    kinds += [(loss, hidden, "tanh", False, False) for loss in ("cross_entropy", "mse") for hidden in (16, 128, 256)]
    kinds += [("bce_with_logits", 16, "tanh", has_last, False) for has_last in (True, False)]
    kinds += [("cross_entropy", 256, "gelu", has_last, True) for has_last in (True, False)]
    for loss, hidden, first, has_last, per_row in kinds:
        bh, bk, warps, stages = last_layers.tile_of(hidden)
        constants = {
            "LOSS": loss,
            "PER_ROW": per_row,
            "IS_SECOND": first is not None,
            "FIRST_HAS_BIAS": first is not None,
            "FIRST_ACTIVATION": first or "identity",
            "HAS_BIAS": True,
            "ACTIVATION": first or "gelu",
            "HAS_LAST": has_last,
            "LAST_HAS_BIAS": has_last,
            "GROUP": last_layers._GROUP,
            "BM": last_layers.BLOCK_ROWS,
            "BH": bh,
            "BC": loss_head.MAX_OUTPUTS if has_last else bh,
            "BK": bk,
        }
        moved = f"tensordesc<fp32[1, {last_layers.BLOCK_ROWS}, {bk}]>"
        types = {
            "out": "*fp64",
            "targets": "*i64" if loss == "cross_entropy" else "*fp32",
            "shift": moved,
            "base": moved if first is None else f"tensordesc<fp32[{last_layers.BLOCK_ROWS}, {bk}]>",
            "weight": f"tensordesc<fp16[1, 1, {bh}, {bk}]>",
        }
        name = f"last_layers {loss} {hidden} wide after {first}{' and one more' * has_last}{' by row' * per_row}"
        options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
        yield Variant(name, last_layers._last_layers_kernel, constants, types, options, _STRIDES, least=90)


def _linear_variants() -> Iterator[Variant]:
    # Every tile with the largest activations, from all three kinds of inputs; then the other activations once.
    kinds = [("identity", None), ("gelu", None), ("gelu", "tanh")]
    chosen = {
        (precision, tile_of(precision, outputs, kind[1] is not None), *kind)
        for precision, outputs, kind in itertools.product(linear.PRECISIONS, (16, 64), kinds)
    }
    chosen |= {("tf32x3", tile_of("tf32x3", 64, True), kind, kind) for kind in ACTIVATIONS}
    for precision, tile, activation, first in sorted(chosen, key=str):
        constants = {
            "BM": tile.rows,
            "BN": tile.outputs,
            "BK": tile.depth,
            "PRECISION": linear.PRECISIONS[precision],
            "HAS_BIAS": activation != "identity" or first is not None,
            "ACTIVATION": activation,
            "IS_SECOND": first is not None,
            "FIRST_HAS_BIAS": first is not None,
            "FIRST_ACTIVATION": first or "identity",
        }
        name = f"linear {precision} {tile.rows}x{tile.outputs}x{tile.depth} {activation} after {first}"
        options = {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True}
        yield from _aligned_and_not(Variant(name, linear._linear_kernel, constants, {"out": "*fp32"}, options))


def _head_variants() -> Iterator[Variant]:
    kinds = [
        (precision, loss, True, first, False)
        for precision, loss, first in itertools.product(linear.PRECISIONS, loss_head.LOSSES, (None, "tanh"))
    ]
    kinds += [("tf32x3", loss, False, first, False) for loss in loss_head.LOSSES for first in (None, "gelu")]
    kinds += [("tf32x3", "cross_entropy", True, kind, True) for kind in (None, *ACTIVATIONS)]
    for precision, loss, has_weight, first, per_row in kinds:
        constants = {
            "BM": loss_head.BLOCK_ROWS,
            "BC": loss_head.MAX_OUTPUTS if has_weight else loss_head._CLASSES,
            "BK": loss_head._BK,
            "PRECISION": linear.PRECISIONS[precision],
            "LOSS": loss,
            "PER_ROW": per_row,
            "HAS_WEIGHT": has_weight,
            "HAS_BIAS": has_weight,
            "IS_SECOND": first is not None,
            "FIRST_HAS_BIAS": first is not None,
            "FIRST_ACTIVATION": first or "identity",
        }
        name = f"loss_head {precision} {loss} {'layer' if has_weight else 'logits'} after {first}{' by row' * per_row}"
        types = {"out": "*fp64", "targets": "*i64" if loss == "cross_entropy" else "*fp32"}
        options = {"num_warps": loss_head._WARPS, "num_stages": loss_head._STAGES, "enable_fp_fusion": True}
        yield from _aligned_and_not(Variant(name, loss_head._loss_head_kernel, constants, types, options))


def _fused_variants() -> Iterator[Variant]:
    kinds = [(*kind, "tanh") for kind in itertools.product(linear.PRECISIONS, ("cross_entropy",), fused_mlp._WIDTHS)]
    kinds += [("tf32x3", loss, 32, kind) for loss in loss_head.LOSSES for kind in ACTIVATIONS]
    for precision, loss, width, activation in kinds:
        constants = {
            "BM": fused_mlp._ROWS,
            "WIDTH": width,
            "BC": loss_head.MAX_OUTPUTS,
            "PRECISION": linear.PRECISIONS[precision],
            "LOSS": loss,
            "FIRST_HAS_BIAS": True,
            "ACTIVATION": activation,
        }
        types = {"out": "*fp64", "targets": "*i64" if loss == "cross_entropy" else "*fp32"}
        options = {"num_warps": fused_mlp._WARPS, "num_stages": 1, "enable_fp_fusion": True}
        name = f"fused_mlp {precision} {loss} {width} wide {activation}"
        yield from _aligned_and_not(Variant(name, fused_mlp._fused_mlp_kernel, constants, types, options))


def _aligned_and_not(variant: Variant) -> Iterator[Variant]:
    yield replace(variant, name=f"{variant.name}, any sizes")
    yield replace(variant, name=f"{variant.name}, sizes in sixteens", aligned=_STRIDES)


def compile_variant(variant: Variant, capability: int) -> dict[str, Any]:
    """Name, registers, bytes of stack, local and shared memory."""
    names = variant.kernel.arg_names
    types = {**TYPES, **variant.types}
    constants = dict(variant.constants)
    if variant.are_one:
        fixed = [part.name for part in variant.kernel.params if part.do_not_specialize]
        sizes = [name for name in names if name not in fixed and types.get(name, "i32") in ("i32", "i64")]
        constants |= {name: 1 for name in sizes if name not in constants}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    unaligned = [part.name for part in variant.kernel.params if part.do_not_specialize_on_alignment]
    # torch's allocations are aligned, and rows of parameters are, see backends/triton/mlp.py.
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if name in variant.aligned or (signature[name].startswith("*") and name not in unaligned)
    }
    source = ASTSource(variant.kernel, signature, constexprs=constants, attrs=attributes)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=variant.options)
    usage = _resource_usage(built.asm["cubin"])
    return {"kernel": variant.name, **usage, "SHARED": built.metadata.shared}


def _resource_usage(cubin: bytes) -> dict[str, int]:
    tools = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        command = [tools / "cuobjdump", "--dump-resource-usage", path]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(size) for name, size in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}


def main(capability: int, wanted: str = "") -> None:
    """Compiles and prints; see the module's text."""
    if wanted == "--pairs":
        chosen = [variant for one, variant in pairs() if one == capability]
    else:
        chosen = [variant for variant in variants() if wanted in variant.name and capability >= variant.least]
    for variant in chosen:
        print(json.dumps(compile_variant(variant, capability)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
