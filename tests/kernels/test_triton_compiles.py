"""Every Triton kernel compiles for the devices that production would launch it on, without a stack or spills.

Of its variants as many are compiled here as it takes for any two settings to meet; `compile_kernels.py` compiles all.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed on this platform")

SHARED_LIMIT = {80: 166_912, 90: 232_448}  # bytes of a block, of which the compiler does not complain


@pytest.mark.slow
def test_no_kernel_uses_a_stack_or_spills_or_more_shared_memory_than_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = Path(__file__).with_name("compile_kernels.py")
    running = {
        capability: subprocess.Popen(
            [sys.executable, program, str(capability), "--pairs"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for capability in SHARED_LIMIT
    }
    outputs = {capability: process.communicate() for capability, process in running.items()}
    with capsys.disabled():
        for capability, (output, errors) in outputs.items():
            assert running[capability].returncode == 0, errors
            kernels = [json.loads(line) for line in output.splitlines()]
            assert {kernel["kernel"].split()[0] for kernel in kernels} >= {
                "normals",
                "materialize",
                "square_norms",
                "linear",
                "fused_mlp",
                "loss_head",
                "reduce",
                "search_step",
                "compact",
                "elementwise",
                "by_rows",
                "pool",
                "embed",
                "product",
                "convolution",
                "depthwise",
                "batched",
                "attention",
                "class_losses",
                "element_losses",
                *(("shared_linear", "last_layers", "materialize_halves") if capability >= 90 else ()),
            }
            for kernel in kernels:
                assert kernel["STACK"] == 0, (capability, kernel)
                assert kernel["LOCAL"] == 0, (capability, kernel)
                assert kernel["SHARED"] <= SHARED_LIMIT[capability], (capability, kernel)
                if kernel["kernel"].startswith(("shared_linear", "last_layers")):  # those of a pass with fp16x3
                    assert min(kernel["WGMMA"], kernel["TMA"]) > 0, (capability, kernel)
            registers = sorted(kernel["REG"] for kernel in kernels)
            print(
                f"\nsm_{capability}: {len(kernels)} variants without a stack, "
                f"registers {registers[0]} to {registers[-1]}, median {registers[len(registers) // 2]}"
            )


_SIZES_THAT_SPECIALIZE = """
import importlib, json, pkgutil
import basin_triton
from compile_kernels import TYPES
from triton.runtime.jit import JITFunction

found = {}
for part in pkgutil.iter_modules(basin_triton.__path__):
    for name, kernel in vars(importlib.import_module("basin_triton." + part.name)).items():
        if isinstance(kernel, JITFunction) and name.endswith("_kernel"):
            found[name] = [
                p.name
                for p in kernel.params
                if not p.is_constexpr
                and not p.do_not_specialize
                and not TYPES.get(p.name, "*" if p.name in ("out", "targets") else "i32").startswith("*")
            ]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_sizes_that_vary_within_a_search_do_not_specialize_a_kernel() -> None:
    """Another number of rows, rays or levels must not compile a kernel anew in the middle of a search."""
    # Sizes of the network, and strides that follow from them: the same in every launch.
    fixed = {"out_stride", "normals_stride", "inputs_stride", "weight_stride", "bias_stride", "shift_stride"}
    fixed |= {"first_bias_stride", "parameters_stride", "depth", "outputs"}
    fixed |= {"row_size", "hidden", "last_stride", "last_bias_stride"}
    # The same of values of programs. What lies between two directions is a multiple of sixteen, however many examples.
    fixed |= {"count", "columns", "channels", "groups", "batch", "heads", "matrix_rows", "features", "classes"}
    fixed |= {"num_terms", "entry_stride", "column_stride", "row_stride", "x_stride", "labels_stride", "added_stride"}
    values = (
        "out",
        "x",
        "y",
        "added",
        "weight",
        "bias",
        "table",
        "indices",
        "queries",
        "keys",
        "values",
        "mask",
        "labels",
    )
    parts = ("direction", "example", "batch", "row", "column")
    fixed |= {f"{value}_{part}" for value, part in itertools.product(values, parts)}
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", _SIZES_THAT_SPECIALIZE],
        env=environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kernels = json.loads(done.stdout)
    assert len(kernels) == 23
    for kernel, sizes in kernels.items():
        assert set(sizes) <= fixed, kernel
