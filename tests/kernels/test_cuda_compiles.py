"""Every CUDA kernel compiles for the devices that a wheel is built for, without a stack or spills."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc"
KERNELS = sorted((SOURCES / "cuda").glob("*.cu"))
ARCHITECTURES = ("sm_80", "sm_90")

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the path")


def resource_usage(source: Path, architecture: str, folder: Path) -> str:
    """What the assembler says of each kernel; warnings are errors."""
    command = ["nvcc", "-std=c++17", f"-I{SOURCES}", "--fmad=false", f"-arch={architecture}", "-cubin"]
    command += ["--resource-usage", "-Werror=all-warnings", source, "-o", folder / f"{source.stem}.{architecture}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{source.name}: {done.stderr}"
    return done.stderr + done.stdout


@pytest.mark.slow
def test_kernels_use_neither_a_stack_nor_spills(tmp_path: Path) -> None:
    jobs = [(source, architecture, tmp_path) for source in KERNELS for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda job: resource_usage(*job), jobs))
    found = set()
    for (source, architecture, _), report in zip(jobs, reports, strict=True):
        entries = re.findall(
            r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
            r".*?Used (\d+) registers(.*?)$",
            report,
            flags=re.DOTALL | re.MULTILINE,
        )
        assert len(entries) == report.count("entry function") > 0, report
        for name, stack, stores, loads, registers, rest in entries:
            kernel = re.search(r"\d([a-z_]+_kernel)", name)
            assert kernel is not None, name
            found.add(kernel[1])
            print(architecture, source.stem, name[-90:], f"{registers} registers{rest}")
            assert (stack, stores, loads) == ("0", "0", "0"), f"{name} on {architecture}"
            # 65,536 registers to a multiprocessor, for blocks of 128 threads (256 where a thread takes few).
            assert int(registers) <= 255
    assert {"linear_kernel", "loss_head_kernel", "persistent_kernel", "search_step_kernel"} <= found


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not on the path")
def test_a_compiler_that_is_too_old_is_named_when_cuda_was_asked_for(tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--version*) echo "Cuda compilation tools, release 11.4, V11.4.1"; exit 0;; esac\n'
        f'exec "{shutil.which("nvcc")}" "$@"\n'
    )
    nvcc.chmod(0o755)
    command = ["cmake", "-S", ROOT, "-B", tmp_path / "build", "-DBASINVOL_CUDA=ON"]
    done = subprocess.run(command, env={**os.environ, "CUDACXX": str(nvcc)}, capture_output=True, text=True)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert f"BASINVOL_CUDA=ON but the CUDA compiler {nvcc} is of release 11.4, older than 12.0: install" in said
