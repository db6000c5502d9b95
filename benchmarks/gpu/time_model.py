"""The time that a search would take if the device did nothing but multiply, or nothing but move what it must."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_FLOAT = 4  # bytes


def modelled_seconds(
    layers: Sequence[tuple[int, int]],
    num_rows: int,
    num_directions: int,
    rows_evaluated: float,
    rates: Mapping[str, float],
    precision: str,
) -> dict[str, float]:
    """Return the seconds of each part of a search of all directions, and their sum.

    The first layer is multiplied once for each direction and its results are stored. Every evaluation reads them again
    and multiplies the other layers, whose results stay on the chip. Of products and traffic, which may overlap, the
    longer counts. Preparation, the search step and the calls of the host are left out: they are what a measurement has
    besides.

    Args:
        layers: The inputs and outputs of each layer.
        num_rows: The number of rows.
        num_directions: The number of directions.
        rows_evaluated: The rows of all evaluations of all directions.
        rates: Operations per second by precision, and bytes per second of a copy, see `rates.measure_rates`.
        precision: One of the precisions.
    """
    (inputs, outputs), *others = layers
    first = num_rows * num_directions
    products = 2.0 * first * inputs * outputs / rates[precision]
    writes = _FLOAT * first * outputs / rates["copy"]
    later_products = 2.0 * rows_evaluated * sum(n * m for n, m in others) / rates[precision]
    reads = _FLOAT * rows_evaluated * outputs / rates["copy"]
    return {
        "first_layer_s": max(products, writes),
        "evaluations_s": max(later_products, reads),
        "modelled_s": max(products, writes) + max(later_products, reads),
    }
