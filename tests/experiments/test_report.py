"""The report as a page: what it shows follows from the records, and it needs nothing but itself."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from basinvol.experiments.records.reading import Run, basins, read_volumes
from basinvol.experiments.report import report
from basinvol.experiments.report.claims import judge
from basinvol.experiments.report.draw_interactive import plots
from basinvol.experiments.report.draw_static import draw
from basinvol.experiments.report.figures import Drawing, charts
from basinvol.experiments.report.wording import basin_lines, interval_text

_EMPTY = {"meta", "link", "img", "br", "path", "input"}


class Element:
    """One element of a page: its tag, attributes, parent and all text below it."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Element | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element] = []
        self.own_text = ""
        self.text = ""

    def all(self, *tags: str) -> Iterator[Element]:
        """Every element below this one with one of these tags, or with any."""
        for child in self.children:
            if not tags or child.tag in tags:
                yield child
            yield from child.all(*tags)


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {}, None)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self.open[-1])
        self.open[-1].children.append(element)
        if tag not in _EMPTY:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].own_text += data
        for element in self.open:
            element.text += data


def parse(page: Path) -> Element:
    builder = _Builder()
    builder.feed(page.read_text())
    builder.close()
    assert len(builder.open) == 1, "an element is not closed"
    return builder.open[0]


def draw_nothing(run: Run, folder: Path) -> list[Drawing]:
    """Figures whose files hold no picture: what is around them is tested here, and drawing takes seconds."""
    folder.mkdir(exist_ok=True)
    drawings = [Drawing(chart, b"<svg/>", b"png") for chart in charts(run)]
    for drawing in drawings:
        (folder / f"{drawing.chart.name}.svg").write_bytes(drawing.svg)
        (folder / f"{drawing.chart.name}.png").write_bytes(drawing.png)
    return drawings


@pytest.fixture(scope="module", autouse=True)
def _without_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_all", draw_nothing)
        yield


@pytest.fixture(scope="module")
def written_report(written_run: Path) -> Path:
    return report.write_report(written_run)


@pytest.fixture(scope="module")
def page(written_report: Path) -> Element:
    return parse(written_report)


