"""The Triton generator gives the directions of the reference; on the interpreter where there is no GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed on this platform")

from basin_triton import normals
from basinvol import _native
from basinvol.model.philox import philox_normals

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 + 11])
@pytest.mark.parametrize("size", [1, 3, 4, 4097])
def test_the_kernel_gives_the_normals_of_the_reference(seed: int, size: int) -> None:
    directions = torch.tensor([0, 7, 2**32 - 1], device=_DEVICE)
    found = normals(seed, directions, tensor=5, size=size).cpu()
    for row, direction in enumerate(directions.tolist()):
        torch.testing.assert_close(found[row], philox_normals(seed, direction, 5, size), rtol=0, atol=1e-6)


def test_the_kernel_gives_the_bits_of_the_cpu_engine() -> None:
    found = normals(3, torch.tensor([11], device=_DEVICE), tensor=2, size=4096).cpu()
    assert np.array_equal(found[0].numpy(), _native.philox_normals(3, 11, 2, 4096))


def test_directions_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`directions` must be int64 \[n\], got torch.int32 \[1\]"):
        normals(0, torch.zeros(1, dtype=torch.int32), tensor=0, size=4)


def test_an_empty_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="`size` must be positive, got 0"):
        normals(0, torch.zeros(1, dtype=torch.int64), tensor=0, size=0)
