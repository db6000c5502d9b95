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
    attention,
    batched,
    by_rows,
    compact,
    convolution,
    depthwise,
    elementwise,
    embed,
    fused_mlp,
    last_layers,
    linear,
    loss_head,
    materialize,
    materialize_halves,
    normals,
    pool,
    product,
    reduce,
    search_step,
    shared_linear,
    term_losses,
) = (
    importlib.import_module(f"basin_triton.{name}")
    for name in (
        "attention",
        "batched",
        "by_rows",
        "compact",
        "convolution",
        "depthwise",
        "elementwise",
        "embed",
        "fused_mlp",
        "last_layers",
        "linear",
        "loss_head",
        "materialize",
        "materialize_halves",
        "normals",
        "pool",
        "product",
        "reduce",
        "search_step",
        "shared_linear",
        "term_losses",
    )
)
ACTIVATIONS = importlib.import_module("basin_triton.activations").ACTIVATIONS
functions = importlib.import_module("basin_triton.functions")
tile_of = importlib.import_module("basin_triton.tiles").tile_of

# Types of the arguments by name; what is not here is a size or a stride.
_FLOATS = (
    "center scale normals inputs parameters weight bias base shift first_bias per_row inverse largest_center "
    "largest_scale inputs_inverse weight_inverse last_inverse last_bias x y added indices queries keys values mask "
    "labels class_weight factors"
)  # float32
_DOUBLES = (
    "inverse_norm radius partial terms losses lower upper value_lower value_upper replaced value_replaced slope width "
    "unit cutoff guess_radius guess_slope rtol radius_max grid"
)
_LONGS = (
    "table directions level relative order steps stalls num_evaluations num_examples level_examples grid_index "
    "probe_level"
)
_INTS = "active num_rows places block_first block_count num_blocks ends still_active summary loop bounds"
_NUMBERS = "first second number factor"
TYPES = {
    **dict.fromkeys(_FLOATS.split(), "*fp32"),
    **dict.fromkeys(_DOUBLES.split(), "*fp64"),
    **dict.fromkeys(_LONGS.split(), "*i64"),
    **dict.fromkeys(_INTS.split(), "*i32"),
    **dict.fromkeys(_NUMBERS.split(), "fp32"),
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
# Products of four warps whose operands lie in shared memory, and copies of tiles by the copy unit.
_OF_HOPPER = {"WGMMA": "wgmma.mma_async", "TMA": "cp.async.bulk.tensor"}


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
    yield from _program_variants()


def _program_variants() -> Iterator[Variant]:
    """The kernels of programs; sizes of values are those of a network, and are multiples of sixteen or are not."""
    for variant in itertools.chain(_strided_variants(), _product_variants(), _matrix_variants(), _term_variants()):
        names = variant.kernel.arg_names
        pointers = {name for name in names if variant.types.get(name, TYPES.get(name, "")).startswith("*")}
        fixed = {part.name for part in variant.kernel.params if part.do_not_specialize or part.is_constexpr}
        sizes = tuple(name for name in names if name not in pointers | fixed)
        yield replace(variant, name=f"{variant.name}, any sizes")
        yield replace(variant, name=f"{variant.name}, sizes in sixteens", aligned=sizes)


def _strided_variants() -> Iterator[Variant]:
    types, fused = {"out": "*fp32"}, {"enable_fp_fusion": True}
    kinds = [(kind, kind in functions.BINARY, 2) for kind in (*functions.FUNCTIONS, *functions.BINARY)]
    kinds += [("identity", False, rank) for rank in (0, 1, 5)] + [("add", True, rank) for rank in (0, 1, 5)]
    for kind, is_binary, rank in kinds:
        constants = {"KIND": kind, "IS_BINARY": is_binary, "RANK": rank, "BLOCK": elementwise._BLOCK}
        name = f"elementwise {kind} of rank {rank}"
        yield Variant(name, elementwise._elementwise_kernel, constants, types, fused)
    for kind, columns in itertools.product(by_rows.KINDS, (16, 128, 1024)):
        constants = {
            "KIND": kind,
            "HAS_WEIGHT": kind in ("layer_norm", "rms_norm"),
            "HAS_BIAS": kind == "layer_norm",
            "RANK": 1 if columns < 1024 else 3,
            "BM": by_rows._TILE // columns,
            "BN": columns,
        }
        yield Variant(f"by_rows {kind} {columns} wide", by_rows._by_rows_kernel, constants, types, fused)
    for is_max in (False, True):
        constants = {"IS_MAX": is_max, "BLOCK": pool._BLOCK}
        yield Variant(f"pool max={is_max}", pool._pool_kernel, constants, types, fused)
        constants = {"HAS_BIAS": is_max, "BLOCK": depthwise._BLOCK}
        yield Variant(f"depthwise bias={is_max}", depthwise._depthwise_kernel, constants, types, fused)
    constants = {"RANK": 1, "BLOCK": embed._BLOCK}
    yield Variant("embed rows of a table", embed._embed_kernel, constants, {**types, "table": "*fp32"}, fused)


def _product_variants() -> Iterator[Variant]:
    """Those of products and convolutions, with the functions that take most registers after them."""
    kinds = [("tf32x3", 64, function) for function in ("identity", "elu", "sin")]
    kinds += [(precision, outputs, "gelu") for precision in ("fp32", "tf32x3") for outputs in (16, 64)]
    for precision, outputs, function in kinds:
        for is_convolution, whole in ((False, False), (True, False), (True, True)):
            file = convolution if is_convolution else product
            tile = file.tile_of(precision, outputs)
            constants = {
                "HAS_BIAS": True,
                "HAS_ADDED": function == "gelu",
                "FUNCTION": function,
                "PRECISION": linear.PRECISIONS[precision],
                "BM": tile.rows,
                "BN": tile.outputs,
                "BK": tile.depth,
                **({"WHOLE": whole} if is_convolution else {}),
            }
            kernel = convolution._convolution_kernel if is_convolution else product._product_kernel
            kind = f"{'convolution' if is_convolution else 'product'}{' whole' * whole}"
            options = {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True}
            yield Variant(f"{kind} {precision} {outputs} {function}", kernel, constants, {"out": "*fp32"}, options)


def _matrix_variants() -> Iterator[Variant]:
    types = {"out": "*fp32"}
    for precision, side in itertools.product(("fp32", "tf32x3"), (16, 64)):
        name = linear.PRECISIONS[precision]
        constants = {"PRECISION": name, "BM": side, "BN": side, "BK": batched._BK}
        options = {"num_warps": batched._WARPS, "num_stages": batched._STAGES, "enable_fp_fusion": True}
        yield Variant(f"batched {precision} {side}", batched._batched_kernel, constants, types, options)
        for mask, is_causal in itertools.product(attention.MASKS, (False, True)):
            constants = {
                "IS_CAUSAL": is_causal,
                "MASK": mask,
                "PRECISION": name,
                "BM": min(side, attention._ROWS),
                "BN": attention._COLUMNS,
                "BK": min(side, attention._FEATURES),
                "BV": side,
            }
            options = {"num_warps": attention._WARPS, "num_stages": attention._STAGES, "enable_fp_fusion": True}
            kind = f"attention {precision} {side} mask={mask} causal={is_causal}"
            yield Variant(kind, attention._attention_kernel, constants, types, options)


def _term_variants() -> Iterator[Variant]:
    types, fused = {"out": "*fp64"}, {"enable_fp_fusion": True}
    for terms, flag in itertools.product((1, 8, 1000), (False, True)):
        together, at_once = term_losses.shape_of("cross_entropy", terms)
        constants = {"HAS_WEIGHT": flag, "IS_SMOOTHED": flag, "BE": together, "BT": at_once, "BC": term_losses._CLASSES}
        name = f"class_losses {terms} terms weighted={flag}"
        yield Variant(name, term_losses._class_losses_kernel, constants, types, fused)
    for terms, loss in itertools.product((1, 8, 1000), term_losses.LOSSES[1:]):
        together, at_once = term_losses.shape_of(loss, terms)
        constants = {"LOSS": loss, "BE": together, "BT": at_once}
        yield Variant(
            f"element_losses {terms} terms {loss}", term_losses._element_losses_kernel, constants, types, fused
        )


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
    """Name, registers, bytes of stack, local and shared memory, and how often the code has instructions of sm_90."""
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
    instructions = {name: built.asm["ptx"].count(text) for name, text in _OF_HOPPER.items()}
    return {"kernel": variant.name, **usage, "SHARED": built.metadata.shared, **instructions}


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