@pytest.fixture(scope="module")
def static_page(written_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Element:
    out = shutil.copytree(written_run, tmp_path_factory.mktemp("static") / "run")
    return parse(report.write_report(out, static=True))


def test_the_page_asks_the_network_for_nothing(page: Element, written_report: Path) -> None:
    (policy,) = (e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'; img-src data: blob:;")
    sources = [e.attributes["src"] for e in page.all() if "src" in e.attributes]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert [e.attributes["href"] for e in page.all("link")] == ["data:,"]
    (style,) = page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    assert written_report.read_text().count("* plotly.js v") == 1


def test_every_link_leads_somewhere(page: Element, written_report: Path) -> None:
    names = {e.attributes["id"] for e in page.all() if "id" in e.attributes}
    targets = [e.attributes["href"] for e in page.all("a")]
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in names
        else:
            assert (written_report.parent / target).exists(), target
    parquet = {target for target in targets if target.endswith(".parquet")}
    assert len(parquet) == 2 * 3 * 2  # a block and the refined part, of three sizes and two seeds
    assert {"volumes.csv", "config.json", "radii/", "figures/fixed-landscape.svg"} <= set(targets)


def test_no_two_elements_have_one_name(page: Element) -> None:
    assert max(Counter(e.attributes["id"] for e in page.all() if "id" in e.attributes).values()) == 1


def test_headers_have_a_scope_and_tables_a_caption(page: Element, static_page: Element) -> None:
    for some in (page, static_page):
        assert len(list(some.all("table"))) == 4
        for table in some.all("table"):
            assert [e.text.strip() != "" for e in table.all("caption")] == [True]
            for head in table.all("th"):
                inside = head.parent.parent.tag if head.parent and head.parent.parent else ""
                assert head.attributes["scope"] == {"thead": "col", "tbody": "row"}[inside]
            for row in table.all("tr"):
                assert row.children[0].tag == "th"


def test_pictures_and_plots_are_told_in_words(page: Element, static_page: Element) -> None:
    for some in (page, static_page):
        pictures = list(some.all("img"))
        assert len(pictures) == len(list(some.all("figure"))) == 7
        assert all(len(picture.attributes["alt"]) > 60 for picture in pictures)
    plots = [e for e in page.all("div") if e.attributes.get("class") == "plot"]
    assert len(plots) == 3 + 1 + 1 + 1 + 2 + 1 + 2  # panels
    assert all(plot.attributes["aria-label"] and plot.attributes["tabindex"] == "0" for plot in plots)


def test_counterexamples_link_to_the_rows_that_were_compared(page: Element, written_run: Path) -> None:
    volumes = read_volumes(written_run)
    (claim,) = judge(volumes, ["own_is_largest"])
    assert claim.verdict == "does not hold"
    assert len(claim.counterexamples) == 4  # the landscapes of 400 and 2,000, of two seeds
    shown = next(e for e in page.all("article") if claim.text in e.text)
    items = [e for e in shown.all("li") if "NOT larger" in e.text]
    assert len(items) == len(claim.counterexamples)
    for item, found in zip(items, claim.counterexamples, strict=True):
        assert found.sentence in item.text
        own, other = (volumes.loc[row] for row in found.rows)
        assert own["model_size"] == own["landscape_size"] == other["landscape_size"]
        assert own["log_mean_power"] < other["log_mean_power"]
        for link, row in zip(item.all("a"), found.rows, strict=True):
            (target,) = (e for e in page.all("tr") if f"#{e.attributes.get('id')}" == link.attributes["href"])
            cells = [cell.text.strip() for cell in target.children]
            wanted = volumes.loc[row]
            assert cells[0] == link.text == str(row + 1)
            assert cells[1:4] == [
                str(wanted["model_seed"]),
                f"{wanted['model_size']:,}",
                f"{wanted['landscape_size']:,}",
            ]


def test_every_row_of_the_records_is_a_row_of_the_page(page: Element, written_run: Path) -> None:
    volumes = read_volumes(written_run)
    rows = [e for e in page.all("tr") if e.attributes.get("id", "").startswith("row-")]
    assert len(rows) == len(volumes)
    for row, (_, wanted) in zip(rows, volumes.iterrows(), strict=True):
        text = " ".join(cell.text.strip() for cell in row.children)
        if np.isfinite(wanted["log_mean_power"]):
            assert interval_text(wanted) in text
            assert wanted["verdict"] in text
            assert float(row.children[5].attributes["data-value"]) == wanted["log_mean_power"]
        else:
            assert "not a minimum" in text
            assert row.children[5].attributes["data-value"] == ""


def test_figures_tell_model_landscape_cutoff_verdict_and_interval(page: Element, written_run: Path) -> None:
    (script,) = (e for e in page.all("script") if e.attributes.get("id") == "plots")
    plots = json.loads(script.text)
    volumes = read_volumes(written_run)
    lines = [trace for trace in plots["fixed-landscape"][0]["data"] if trace["mode"] == "lines+markers"]
    assert [trace["name"] for trace in lines] == ["60", "400", "2,000"]
    on = basins(volumes).groupby(["landscape_size", "model_size"])["log_mean_power"].mean()
    for trace, landscape in zip(lines, (60, 400, 2000), strict=True):
        assert trace["x"] == on[landscape].index.tolist()
        np.testing.assert_allclose(trace["y"], on[landscape], rtol=1e-6)
    told = lines[0]["hovertext"][2]
    assert "minimum trained on 2,000" in told
    assert "landscape of 60, cutoff 0.1" in told
    assert "mean of 2 seeds" in told
    assert "seed 1: " in told
    assert "trustworthy" in told
    assert re.search(r"95 %: [\d.]+ to [\d.]+", told)
    assert "95 %: at least" in lines[0]["hovertext"][0]


def test_both_drawings_of_a_figure_show_the_same_numbers(written_run: Path) -> None:
    for chart in charts(Run.read(written_run)):
        axes = [one for one in draw(chart).axes if one.get_label() != "<colorbar>"]
        assert len(axes) == len(chart.panels) == len(plots(chart))
        for panel, one, plot in zip(chart.panels, axes, plots(chart), strict=True):
            lines = [trace for trace in plot["data"] if "hovertext" in trace]
            assert len(lines) == len(panel.series)
            drawn = {(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in one.get_lines()}
            for series, trace in zip(panel.series, lines, strict=True):
                assert (tuple(series.x), tuple(series.y)) in drawn
                np.testing.assert_allclose(trace["y"], series.y, rtol=1e-6)
                np.testing.assert_allclose(trace["x"], series.x, rtol=1e-6)
                assert len(trace["hovertext"]) == len(series.x)


def test_radii_are_those_on_record_whatever_the_number_of_parameters(written_run: Path) -> None:
    run = Run.read(written_run)
    (histogram,) = (chart for chart in charts(run) if chart.name == "radius-histograms")
    smallest = run.volumes["landscape_size"] == 60
    volumes = run.volumes.assign(num_params=np.where(smallest & (run.volumes["model_size"] == 2000), 7, 1000))
    (again,) = (chart for chart in charts(Run(run.path, run.config, volumes)) if chart.name == "radius-histograms")
    for series, same, size in zip(histogram.panels[0].series, again.panels[0].series, (60, 400, 2000), strict=True):
        radii = run.radii(0, size - 60, "-")
        radii = radii[radii["landscape_size"] == 60]["radius"]
        np.testing.assert_allclose([series.x.min(), series.x.max()], [radii.min(), radii.max()])
        np.testing.assert_array_equal(series.x, same.x)


def test_plotly_knows_every_property(written_run: Path) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    for chart in charts(Run.read(written_run)):
        for plot in plots(chart):
            graph_objects.Figure(plot)  # raises on what it does not know


def test_names_cannot_become_markup(page: Element, written_report: Path) -> None:
    subtitle = next(e for e in page.all("p") if e.attributes.get("class") == "subtitle")
    assert "Written & <b>not</b> measured" in subtitle.text
    assert not list(subtitle.all("b"))
    data = re.findall(r'<script type="application/json" id="plots">(.*?)</script>', written_report.read_text(), re.S)
    assert len(data) == 1
    assert "<" not in data[0]


def test_the_static_page_stands_alone(static_page: Element) -> None:
    assert not list(static_page.all("script", "button", "input", "select"))
    assert all(e.attributes["src"].startswith("data:image/png;base64,") for e in static_page.all("img"))
    assert all(e.attributes["href"].startswith("#") for e in static_page.all("a"))
    text = static_page.text
    assert "landscape of N examples is the mean loss on the first N" in text
    assert "not the whole log volume" in " ".join(text.split())


def test_without_plotly_the_static_page_is_offered(written_run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    out = shutil.copytree(written_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.html"))
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ValueError, match=r"needs plotly, .*pip install 'basinvol\[data\]'; or give `--static`"):
        report.write_report(out)
    assert not list(out.glob("*.html"))
    assert report.write_report(out, static=True).name == "report-static.html"


def row(**changes: Any) -> pd.Series[Any]:
    shared = {"model_size": 60, "landscape_size": 60, "variant": "-", "cutoff": 0.1, "model_seed": 0}
    number = {"log_mean_power": 1000.0, "log_volume": -5000.0, "standard_error": 0.5, "lower_bound": -5003.0}
    return pd.Series({**shared, **number, "verdict": "trustworthy", **changes})


def test_the_interval_is_what_the_verdict_allows() -> None:
    assert interval_text(row()) == "999.02 to 1,000.98"
    assert interval_text(row(standard_error=50.0)) == "902 to 1,098"
    assert interval_text(row(verdict="lower bound")) == "at least 997.0"
    assert interval_text(row(verdict="invalid", lower_bound=-np.inf)) == "-"


def test_one_seed_is_told_whole_and_many_one_by_one() -> None:
    assert basin_lines(pd.DataFrame([row(variant="SAM")])) == (
        "minimum trained on 60, SAM",
        "landscape of 60, cutoff 0.1",
        "log mean r^P 1,000 nats, seed 0",
        "95 % interval: 999.02 to 1,000.98",
        "verdict: trustworthy",
    )
    many = basin_lines(pd.DataFrame([row(model_seed=seed) for seed in range(7)]))
    assert many[2] == "log mean r^P 1,000 nats, mean of 7 seeds"
    assert many[-2:] == ("seed 4: 1,000 (95 %: 999.02 to 1,000.98), trustworthy", "and 2 more seeds")
