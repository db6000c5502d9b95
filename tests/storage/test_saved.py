"""Results in files: what is loaded is what was saved, to the bit, and what is no result is refused in one sentence."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from torch.nn import functional as F

import basinvol as bv


@pytest.fixture(scope="module")
def estimated(trained, blobs) -> bv.VolumeEstimate:
    return bv.estimate_volume(trained, F.cross_entropy, blobs, cutoff=0.1, num_directions=40, seed=3)


def assert_equal(first: Any, second: Any) -> None:
    """Equal to the bit, NaN and types included, through everything that a result holds."""
    assert type(first) is type(second)
    if isinstance(first, Tensor):
        assert first.dtype == second.dtype
        assert first.shape == second.shape
        assert first.numpy().tobytes() == second.numpy().tobytes()
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second, strict=True)
    elif dataclasses.is_dataclass(first):
        for part in dataclasses.fields(first):
            assert_equal(getattr(first, part.name), getattr(second, part.name))
    elif isinstance(first, Mapping):
        assert list(first) == list(second)
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, (tuple, list)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    elif isinstance(first, float) and math.isnan(first):
        assert math.isnan(second)
    else:
        assert first == second


def everything(estimated: bv.VolumeEstimate) -> list[Any]:
    """One result of each kind that can be saved."""
    case = bv.ground_truth.ball(3)
    model, loss_fn, data = case.task()
    directions = bv.Directions(bv.ParameterSpace.of(model), count=3)
    radii = bv.find_radii(bv.Landscape(model, loss_fn, data), directions, [1.0, 4.0], scaling="none")
    options = {"num_chains": 64, "num_moves": 1, "rounds": 1}
    coefficient = bv.learning_coefficient(
        model, loss_fn, data, 0.05, method="splitting", method_options=options, num_directions=8, probe=False
    )
    other = dataclasses.replace(estimated, log_mean_power=estimated.log_mean_power - 1.0)
    return [
        estimated,
        radii,
        coefficient,
        coefficient.estimate.curve(),
        bv.compare([estimated, other], ["a", "b"]),
        bv.loss_profile(model, loss_fn, data, num_directions=4, num_radii=5, scaling="none"),
    ]


def test_every_result_is_loaded_as_it_was_saved_and_reads_the_same(estimated, tmp_path: Path) -> None:
    for i, result in enumerate(everything(estimated)):
        path = tmp_path / f"{i}.anything"
        result.save(path)
        loaded = bv.load(path)
        assert_equal(result, loaded)
        assert str(loaded) == str(result)
        loaded.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [*map("{}.anything".format, range(6)), "again"]


def test_a_file_can_be_read_by_numpy_without_pickle(estimated, tmp_path: Path) -> None:
    estimated.save(tmp_path / "estimate.npz")
    with np.load(tmp_path / "estimate.npz", allow_pickle=False) as archive:
        assert archive["radii.lower"].tolist() == estimated.radii.lower.tolist()
        document = json.loads(str(archive["document"]))
    assert document["value"]["fields"]["cutoff"] == 0.1


def changed(path: Path, old: str, new: str) -> Path:
    """The same archive with another document."""
    with np.load(path) as archive:
        entries = {name: archive[name] for name in archive.files}
    assert old in str(entries["document"])
    entries["document"] = np.array(str(entries["document"]).replace(old, new))
    file = io.BytesIO()
    np.savez(file, **entries)
    path.write_bytes(file.getvalue())
    return path


def test_what_is_no_result_is_refused_in_one_sentence(estimated, tmp_path: Path) -> None:
    path = tmp_path / "estimate"
    with pytest.raises(ValueError, match=r"`path` is .*nowhere, which cannot be read: No such file or directory\."):
        bv.load(tmp_path / "nowhere")
    path.write_text("not an archive")
    with pytest.raises(ValueError, match=r"estimate is not a file that basinvol saved"):
        bv.load(path)
    with path.open("wb") as file:
        np.savez(file, a=np.ones(2))
    with pytest.raises(ValueError, match=r"estimate is not a file that basinvol saved"):
        bv.load(path)
    estimated.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"estimate is not a file that basinvol saved"):
        bv.load(path)
    for old, new, sentence in (
        ('"format": 1', '"format": 2', "in format 2, and this one reads 1"),
        ('"type": "Radii"', '"type": "Popen"', "it holds a 'Popen', which this version of basinvol does not know"),
        ('"backend_reason"', '"reason_of_backend"', "its VolumeEstimate has other fields than this version"),
    ):
        estimated.save(path)
        with pytest.raises(ValueError, match=sentence):
            bv.load(changed(path, old, new))


def test_what_cannot_be_saved_is_named_and_leaves_the_old_file(estimated, tmp_path: Path) -> None:
    path = tmp_path / "estimate"
    estimated.save(path)
    before = path.read_bytes()
    odd = dataclasses.replace(estimated, details={"note": object()})
    with pytest.raises(ValueError, match=r"`details\.note` is a object, which cannot be saved"):
        odd.save(path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"in a folder that does not exist; make .*nowhere first"):
        estimated.save(tmp_path / "nowhere" / "estimate")
    assert [part.name for part in tmp_path.iterdir()] == ["estimate"]
