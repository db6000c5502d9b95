"""The model of a search's time on a device, against times that are counted by hand."""

from __future__ import annotations

import pytest

from benchmarks.gpu.time_model import modelled_seconds

_LAYERS = ((1000, 100), (100, 50), (50, 10))


def test_products_decide_where_memory_is_fast() -> None:
    found = modelled_seconds(_LAYERS, 2000, 30, 150_000.0, {"fp32": 1e12, "copy": 1e15}, "fp32")
    # 60,000 rows times 100,000 weights once, and 150,000 rows times 5,500 weights, at two operations each.
    assert found["first_layer_s"] == pytest.approx(0.012)
    assert found["evaluations_s"] == pytest.approx(0.00165)
    assert found["modelled_s"] == pytest.approx(0.01365)


def test_memory_decides_where_products_are_fast() -> None:
    found = modelled_seconds(_LAYERS, 2000, 30, 150_000.0, {"fp32": 1e18, "copy": 1e9}, "fp32")
    # 100 numbers of four bytes for each row: written once for every direction, and read at every evaluation.
    assert found["first_layer_s"] == pytest.approx(0.024)
    assert found["evaluations_s"] == pytest.approx(0.06)
    assert found["modelled_s"] == pytest.approx(0.084)
