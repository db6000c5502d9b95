"""Every Triton kernel compiles for the devices that production would launch it on, without a stack or spills.

In a process of its own: the interpreter, once chosen in a process, can not be left.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="triton is not installed on this platform")

COMPILE = """
import pathlib, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from basin_triton.normals import _BLOCK, _normals_kernel

capability = int(sys.argv[1])
signature = {"out": "*fp32", "directions": "*i64", "seed": "i64", "tensor": "i32", "size": "i32", "BLOCK": "constexpr"}
source = ASTSource(_normals_kernel, signature, constexprs={"BLOCK": _BLOCK})
options = {"enable_fp_fusion": False}
built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
assert built.asm["cubin"], "no cubin"
assert built.metadata.shared <= {80: 166912, 90: 232448}[capability]

tools = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin"
with tempfile.TemporaryDirectory() as folder:
    cubin = pathlib.Path(folder, "kernel.cubin")
    cubin.write_bytes(built.asm["cubin"])
    command = [tools / "cuobjdump", "--dump-resource-usage", cubin]
    print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
"""


@pytest.mark.parametrize("capability", [80, 90])
def test_normals(capability: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(capability)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    usage = re.findall(r"(REG|STACK|LOCAL):(\d+)", done.stdout)
    assert {name for name, _ in usage} == {"REG", "STACK", "LOCAL"}, done.stdout
    assert all(int(size) == 0 for name, size in usage if name != "REG"), done.stdout
