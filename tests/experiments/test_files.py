"""Published data files, in their real formats but small: read right, and refused when broken or dangerous."""

from __future__ import annotations

import dataclasses
import gzip
import pickle
import struct
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from basinvol.experiments.data import files, sources
from basinvol.experiments.data.examples import load
from basinvol.experiments.data.files import read_files, read_idx, read_pickled_arrays
from basinvol.experiments.data.sources import read_source
from basinvol.experiments.describe.families import describe

RANDOM = np.random.RandomState(5)
LABELS = np.arange(40) % 10
GREY = RANDOM.randint(0, 256, (40, 28, 28), dtype=np.uint8)
COLOR = RANDOM.randint(0, 256, (40, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files made here are not the published ones; the test of checksums sets its own."""
    monkeypatch.setattr(files, "CHECKSUMS", {name: {} for name in files.CHECKSUMS})
    read_source.cache_clear()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, ending: str = "") -> None:
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", GREY), ("labels-idx1", LABELS.astype(np.uint8))):
            content = idx(array)
            packed = gzip.compress(content) if ending else content
            (folder / f"{part}-{kind}-ubyte{ending}").write_bytes(packed)


def write_cifar_binary(folder: Path) -> None:
    records = np.concatenate([LABELS.astype(np.uint8)[:, None], COLOR.reshape(40, -1)], axis=1)
    for part, batch in enumerate(np.split(records, 5), start=1):
        (folder / f"data_batch_{part}.bin").write_bytes(batch.tobytes())
    (folder / "test_batch.bin").write_bytes(records.tobytes())


def write_cifar_pickles(folder: Path, protocol: int = 2) -> None:
    """As Python 2 wrote them: byte strings for keys."""

    def batch(rows: np.ndarray) -> bytes:
        content = {b"data": COLOR[rows].reshape(-1, 3072), b"labels": LABELS[rows].tolist(), b"batch_label": b"x"}
        return pickle.dumps(content, protocol=protocol)

    for part, rows in enumerate(np.split(np.arange(40), 5), start=1):
        (folder / f"data_batch_{part}").write_bytes(batch(rows))
    (folder / "test_batch").write_bytes(batch(np.arange(40)))


def write_svhn(folder: Path) -> None:
    from scipy.io import savemat

    labels = np.where(LABELS == 0, 10, LABELS)[:, None].astype(np.uint8)
    for part in ("train", "test"):
        savemat(folder / f"{part}_32x32.mat", {"X": COLOR.transpose(2, 3, 1, 0), "y": labels})


WRITERS: list[tuple[str, str, Callable[[Path], None], np.ndarray]] = [
    ("mnist", "IDX", write_idx, GREY[:, None]),
    ("fashion-mnist", "IDX packed", lambda folder: write_idx(folder, ".gz"), GREY[:, None]),
    ("cifar10", "binary", write_cifar_binary, COLOR),
    ("cifar10", "pickles", write_cifar_pickles, COLOR),
    ("cifar10", "pickles of Python 3", lambda folder: write_cifar_pickles(folder, 4), COLOR),
    ("svhn", "MATLAB", write_svhn, COLOR),
]


@pytest.mark.parametrize(("name", "kind", "write", "images"), WRITERS, ids=[f"{w[0]}-{w[1]}" for w in WRITERS])
def test_published_formats_are_read_as_they_were_written(
    name: str, kind: str, write: Callable[[Path], None], images: np.ndarray, tmp_path: Path
) -> None:
    write(tmp_path)
    found = read_files(name, tmp_path)
    np.testing.assert_array_equal(found.inputs, images)
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(found.test_inputs, images)
    np.testing.assert_array_equal(found.test_labels, LABELS)


def test_the_subfolders_of_the_archives_are_found(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    write_cifar_pickles(tmp_path / "cifar-10-batches-py")
    assert read_files("cifar10", tmp_path).inputs.shape == (40, 3, 32, 32)


class Exploit:
    """Runs a command when it is unpickled the ordinary way."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.witness)!r}, 'w')",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(protocol: int, tmp_path: Path) -> None:
    path, witness = tmp_path / "data_batch_1", tmp_path / "it-ran"
    content = pickle.dumps({b"data": COLOR.reshape(40, -1), b"labels": Exploit(witness)}, protocol=protocol)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data_batch_1 is not a batch of CIFAR-10 \(it asks for "):
        read_pickled_arrays(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch /tmp/never'\ntR.",
        b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(S'x'\ntR.",
        b"cbuiltins\ngetattr\n(S'x'\nS'y'\ntR.",
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
    ],
)
def test_other_pickles_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "test_batch"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="test_batch is not a batch of CIFAR-10"):
        read_pickled_arrays(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\0\0\x0d\1\0\0\0\1abcd", "is not an IDX file of unsigned bytes"),
        (b"\0\0\x08\1\0\0\0\5abcd", r"announces shape \[5\] and holds 4 bytes"),
        (b"\0\0\x08\3\0\0", "announces shape"),
        (b"", "is not an IDX file"),
    ],
)
def test_broken_idx_files_are_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_idx(path)


def test_a_gzip_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(LABELS.astype(np.uint8)))[:-9])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        read_idx(path)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:-1].astype(np.uint8)))
    with pytest.raises(ValueError, match="40 training images of mnist have 39 labels"):
        read_files("mnist", tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx((LABELS + 1).astype(np.uint8)))
    with pytest.raises(ValueError, match="the training labels of mnist must be between 0 and 9"):
        read_files("mnist", tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(COLOR[:, 0]))
    with pytest.raises(ValueError, match=r"images of 28 x 28 and one label each, got shapes \[40, 32, 32\]"):
        read_files("mnist", tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no train_32x32\.mat, which svhn needs"):
        read_files("svhn", tmp_path)
    (tmp_path / "train_32x32.mat").write_bytes(b"not MATLAB" * 40)
    with pytest.raises(ValueError, match=r"train_32x32\.mat is not a MATLAB file with X and y"):
        read_files("svhn", tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="not made of records of 1"):
        read_files("cifar10", tmp_path)


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, ".gz")
    monkeypatch.setitem(files.CHECKSUMS, "mnist", {"train-images-idx3-ubyte.gz": "0" * 32})
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is not the published file: its MD5 is"):
        read_files("mnist", tmp_path)


