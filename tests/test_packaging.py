"""What a user meets before anything is measured: a failed build and an unbuilt checkout explain themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not on the path")
def test_without_a_compiler_the_build_says_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cmake", "make", "sh", "env", "uname"):
        if found := shutil.which(name):
            (tools / name).symlink_to(Path(found).resolve())
    environment = {"PATH": str(tools), "HOME": str(tmp_path)}
    done = subprocess.run(
        [tools / "cmake", "-S", ROOT, "-B", tmp_path / "build"], env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "basinvol needs a C++17 compiler and found none: install g++ or clang++" in done.stderr


def test_a_checkout_that_is_not_built_says_how_to_build_it() -> None:
    # -S leaves out site-packages, where the built package lies.
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import basinvol"], env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "basinvol's C++ extension is not built: run `pip install .`" in done.stderr


def test_importing_the_package_does_not_import_torch_or_triton() -> None:
    code = "import sys, basinvol; print(basinvol.__version__); assert not {'torch', 'triton'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_benchmarks_import_what_there_is() -> None:
    pytest.importorskip("triton", reason="benchmarks.gpu needs it, and it is not installed on this platform")
    files = (path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "benchmarks").rglob("*.py")))
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    modules = [".".join(file.parts) for file in files]
    done = subprocess.run([sys.executable, "-c", code, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
