"""The loss against the radius."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basinvol import loss_profile


def test_the_profile_of_a_quadratic_is_its_parabola(
    body: Any, body_loss: Any, one_example: tuple[Tensor, Tensor]
) -> None:
    dim = 400
    model = body(lambda w: 1.0 + (w**2).sum(), dim)
    profile = loss_profile(model, body_loss, one_example, num_directions=40, num_radii=9, scaling="none")
    assert profile.center_loss == 1.0
    assert profile.radius[-1] == pytest.approx(100 * profile.radius[0])
    assert profile.radius[0] == pytest.approx(0.1, rel=0.01)  # where the loss is 1.01
    rise = profile.losses - 1.0
    # Radii of single rays differ by about 1 / sqrt(2 P).
    np.testing.assert_allclose(rise.mean(axis=0), profile.radius**2, rtol=5 * 2 / math.sqrt(2 * dim * 40))
    np.testing.assert_allclose(rise, np.broadcast_to(profile.radius**2, rise.shape), rtol=5 * 2 / math.sqrt(2 * dim))


def test_backends_agree_and_the_text_has_a_line_for_every_radius(
    trained: nn.Sequential, blobs: tuple[Tensor, Tensor]
) -> None:
    native = loss_profile(trained, F.cross_entropy, blobs, 8, 6, backend="native", num_threads=1)
    reference = loss_profile(trained, F.cross_entropy, blobs, 8, 6, backend="reference", num_threads=1)
    # The radii come from a rise of 1e-5, near what float32 resolves; along these rays the loss grows at most as r^6.
    apart = abs(native.radius[0] / reference.radius[0] - 1)
    assert apart < 1e-2
    np.testing.assert_allclose(native.losses, reference.losses, rtol=6 * apart + 1e-4)
    assert (np.diff(native.quantiles, axis=0) >= 0).all()
    lines = str(native).splitlines()
    assert len(lines) == 2 + 6
    assert lines[0].startswith("loss at the center")
    assert all(line.count("o") == 1 for line in lines[2:])
    assert native.plot().axes[0].get_xlabel() == "radius (filter-normalized units)"


def test_a_loss_that_breaks_is_infinite_from_there_on(trained: nn.Sequential, blobs: tuple[Tensor, Tensor]) -> None:
    def breaks(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(outputs, targets)
        return torch.where(loss > 0.03, math.nan, loss)

    profile = loss_profile(trained, breaks, blobs, 5, 7, num_threads=1)
    assert np.isinf(profile.losses[:, -1]).all()
    assert np.isfinite(profile.losses[:, 0]).all()
    assert "inf" in str(profile)
    assert profile.to_dict()["quantiles"]["0.5"][-1] is None


def test_a_flat_loss_is_refused(body: Any, body_loss: Any, one_example: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"the loss does not rise from 1 to 1\.01 along 4 directions"):
        loss_profile(body(lambda w: 1.0 + 0.0 * w.sum(), 5), body_loss, one_example, 4, scaling="none")
    with pytest.raises(ValueError, match="`num_radii` must be at least 2, got 1"):
        loss_profile(body(lambda w: (w**2).sum(), 5), body_loss, one_example, num_radii=1)


@pytest.mark.slow
def test_the_command_prints_the_profile_and_draws_it(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(
        "import torch\n"
        "def make_task():\n"
        "    torch.manual_seed(0)\n"
        "    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))\n"
        "    x = torch.randn(30, 4)\n"
        "    return model, torch.nn.functional.cross_entropy, (x, model(x).argmax(1).detach())\n"
    )
    command = [sys.executable, "-m", "basinvol", "profile", "task:make_task", "--directions", "4", "--radii", "3"]
    done = subprocess.run([*command, "--json", "--figure", "profile.svg"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["radius"]) == 3
    assert (tmp_path / "profile.svg").read_text().count("<svg") == 1
    refused = subprocess.run([*command, "--figure", "profile.txt"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "`figure` must end in .svg, .pdf, .png, got 'profile.txt'." in refused.stderr
