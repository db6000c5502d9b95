"""A perceptron without the weights that its inputs never read, and with the same Gaussian measure of all losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Inputs beyond this share of the largest singular value are as small as float32 rounds.
_ROUNDING = 2.0**-23


def reduced_inputs(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an engine of the extension for the same losses, with fewer weights in the first layer.

    The first layer reads its weights only through products with the inputs. So what of each row of weights is at right
    angles to all inputs has no effect: for n examples at most n coordinates of a row do, and no pixel that is zero
    everywhere. In a Gaussian that is the same in all directions of a row, those coordinates are independent of the rest
    and have the same Gaussian, so that the measure of every set of losses is that of the perceptron with the inputs and
    rows in a basis of the inputs' span.

    Args:
        arguments: what `mlp_arguments` gives, and the center. [P]

    Returns:
        The arguments with first weights, inputs, center, scale and sizes reduced; the same arguments where the first
        weights are not perturbed, share their scale within no row or have no coordinate to lose.
    """
    first, inputs = arguments["layers"][0], arguments["inputs"]
    outputs, width = first["weight"].shape
    start = first["weight_offset"]
    stop = start + outputs * width
    is_shared = any(layer["weight_offset"] == start for layer in arguments["layers"][1:])
    if start < 0 or is_shared:
        return arguments
    scale = arguments["scale"][start:stop].reshape(outputs, width)
    basis = _basis(inputs)
    if basis.shape[1] == width or not (scale == scale[:, :1]).all():
        return arguments

    def in_basis(rows: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(rows.astype(np.float64) @ basis, dtype=np.float32)

    def spliced(vector: NDArray[Any], part: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([vector[:start], part.reshape(-1), vector[stop:]])

    lost = outputs * (width - basis.shape[1])
    center = arguments["center"]
    reduced_scale = np.ascontiguousarray(scale[:, : basis.shape[1]])
    layers = [{**layer, **_moved(layer, start, lost)} for layer in arguments["layers"]]
    layers[0]["weight"] = in_basis(first["weight"])
    return {
        **arguments,
        "layers": layers,
        "inputs": in_basis(inputs),
        "center": spliced(center, in_basis(center[start:stop].reshape(outputs, width))),
        "scale": spliced(arguments["scale"], reduced_scale),
        "sizes": _without(arguments["sizes"], start, lost),
    }


def _basis(inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """An orthonormal basis of the span of the inputs, as columns: of pixels where it has nearly as many. [inputs, r]"""
    live = np.flatnonzero(inputs.any(axis=0))
    if 2 * len(inputs) > len(live):  # zeros among the inputs, which rotated inputs have not, save more than coordinates
        found = np.zeros((inputs.shape[1], len(live)))
        found[live, np.arange(len(live))] = 1.0
        return found
    _, values, rows = np.linalg.svd(inputs[:, live].astype(np.float64), full_matrices=False)
    spanned = rows[values > _ROUNDING * values.max(initial=0.0)]
    found = np.zeros((inputs.shape[1], len(spanned)))
    found[live] = spanned.T
    return found


def _moved(layer: dict[str, Any], start: int, lost: int) -> dict[str, Any]:
    """The offsets of a layer when `lost` numbers are taken out of the tensor that begins at `start`."""
    return {name: layer[name] - lost * (layer[name] > start) for name in ("weight_offset", "bias_offset")}


def _without(sizes: list[int], start: int, lost: int) -> list[int]:
    """The sizes of the tensors when `lost` numbers are taken out of the one that begins at `start`."""
    offsets = np.cumsum([0, *sizes[:-1]])
    return [size - lost * bool(offset == start) for size, offset in zip(sizes, offsets, strict=True)]
