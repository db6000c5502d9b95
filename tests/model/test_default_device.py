"""The default device that a user sets: no tensor of the package is made there, and the model sees it while it runs.

"meta" stands for a device: tensors that were made there by mistake have no values, so that nothing can be computed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.model.default_device import cpu_by_default, users_default

CUTOFF = 0.5


@pytest.fixture
def on_meta() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


SEEN: set[str] = set()  # not an attribute of the model, which the package would put back


class Watched(nn.Module):
    """Notes torch's default device at every call."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net)

    def forward(self, x: Tensor) -> Tensor:
        SEEN.add(torch.get_default_device().type)
        return self.net(x)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
@pytest.mark.parametrize("resolve", ["all", "decisive"])
def test_a_default_device_changes_no_byte(trained, blobs, backend, resolve, request) -> None:
    given = {"cutoff": CUTOFF, "num_directions": 40, "backend": backend, "resolve": resolve}
    expected = bv.estimate_volume(trained, F.cross_entropy, blobs, **given)
    request.getfixturevalue("on_meta")
    found = bv.estimate_volume(trained, F.cross_entropy, blobs, **given)
    torch.set_default_device(None)
    assert found.log_volume == expected.log_volume
    assert found.radii is not None
    assert expected.radii is not None
    assert found.radii.lower.numpy().tobytes() == expected.radii.lower.numpy().tobytes()


@pytest.mark.parametrize("method", ["annealed", "splitting", "hit-and-run"])
def test_chains_and_walkers_take_no_notice(body, body_loss, one_example, method, request) -> None:
    model = body(lambda w: w.square().sum(), 4)
    options = {"measure": "ball" if method == "hit-and-run" else "gaussian", "method": method}
    options |= {"radius": 0.9} if method == "hit-and-run" else {"sigma": 0.5}
    given = {"cutoff": 1.0, "num_directions": 16, "scaling": "none", **options}
    expected = bv.estimate_volume(model, body_loss, one_example, **given)
    request.getfixturevalue("on_meta")
    assert bv.estimate_volume(model, body_loss, one_example, **given).log_volume == expected.log_volume


@pytest.mark.usefixtures("on_meta")
def test_the_model_runs_with_the_users_default_and_finds_it_afterwards(trained, blobs) -> None:
    model = Watched(trained)
    SEEN.clear()
    for backend in ("torch", "reference"):
        landscape = bv.Landscape(model, F.cross_entropy, blobs)
        directions = bv.Directions(bv.ParameterSpace.of(model), 4)
        bv.find_radii(landscape, directions, [CUTOFF], backend=backend)
    assert {"meta"} == SEEN
    assert torch.get_default_device().type == "meta"


@pytest.mark.usefixtures("on_meta")
def test_the_users_default_is_known_inside_the_package_and_back_after_an_error() -> None:
    @cpu_by_default
    def fails() -> None:
        assert torch.get_default_device().type == "cpu"
        assert users_default().type == "meta"
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        fails()
    assert torch.get_default_device().type == "meta"
    assert users_default().type == "meta"
