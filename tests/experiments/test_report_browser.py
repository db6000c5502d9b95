"""The report in a real browser: nothing fails, nothing leaves the page, and everything answers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from basinvol.experiments.report.report import write_report

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE = 180_000  # milliseconds: a busy machine may take long to draw, which is no fault of the page
WIDTHS = (400, 900, 1400)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = os.environ.get("BASINVOL_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(
            "no Chromium: install the distribution's, for example the package chromium, or set BASINVOL_CHROMIUM"
        )
    with sync_api.sync_playwright() as playwright:
        # In a container the browser often has no right to a sandbox of its own, and it opens nothing but our page.
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(written_run: Path) -> Path:
    return write_report(written_run)


@pytest.fixture(scope="module")
def static_report(written_run: Path) -> Path:
    return write_report(written_run, static=True)


class Reader:
    """A page that is open in the browser, and what went wrong in it."""

    def __init__(self, context: Any, path: Path) -> None:
        self.path = path
        self.faults: list[str] = []
        self.requests: list[str] = []
        context.set_default_timeout(_PATIENCE)
        self.page = context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.wait()

    def wait(self) -> None:
        """Waits until every figure is drawn."""
        if self.path.name == "report.html":
            self.page.wait_for_selector("html[data-drawn=all]")

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def texts(self, selector: str) -> list[str]:
        """The visible text of everything that the selector finds."""
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def column(self, title: str) -> list[str]:
        """The cells of a column of the table of basins, in the order that is shown, without hidden rows."""
        return list(
            self.page.evaluate(
                """title => {
                    const table = document.getElementById("table-of-basins");
                    const heads = [...table.tHead.rows[0].cells];
                    const column = heads.findIndex((head) => head.textContent.trim() === title);
                    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
                    return rows.map((row) => row.cells[column].textContent.trim());
                }""",
                title,
            )
        )

    def head(self, title: str) -> Any:
        """The head of a column of the table of basins."""
        return self.page.locator("#table-of-basins thead th").filter(has_text=title).first


@pytest.fixture(scope="module")
def reader(browser: Any, report: Path) -> Iterator[Reader]:
    """The page with scripts, for tests that leave it as it was."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    opened = Reader(context, report)
    yield opened
    context.close()
    assert opened.faults == []


@pytest.fixture(
    scope="module",
    params=[(page, scheme) for page in ("report", "static_report") for scheme in ("light", "dark")],
    ids="-".join,
)
def looked_at(request: pytest.FixtureRequest, browser: Any) -> Iterator[tuple[Reader, str]]:
    """Either page in either theme, and the theme. What its policy would keep from the network is let through."""
    name, scheme = request.param
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)
    yield Reader(context, request.getfixturevalue(name)), scheme
    context.close()


