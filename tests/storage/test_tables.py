"""Results as tables, datasets and pages: the same numbers, with names and units, and nothing that a name can inject."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import xml.dom.minidom

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import basinvol as bv
from basinvol.inputs.optional import MissingPackage, optional


@pytest.fixture(scope="module")
def estimated(trained, blobs) -> bv.VolumeEstimate:
    return bv.estimate_volume(trained, F.cross_entropy, blobs, cutoff=0.1, num_directions=40, seed=3)


@pytest.fixture(scope="module")
def radii(trained, blobs) -> bv.Radii:
    directions = bv.Directions(bv.ParameterSpace.of(trained), count=6)
    landscape = bv.Landscape(trained, F.cross_entropy, blobs, levels=[30, 60, 90])
    return bv.find_radii(landscape, directions, [0.1, 0.2])


def test_radii_have_a_row_for_every_level_cutoff_and_direction(radii: bv.Radii) -> None:
    frame = radii.to_dataframe()
    assert len(frame) == 3 * 2 * 6
    for level in radii.levels:
        for cutoff in radii.cutoffs:
            rows = frame[(frame["level"] == level) & (frame["cutoff"] == cutoff)]
            assert rows["direction"].tolist() == list(range(6))
            assert rows["radius"].tolist() == radii.at(level, cutoff).radius.tolist()
            assert rows["num_evaluations"].tolist() == radii.num_evaluations.tolist()


def test_radii_as_a_dataset_have_named_dimensions_and_units(radii: bv.Radii) -> None:
    pytest.importorskip("xarray", reason="xarray is optional")
    found = radii.to_dataset()
    assert found["radius"].dims == ("level", "cutoff", "direction")
    assert dict(found.sizes) == {"level": 3, "cutoff": 2, "direction": 6}
    np.testing.assert_array_equal(found["upper"].values, radii.upper.numpy())
    one = found.sel(level=60, cutoff=0.2)
    assert one["radius"].values.tolist() == radii.at(60, 0.2).radius.tolist()
    assert found["radius"].attrs["units"] == "scale"
    assert found["value_upper"].attrs["units"] == found["cutoff"].attrs["units"] == "loss"
    assert all(part.attrs["units"] and part.attrs["long_name"] for part in {**found.data_vars, **found.coords}.values())


def test_an_estimate_as_a_dataset_has_its_terms_in_nats(estimated: bv.VolumeEstimate) -> None:
    pytest.importorskip("xarray", reason="xarray is optional")
    found = estimated.to_dataset()
    assert found["radius"].dims == ("direction",)
    assert float(found["log_volume"]) == estimated.log_volume
    assert found["log_volume"].attrs["units"] == "nats"
    assert float(found["cutoff"]) == 0.1
    assert found.attrs["verdict"] == "lower bound"
    terms = found["log_unit_ball"] + found["log_mean_power"] + found["log_det_scale"]
    assert float(terms) == pytest.approx(estimated.log_volume)


def test_a_profile_as_tables(trained, blobs) -> None:
    profile = bv.loss_profile(trained, F.cross_entropy, blobs, num_directions=5, num_radii=7)
    frame = profile.to_dataframe()
    assert (
        frame.pivot(index="direction", columns="radius", values="loss").to_numpy().tolist() == profile.losses.tolist()
    )
    pytest.importorskip("xarray", reason="xarray is optional")
    found = profile.to_dataset()
    assert found["loss"].dims == ("direction", "radius")
    np.testing.assert_array_equal(found["loss_quantile"].sel(quantile=0.5), profile.quantiles[2])


def test_a_learning_coefficient_as_tables() -> None:
    model, loss_fn, data = bv.ground_truth.ball(3).task()
    found = bv.learning_coefficient(
        model,
        loss_fn,
        data,
        0.01,
        method="splitting",
        method_options={"num_chains": 64, "num_moves": 1, "rounds": 1},
        num_directions=8,
        probe=False,
    )
    curve, frame = found.estimate.curve(), found.to_dataframe()
    assert frame["log_mass"].tolist() == curve.log_mass.tolist()
    fitted = frame[frame["is_fitted"]]
    assert fitted["excess"].min() == pytest.approx(found.smallest)
    assert fitted["excess"].max() == pytest.approx(found.largest)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["value"] == found.value
    assert_page(found._repr_html_(), str(found.estimate.diagnostics.verdict) if found.is_straight else "")
    pytest.importorskip("xarray", reason="xarray is optional")
    data_set = found.to_dataset()
    assert float(data_set["learning_coefficient"]) == found.value
    assert data_set["log_groups"].dims == ("cutoff", "group")


@pytest.fixture(scope="module")
def comparison(estimated: bv.VolumeEstimate) -> bv.Comparison:
    shorter = dataclasses.replace(estimated, log_mean_power=estimated.log_mean_power - 1.0)
    return bv.compare([shorter, estimated], ["<script>short</script>", "long"])


def test_a_comparison_has_a_row_for_every_minimum(comparison: bv.Comparison) -> None:
    frame = comparison.to_dataframe()
    assert frame["name"].tolist() == ["long", "<script>short</script>"]
    assert frame["next_difference"][0] == pytest.approx(1.0)
    assert np.isnan(frame["next_difference"][1])
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert found["names"] == ["long", "<script>short</script>"]
    assert found["pairs"][0]["difference"] == pytest.approx(1.0)
    assert found["verdicts"] == ["lower bound", "lower bound"]


def test_radii_survive_json(radii: bv.Radii) -> None:
    open_end = dataclasses.replace(radii, upper=torch.full_like(radii.upper, torch.inf))
    found = json.loads(json.dumps(open_end.to_dict(), allow_nan=False))
    assert np.array(found["lower"]).shape == (3, 2, 6)
    assert found["upper"][0][0][0] is None
    assert found["status"] == [[[status.name for status in row] for row in part] for part in radii.status]


def assert_page(page: str, first: str) -> None:
    """Well-formed, without scripts, and the first words that a reader sees are these."""
    xml.dom.minidom.parseString(f"<div>{page}</div>")  # raises where tags do not match or texts are not escaped
    assert "<script" not in page
    words = re.sub(r"<[^>]+>", "\n", page).split("\n")
    assert next(word for word in words if word.strip()).startswith(first)


def test_a_page_begins_with_the_verdict_and_needs_no_matplotlib(
    estimated: bv.VolumeEstimate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails
    page = estimated._repr_html_()
    assert_page(page, "lower bound")
    for word in (f"{estimated.log_volume:,.2f} nats", f"above {estimated.lower_bound:,.2f}", "<svg", 'role="img"'):
        assert word in page


def test_every_page_is_well_formed(radii: bv.Radii, comparison: bv.Comparison, trained, blobs) -> None:
    assert_page(radii._repr_html_(), "6 of 6 directions cross (30 examples, cutoff 0.1)")
    assert_page(comparison._repr_html_(), "long &gt; &lt;script&gt;short")
    profile = bv.loss_profile(trained, F.cross_entropy, blobs, num_directions=5, num_radii=7)
    assert_page(profile._repr_html_(), "loss at the center")


def test_a_notebook_shows_plots_without_pyplot(estimated: bv.VolumeEstimate) -> None:
    drawn = estimated.plot()._repr_svg_()
    assert xml.dom.minidom.parseString(drawn).documentElement.tagName == "svg"
    assert f"log volume {estimated.log_volume:,.1f} nats" in drawn.replace("\u2212", "-")
    assert estimated.plot()._repr_svg_() == drawn  # the same bytes every time


def test_reprs_are_one_short_line(estimated, radii, comparison, trained, blobs) -> None:
    profile = bv.loss_profile(trained, F.cross_entropy, blobs, num_directions=5, num_radii=7)
    for result in (estimated, radii, comparison, profile, estimated.radii):
        assert len(repr(result)) < 200
        assert "\n" not in repr(result)
        assert "tensor" not in repr(result)
    assert repr(estimated).startswith("VolumeEstimate(lower bound, log volume ")


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    sentence = r"to_dataset\(\) needs nowhere, which is not installed: pip install 'basinvol\[tables\]'\."
    with pytest.raises(MissingPackage, match=sentence):
        optional("nowhere.inside", "tables", "to_dataset()")


def test_results_need_neither_pandas_nor_xarray_nor_matplotlib_until_they_are_asked() -> None:
    code = (
        "import sys, basinvol as bv; case = bv.ground_truth.ball(3)\n"
        "est = bv.estimate_volume(*case.task(), cutoff=1.0, num_directions=8, scaling='none')\n"
        "est._repr_html_(), repr(est), str(est), est.to_dict(), est.radii.to_dict()\n"
        "assert not {'pandas', 'xarray', 'matplotlib', 'IPython'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
