"""A network over two processes by torch.distributed.tensor has the radii of the same network in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import basinvol as bv

PROGRAM = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import basinvol as bv

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
whole = {name: p.detach().clone() for name, p in model.named_parameters()}
mesh = init_device_mesh("cpu", (2,))
parallel = parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
spread = bv.TensorParallel(parallel)
assert all(torch.equal(p, whole[name]) for name, p in spread.named_parameters())
x, y = torch.load(f"{folder}/data.pt")
landscape = bv.Landscape(spread, nn.functional.cross_entropy, (x, y), levels=[20, 40])
directions = bv.Directions(bv.ParameterSpace.of(spread), 12)
radii = bv.find_radii(landscape, directions, [2.0], backend="reference")
torch.save({"lower": radii.lower, "upper": radii.upper, "names": directions.space.names}, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_every_rank_finds_the_radii_of_one_process(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 6, generator=generator), torch.arange(40) % 3
    torch.save((x, y), tmp_path / "data.pt")
    ranks = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [rank.wait() for rank in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    space = bv.ParameterSpace.of(model)
    landscape = bv.Landscape(model, nn.functional.cross_entropy, (x, y), levels=[20, 40])
    alone = bv.find_radii(landscape, bv.Directions(space, 12), [2.0], backend="reference")
    assert first["names"] == space.names
    assert torch.equal(first["lower"], second["lower"])  # the ranks never part
    assert torch.equal(first["upper"], second["upper"])
    # Both brackets hold the same radius, up to the rounding of float32 sums in another order.
    assert bool((first["lower"] <= alone.upper * (1 + 1e-5)).all())
    assert bool((alone.lower <= first["upper"] * (1 + 1e-5)).all())


def test_a_module_that_is_not_spread_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`module` must have parameters that torch.distributed.tensor has spread"):
        bv.TensorParallel(nn.Linear(2, 2))
