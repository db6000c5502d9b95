"""Products on a CUDA device are made in float32, whatever the user allowed; the settings are as before afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.model.full_precision import full_precision

HAS_NEWER = hasattr(torch._C, "_get_fp32_precision_getter")


def settings() -> dict[str, object]:
    """Everything that torch lets one read of TF32 without a warning."""
    found: dict[str, object] = {}
    for name in ("_get_cublas_allow_tf32", "_get_cudnn_allow_tf32", "_get_float32_matmul_precision"):
        try:
            found[name] = getattr(torch._C, name)()
        except RuntimeError:  # the newer interface was used
            found[name] = "mixed"
    if HAS_NEWER:
        for backend in ("generic", "cuda", "mkldnn"):
            for operation in ("all",) if backend == "generic" else ("all", "matmul", "conv", "rnn"):
                found[f"{backend} {operation}"] = torch._C._get_fp32_precision_getter(backend, operation)
    return found


def allows_tf32() -> bool:
    if HAS_NEWER:
        return any(torch._C._get_fp32_precision_getter("cuda", what) == "tf32" for what in ("matmul", "conv", "rnn"))
    return torch._C._get_cublas_allow_tf32() or torch._C._get_cudnn_allow_tf32()


class Recording(nn.Module):
    """Notes the settings with which it is called."""

    seen: list[bool] = []  # noqa: RUF012  (of the class, so that the guard lets it alone)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        Recording.seen.append(allows_tf32())
        with torch.backends.cudnn.flags(enabled=False):  # reads the older interface
            return self.layer(x)


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("basinvol.model.full_precision.multiplies_in_tf32", lambda device: True)
    Recording.seen.clear()
    yield
    assert Recording.seen


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(12, 3), torch.arange(12) % 2


@pytest.mark.filterwarnings("ignore:Please use the new API:UserWarning")
@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_tf32_is_off_while_a_model_runs_and_back_afterwards(backend: str, data: tuple[Tensor, Tensor]) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        before = settings()
        assert allows_tf32()
        bv.estimate_volume(Recording(), F.cross_entropy, data, 2.0, 3, backend=backend, scaling="none")
        assert not any(Recording.seen)
        assert settings() == before
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.filterwarnings("ignore:Please use the new API:UserWarning")
@pytest.mark.usefixtures("on_device")
def test_a_failure_puts_the_settings_back(data: tuple[Tensor, Tensor]) -> None:
    def failing(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(Recording.seen) > 30:
            raise RuntimeError("out of memory")
        return F.cross_entropy(outputs, targets)

    before = settings()
    with pytest.raises(RuntimeError, match="out of memory"):
        bv.estimate_volume(Recording(), failing, data, 2.0, 40, backend="torch", scaling="none")
    assert settings() == before


def test_a_cpu_is_left_alone(data: tuple[Tensor, Tensor]) -> None:
    Recording.seen.clear()
    before = allows_tf32()  # convolutions are, by torch's default
    bv.Landscape(Recording(), F.cross_entropy, data).losses()
    assert set(Recording.seen) == {before}


def test_measurements_may_overlap() -> None:
    before = settings()
    first, second = full_precision(), full_precision()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not allows_tf32()
    second.__exit__(None, None, None)
    assert settings() == before


_IN_A_PROCESS_OF_ITS_OWN = """
import sys, warnings
warnings.simplefilter("error")
import torch
sys.path.insert(0, {folder!r})
from test_full_precision import allows_tf32, full_precision, settings
def newer(*arguments):
    torch._C._set_fp32_precision_setter(*arguments)
{change}
before = settings()
with full_precision():
    assert not allows_tf32(), settings()
assert settings() == before, (before, settings())
"""
CHANGES: dict[str, str] = {
    "torch's defaults": "",
    "the older interface": 'torch._C._set_cudnn_allow_tf32(False); torch.set_float32_matmul_precision("medium")',
    "everything by the newer": 'newer("generic", "all", "tf32")',
    "nothing by the newer": 'newer("generic", "all", "ieee")',
    "a device by the newer": 'newer("cuda", "all", "tf32")',
    "products by the newer": 'newer("cuda", "matmul", "tf32")',
    "one of two by the newer": 'newer("cuda", "conv", "ieee")',
    "the CPU by the newer": 'newer("mkldnn", "matmul", "bf16")',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_settings_of_either_interface_come_back(name: str, request: pytest.FixtureRequest) -> None:
    if "newer" in name and not HAS_NEWER:
        pytest.skip("this torch has the older interface alone")
    program = _IN_A_PROCESS_OF_ITS_OWN.format(folder=str(request.path.parent), change=CHANGES[name])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
