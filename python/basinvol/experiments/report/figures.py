"""Every figure of a run, from its records alone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...figures.style import house_style
from ..describe.description import NO_VARIATION
from ..records.reading import Run
from ..records.storage import write_atomically
from . import charts_of_rays, charts_of_slices, charts_of_volumes
from .chart import Chart
from .draw_static import draw


@dataclass(frozen=True)
class Drawing:
    """A figure that was drawn and written.

    Attributes:
        chart: what it shows.
        svg, png: the contents of its files.
    """

    chart: Chart
    svg: bytes
    png: bytes


def draw_all(run: Run, folder: Path) -> list[Drawing]:
    """Draws every figure that the run has data for and writes it as SVG and PNG."""
    folder.mkdir(exist_ok=True)
    with house_style():
        return [_written(chart, folder) for chart in charts(run)]


def _written(chart: Chart, folder: Path) -> Drawing:
    figure, contents = draw(chart), {}
    for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 200})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, **options)
        contents[kind] = buffer.getvalue()
        figure.set_layout_engine("none")  # the layout of the first format serves the second
        write_atomically(folder / f"{chart.name}.{kind}", contents[kind])
    return Drawing(chart, **contents)


def charts(run: Run) -> Iterator[Chart]:
    """Yields every figure that the run has data for, at the largest cutoff unless it shows all."""
    main = run.main
    num_landscapes, num_levels = main["landscape_size"].nunique(), main["model_size"].nunique()
    if num_landscapes > 1 and num_levels > 1:
        for variant, rows in main.groupby("variant", sort=False):
            suffix = "" if variant == NO_VARIATION else "-" + re.sub(r"\W+", "", str(variant).lower())
            note = "" if variant == NO_VARIATION else f" ({variant})"
            yield charts_of_volumes.fixed_landscape(rows, f"fixed-landscape{suffix}", note)
            yield charts_of_volumes.varying_landscape(rows, f"varying-landscape{suffix}", note)
    if num_landscapes > 1 and num_levels > 2:
        yield charts_of_volumes.power_law(main)
    if num_landscapes == 1 and num_levels > 1:
        yield charts_of_volumes.bad_data(run.volumes)
    if main["variant"].nunique() > 1:
        yield charts_of_volumes.variation(run.volumes, run.settings["variation"]["title"])
    yield from charts_of_rays.charts(run)
    slices = run.slices()
    if slices is not None:
        yield charts_of_slices.slices(slices, run.main["cutoff"].iloc[0])
