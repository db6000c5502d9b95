"""Every Triton kernel compiles for the devices that production would launch it on, without a stack or spills.

Of its variants as many are compiled here as it takes for any two settings to meet; `compile_kernels.py` compiles all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed on this platform")

SHARED_LIMIT = {80: 166_912, 90: 232_448}  # bytes of a block, of which the compiler does not complain


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
            }
            for kernel in kernels:
                assert kernel["STACK"] == 0, (capability, kernel)
                assert kernel["LOCAL"] == 0, (capability, kernel)
                assert kernel["SHARED"] <= SHARED_LIMIT[capability], (capability, kernel)
            registers = sorted(kernel["REG"] for kernel in kernels)
            print(
                f"\nsm_{capability}: {len(kernels)} variants without a stack, "
                f"registers {registers[0]} to {registers[-1]}, median {registers[len(registers) // 2]}"
            )
