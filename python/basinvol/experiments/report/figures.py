"""Every figure of a run, from its records alone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ...figures.style import house_style
from ..describe.description import NO_VARIATION
from ..records.reading import Run
from ..records.storage import write_atomically
from . import figures_of_rays, figures_of_slices, figures_of_volumes


@dataclass(frozen=True)
class Drawing:
    """A figure that was drawn and written.

    Attributes:
        name: the name of its files, without their ending.
        caption: what the figure shows, in one sentence.
        svg: the figure as SVG text.
    """

    name: str
    caption: str
    svg: str


def draw_all(run: Run, folder: Path) -> list[Drawing]:
    """Draws every figure that the run has data for and writes it as SVG and PNG."""
    drawings = []
    folder.mkdir(exist_ok=True)
    with house_style():
        for name, caption, figure in _figures(run):
            contents = {}
            for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 200})):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, **options)
                contents[kind] = buffer.getvalue()
                figure.set_layout_engine("none")  # the layout of the first format serves the second
                write_atomically(folder / f"{name}.{kind}", contents[kind])
            drawings.append(Drawing(name, caption, contents["svg"].decode()))
    return drawings


def _figures(run: Run) -> Iterator[tuple[str, str, Figure]]:
    main = run.main
    num_landscapes, num_levels = main["landscape_size"].nunique(), main["model_size"].nunique()
    has_variants = main["variant"].nunique() > 1
    for variant, rows in main.groupby("variant", sort=False):
        suffix = "" if variant == NO_VARIATION else "-" + re.sub(r"\W+", "", str(variant).lower())
        note = "" if variant == NO_VARIATION else f" ({variant})"
        if num_landscapes > 1 and num_levels > 1:
            yield (
                f"fixed-landscape{suffix}",
                f"Which minimum is largest on each landscape, and how well each generalizes{note}.",
                figures_of_volumes.fixed_landscape(rows),
            )
            yield (
                f"varying-landscape{suffix}",
                f"How each minimum shrinks as examples are added, and where it stops being a minimum{note}.",
                figures_of_volumes.varying_landscape(rows),
            )
    if num_landscapes > 1 and num_levels > 2:
        yield (
            "power-law",
            "The volume of each network on its own data, with the least-squares line through the seeds' means.",
            figures_of_volumes.power_law(main),
        )
    if num_landscapes == 1 and num_levels > 1:
        yield (
            "bad-data",
            "The volume on the clean landscape of minima whose training data had wrong examples added.",
            figures_of_volumes.bad_data(run.volumes),
        )
    if has_variants:
        title = run.settings["variation"]["title"]
        yield (
            "variation",
            f"Volume on the landscape that each minimum was trained on, and test accuracy, by {title}.",
            figures_of_volumes.variation(run.volumes, title),
        )
    yield from figures_of_rays.figures(run)
    slices = run.slices()
    if slices is not None:
        yield (
            "slices",
            "The loss in the plane through three minima; the black line is the cutoff.",
            figures_of_slices.slices(slices, run.main["cutoff"].iloc[0]),
        )