def test_a_page_opens_without_a_fault_and_asks_for_nothing(looked_at: tuple[Reader, str]) -> None:
    reader, scheme = looked_at
    assert reader.faults == []
    assert [url for url in reader.requests if not url.startswith("data:")] == [reader.path.as_uri()]
    ground = reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_its_window(looked_at: tuple[Reader, str], width: int) -> None:
    page = looked_at[0].page
    page.set_viewport_size({"width": width, "height": 900})
    # Plots follow a little later.
    page.wait_for_function("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate("innerWidth") == width


@pytest.mark.parametrize("width", [WIDTHS[0], WIDTHS[-1]])
def test_axe_finds_nothing_serious(looked_at: tuple[Reader, str], width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: make test-browser")
    page = looked_at[0].page
    page.set_viewport_size({"width": width, "height": 900})
    found = axe.Axe().run(page).response["violations"]
    assert [
        (one["id"], node["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ] == []


def test_a_click_on_a_head_sorts_and_says_so(reader: Reader) -> None:
    button = reader.head("log mean").locator("button")
    button.focus()
    reader.page.keyboard.press("Enter")
    assert reader.head("log mean").get_attribute("aria-sort") == "ascending"
    shown = reader.column("log mean\xa0rP (nats)")
    numbers = [float(text.replace(",", "")) for text in shown if text != "-"]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 10
    assert shown[-2:] == ["-", "-"]  # no minimum: last, whatever the direction
    reader.page.keyboard.press("Enter")
    assert reader.head("log mean").get_attribute("aria-sort") == "descending"
    shown = reader.column("log mean\xa0rP (nats)")
    assert [float(text.replace(",", "")) for text in shown if text != "-"] == sorted(numbers, reverse=True)
    assert shown[-2:] == ["-", "-"]
    reader.head("verdict").locator("button").click()
    assert reader.head("log mean").get_attribute("aria-sort") is None
    assert reader.column("verdict") == sorted(reader.column("verdict"))
    reader.head("row").locator("button").click()


def test_filters_leave_the_rows_that_were_asked_for(reader: Reader) -> None:
    tools = reader.page.get_by_role("group", name="Filters: Every minimum on every landscape")
    assert tools.locator("output").inner_text() == "18 of 18 rows"
    tools.get_by_label("verdict").select_option("lower bound")
    assert set(reader.column("verdict")) == {"lower bound"}
    tools.get_by_label("seed").select_option("1")
    count = len(reader.column("seed"))
    assert set(reader.column("seed")) == {"1"}
    assert tools.locator("output").inner_text() == f"{count} of 18 rows"
    tools.get_by_label("search").fill("nothing like it")
    assert reader.column("seed") == []
    tools.get_by_role("button", name="Show all").click()
    assert len(reader.column("seed")) == 18


def test_a_counterexample_leads_to_its_row_even_if_it_is_filtered_out(reader: Reader) -> None:
    tools = reader.page.get_by_role("group", name="Filters: Every minimum on every landscape")
    tools.get_by_label("search").fill("nothing like it")
    link = reader.page.locator(".claim.does li a").first
    link.click()
    target = reader.page.locator(link.get_attribute("href"))
    assert target.is_visible()
    assert reader.page.evaluate("document.activeElement.id") == link.get_attribute("href").removeprefix("#")
    assert target.evaluate(
        "row => { const box = row.getBoundingClientRect(); return box.top > 0 && box.bottom < innerHeight; }"
    )


def test_pointing_at_a_figure_tells_the_numbers(reader: Reader) -> None:
    plot = reader.page.locator("#figure-fixed-landscape .plot").first
    plot.scroll_into_view_if_needed()
    x, y = plot.evaluate(
        """plot => {
            const {xaxis, yaxis} = plot._fullLayout, trace = plot.data.find((trace) => trace.mode === "lines+markers");
            const box = plot.getBoundingClientRect();
            return [box.x + xaxis._offset + xaxis.d2p(trace.x[1]), box.y + yaxis._offset + yaxis.d2p(trace.y[1])];
        }"""
    )
    reader.page.mouse.move(x, y)
    label = plot.locator(".hoverlayer .hovertext")
    label.wait_for()
    told = label.text_content()
    for words in ("minimum trained on 400", "landscape of 60, cutoff 0.1", "mean of 2 seeds", "95 %", "lower bound"):
        assert words in told.replace("\xa0", " ")


def test_arrow_keys_read_a_figure_and_enter_leads_to_the_row(reader: Reader) -> None:
    reader.page.locator("#figure-fixed-landscape .plot").first.focus()
    reading = reader.page.locator("#figure-fixed-landscape .reading")
    reader.page.keyboard.press("ArrowRight")
    assert "minimum trained on 60" in reading.inner_text()
    reader.page.keyboard.press("ArrowRight")
    assert "minimum trained on 400; landscape of 60" in reading.inner_text()
    reader.page.keyboard.press("ArrowDown")
    assert "landscape of 400" in reading.inner_text()
    reader.page.keyboard.press("Enter")
    assert reader.page.evaluate("document.activeElement.tagName") == "TR"
    assert reading.inner_text() == ""


def test_the_legend_switches_a_series_off_and_on(reader: Reader) -> None:
    figure = reader.page.locator("#figure-fixed-landscape")
    button = figure.get_by_role("button", name="400", exact=True)

    def visible() -> int:
        return int(
            figure.locator(".plot").first.evaluate("plot => plot.querySelectorAll('.scatterlayer .trace').length")
        )

    before = visible()
    button.focus()
    reader.page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "false"
    assert visible() < before
    reader.page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert visible() == before


def test_the_switch_turns_the_page_and_its_figures_dark_and_is_remembered(reader: Reader) -> None:
    switch = reader.page.get_by_role("switch", name="Dark")

    def colors() -> tuple[str, str]:
        tick = "#figure-fixed-landscape .plot .ytick text"
        return (
            reader.page.evaluate("getComputedStyle(document.body).backgroundColor"),
            reader.page.locator(tick).first.evaluate("text => getComputedStyle(text).fill"),
        )

    assert switch.get_attribute("aria-checked") == "false"
    light = colors()
    switch.click()
    assert switch.get_attribute("aria-checked") == "true"
    dark = colors()
    assert dark[0] == "rgb(21, 24, 28)"
    assert dark[1] != light[1]
    reader.page.wait_for_timeout(2_000)  # the browser's process for storage hears of the choice a little later
    reader.page.reload()
    reader.wait()
    assert switch.get_attribute("aria-checked") == "true"
    assert colors() == dark
    switch.click()
    assert colors() == light


def test_print_has_pictures_and_everything_open(reader: Reader) -> None:
    reader.page.emulate_media(media="print")
    reader.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert reader.page.locator("img.still").first.is_visible()
    assert not reader.page.locator(".plots").first.is_visible()
    assert not reader.page.locator(".tools").first.is_visible()
    assert reader.page.locator("details:not([open])").count() == 0
    reader.page.emulate_media(media="screen")


def test_without_scripts_the_page_still_shows_everything(browser: Any, report: Path) -> None:
    made = browser.new_context(java_script_enabled=False)
    made.set_default_timeout(_PATIENCE)
    page = made.new_page()
    page.goto(report.as_uri())
    assert page.locator("img.still").first.is_visible()
    assert page.locator("#table-of-basins tbody tr").count() == 18
    assert not page.locator("#theme").is_visible()
    made.close()