def test_a_paper_preset_trains_on_files_and_normalizes_them_as_published(tmp_path: Path) -> None:
    write_cifar_pickles(tmp_path)
    experiment = dataclasses.replace(describe("cifar10-data-scaling", "paper"), base=10, levels=(0, 20))
    split = load(experiment, 11, tmp_path)
    assert split.inputs.shape == (30, 3072)
    raw = COLOR.astype(np.float32) / 255
    mean, deviation = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    expected = (raw - mean[:, None, None]) / deviation[:, None, None]
    np.testing.assert_allclose(split.test_inputs.numpy(), expected.reshape(40, -1), rtol=1e-5, atol=1e-6)
    again = load(experiment, 11, tmp_path)
    assert split.fingerprint() == again.fingerprint() != load(experiment, 12, tmp_path).fingerprint()


def smooth_images() -> np.ndarray:
    """Color gradients: neighbors are alike, channels are not."""
    y, x = np.mgrid[0:32, 0:32]
    planes = np.stack([4 * y, 250 - 4 * x, 2 * (x + y)])
    return np.repeat(planes[None], 6, axis=0).astype(np.uint8)


@pytest.mark.parametrize("is_interleaved", [False, True])
def test_openml_is_read_whichever_way_its_pixels_lie(is_interleaved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    images = smooth_images()
    rows = images.transpose(0, 2, 3, 1).reshape(6, -1) if is_interleaved else images.reshape(6, -1)
    labels = np.array(["1", "2", "10", "4", "5", "6"])
    monkeypatch.setitem(sources._OPENML, "svhn", ("SVHN", 1, (3, 32, 32), 4))
    monkeypatch.setattr(
        "sklearn.datasets.fetch_openml",
        lambda *_, **__: types.SimpleNamespace(data=rows.astype(np.float64), target=labels),
    )
    source = read_source("svhn", None)
    np.testing.assert_array_equal(source.inputs, images[:4])
    np.testing.assert_array_equal(source.labels, [1, 2, 0, 4])
    assert source.test_inputs is not None
    assert len(source.test_inputs) == 2


def test_no_network_and_no_files_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", unreachable)
    with pytest.raises(ValueError, match=r"mnist cannot be found: OpenML's mnist_784 cannot be fetched.*--data-dir"):
        load(describe("mnist-data-scaling", "paper"), 10)


def test_an_openml_data_set_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = types.SimpleNamespace(data=np.zeros((5, 10)), target=np.array(["1"] * 5))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: found)
    with pytest.raises(ValueError, match=r"mnist_784 must hold more than 60000 images of 784 pixels, got \[5, 10\]"):
        read_source("mnist", None)
