"""Data sets in their published files: IDX, CIFAR-10 batches, SVHN .mat. Nothing read here can run code."""

from __future__ import annotations

import gzip
import hashlib
import math
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

# MD5 of the files as published, by data set. MD5 finds a broken download, which is all it is for here.
CHECKSUMS: dict[str, dict[str, str]] = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    "svhn": {
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    "shakespeare": {"input.txt": "6fb458f1232090904fb40fe944165e91"},
}

_FOLDERS = ("", "MNIST/raw", "FashionMNIST/raw", "cifar-10-batches-py", "cifar-10-batches-bin")
_CIFAR_PARTS = tuple(f"data_batch_{part}" for part in range(1, 6))
_UNSIGNED_BYTE = 0x08  # the type code of IDX


@dataclass(frozen=True)
class Images:
    """A data set as published: images [N, channels, height, width] and labels [N], for training and for testing."""

    inputs: Bytes
    labels: NDArray[np.int64]
    test_inputs: Bytes
    test_labels: NDArray[np.int64]


def read_files(name: str, folder: Path) -> Images:
    """Reads a data set from its published files.

    Args:
        name: "mnist", "fashion-mnist", "cifar10" or "svhn".
        folder: where the files are, or the subfolder that their archive unpacks to.

    Raises:
        ValueError: a file is missing, is not what its name says, or is not the published one.
    """
    parts = {"mnist": _idx_images, "fashion-mnist": _idx_images, "cifar10": _cifar10, "svhn": _svhn}[name](name, folder)
    (inputs, labels), (test_inputs, test_labels) = parts
    for images, numbers, kind in ((inputs, labels, "training"), (test_inputs, test_labels, "test")):
        if len(images) != len(numbers):
            raise ValueError(f"`data_dir`: {len(images)} {kind} images of {name} have {len(numbers)} labels.")
        if len(numbers) == 0 or numbers.min() < 0 or numbers.max() > 9:
            raise ValueError(f"`data_dir`: the {kind} labels of {name} must be between 0 and 9, at least one.")
    return Images(inputs, labels, test_inputs, test_labels)


def read_idx(path: Path) -> Bytes:
    """The array of bytes in an IDX file, packed with gzip or not.

    Raises:
        ValueError: not an IDX file of unsigned bytes, or cut short.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise ValueError(f"`data_dir`: {path.name} cannot be unpacked ({error}); fetch it again.") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE or not 1 <= content[3] <= 4:
        raise ValueError(f"`data_dir`: {path.name} is not an IDX file of unsigned bytes.")
    header = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:header]) if len(content) >= header else (0,)
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"`data_dir`: {path.name} announces shape {list(shape)} and holds {len(content) - header} bytes; fetch it "
            "again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _idx_images(name: str, folder: Path) -> Iterator[tuple[Bytes, NDArray[np.int64]]]:
    for part in ("train", "t10k"):
        images = read_idx(find_file(name, folder, f"{part}-images-idx3-ubyte", f"{part}-images-idx3-ubyte.gz"))
        labels = read_idx(find_file(name, folder, f"{part}-labels-idx1-ubyte", f"{part}-labels-idx1-ubyte.gz"))
        if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.ndim != 1:
            raise ValueError(
                f"`data_dir`: {name} has images of 28 x 28 and one label each, got shapes {list(images.shape)} and "
                f"{list(labels.shape)} in the {part} files."
            )
        yield images[:, None], labels.astype(np.int64)


def _cifar10(name: str, folder: Path) -> Iterator[tuple[Bytes, NDArray[np.int64]]]:
    for parts in (_CIFAR_PARTS, ("test_batch",)):
        batches = [_cifar10_batch(find_file(name, folder, part, f"{part}.bin")) for part in parts]
        rows = np.concatenate([images for images, _ in batches])
        yield rows.reshape(-1, 3, 32, 32), np.concatenate([labels for _, labels in batches])


def _cifar10_batch(path: Path) -> tuple[Bytes, NDArray[np.int64]]:
    """Images [n, 3072], red then green then blue, and labels [n]."""
    if path.suffix == ".bin":
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        if len(content) == 0 or len(content) % 3073:
            raise ValueError(
                f"`data_dir`: {path.name} is not made of records of 1 + 3072 bytes, it has {len(content)}."
            )
        records = content.reshape(-1, 3073)
        return records[:, 1:], records[:, 0].astype(np.int64)
    batch = read_pickled_arrays(path)
    images, labels = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (3072,):
        raise ValueError(f"`data_dir`: {path.name} has no uint8 array of 3072 columns under b'data'.")
    return images, np.asarray(labels, dtype=np.int64)


def _svhn(name: str, folder: Path) -> Iterator[tuple[Bytes, NDArray[np.int64]]]:
    from scipy.io import loadmat

    for part in ("train_32x32.mat", "test_32x32.mat"):
        path = find_file(name, folder, part)
        try:
            content = loadmat(path, variable_names=["X", "y"])
            images, labels = content["X"], content["y"]
        # loadmat raises these for files of another kind, cut short, or of version 7.3; KeyError: a missing variable.
        except (KeyError, ValueError, TypeError, NotImplementedError, OSError) as error:
            raise ValueError(f"`data_dir`: {part} is not a MATLAB file with X and y ({error}).") from error
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
            raise ValueError(f"`data_dir`: X in {part} must be 32 x 32 x 3 x N bytes, got {list(images.shape)}.")
        # SVHN labels zeros 10.
        yield np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels.reshape(-1).astype(np.int64) % 10


def read_pickled_arrays(path: Path) -> dict[Any, Any]:
    """The dictionary in a pickle of lists, strings and NumPy arrays; anything else in it is refused and does not run.

    Raises:
        ValueError: the file is no such pickle, or asks for anything but arrays.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"`data_dir`: {path.name} is not a batch of CIFAR-10 ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"`data_dir`: {path.name} is not a batch of CIFAR-10 (it holds a {type(content).__name__}).")
    return content


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that can rebuild NumPy arrays and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "dtype"): np.dtype,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy._core.multiarray", "_reconstruct"): _empty_array,
            ("_codecs", "encode"): _latin1,  # how Python 3 writes bytes for Python 2
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not needed to rebuild an array")
        return allowed[module, name]


def _empty_array(kind: Any, shape: Any, code: Any) -> NDArray[Any]:
    """The empty array that NumPy's `_reconstruct` begins with; the content follows as its state."""
    return np.ndarray((0,), dtype=np.uint8)


def _latin1(text: str, encoding: Any) -> bytes:
    return text.encode("latin1")


def find_file(name: str, folder: Path, *candidates: str) -> Path:
    """The first of these files that exists; it must be the published one where its checksum is known.

    Args:
        name: of the data set.
        folder: where the files are, or the subfolder that their archive unpacks to.
        candidates: names that the file may have.

    Raises:
        ValueError: there is none of them, or it is another file than the published one.
    """
    for subfolder in _FOLDERS:
        for candidate in candidates:
            path = folder / subfolder / candidate
            if path.is_file():
                _check(path, CHECKSUMS[name].get(candidate))
                return path
    raise ValueError(f"`data_dir` {str(folder)!r} has no {' or '.join(candidates)}, which {name} needs.")


def _check(path: Path, expected: str | None) -> None:
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.md5(usedforsecurity=False)
        while block := file.read(2**20):
            found.update(block)
    if found.hexdigest() != expected:
        raise ValueError(
            f"`data_dir`: {path.name} is not the published file: its MD5 is {found.hexdigest()}, not {expected}; fetch "
            "it again."
        )
