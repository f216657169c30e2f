"""The report in a real browser: offline and without errors, with every figure, by keyboard and on a phone."""

from __future__ import annotations

import functools
import itertools
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from sweeps.analysis.findings import Findings
from sweeps.report.publish import all_pictures
from sweeps.verdict.verdict import verdict
from tests.helpers import attributions, branches, report_page, synthetic

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
STUDIES = {"searched": synthetic.full, "confirmed": attributions.swept, "forked": branches.forked}
PAGES = {
    "searched": report_page.searched_html,
    "confirmed": report_page.confirmed_html,
    "forked": report_page.forked_html,
}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists() and os.environ.get("CI") != "true", reason=f"needs Chromium at {CHROMIUM}"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    pages = {name: folder / f"{name}.html" for name in STUDIES}
    for name, page in pages.items():
        page.write_text(PAGES[name](), encoding="utf-8")
    return pages


@functools.cache
def findings_of(study: str) -> Findings:
    return Findings(STUDIES[study]())


@functools.cache
def count_figures(study: str) -> int:
    return sum(len(picture.figures) for picture in all_pictures(findings_of(study)))


class Visit:
    """A page opened offline, with the requests and the errors that it has caused."""

    def __init__(self, browser: Browser, report: Path, *, study: str, width: int) -> None:
        self.findings, self.figures = findings_of(study), count_figures(study)
        self.context = browser.new_context(offline=True, viewport={"width": width, "height": 800})
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # long enough for a busy machine
        self.context.route("**/*", self._route)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type != "log" else None)
        self.page.goto(report.as_uri())
        self.page.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .xy').length >= {self.figures}")

    def _route(self, route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()


@pytest.fixture(
    scope="module",
    params=[("confirmed", 1280), ("confirmed", 375), ("searched", 375), ("forked", 1280), ("forked", 375)],
    ids=["desktop", "phone", "phone-unconfirmed", "fork-desktop", "fork-phone"],
)
def visit(request: pytest.FixtureRequest, browser: Browser, reports: dict[str, Path]) -> Iterator[Visit]:
    study, width = request.param
    visit = Visit(browser, reports[study], study=study, width=width)
    yield visit
    visit.context.close()
    assert visit.requests == []
    assert visit.errors == []


def test_the_verdict_and_every_figure_are_shown(visit: Visit) -> None:
    words = verdict(visit.findings)
    for sentence in words.lines:
        if sentence not in words.next:
            place = visit.page.locator("#verdict").get_by_text(sentence.partition(": ")[2] or sentence)
            assert place.first.is_visible(), sentence
    assert visit.page.locator("#verdict .headline").inner_text().replace("\u00a0", " ") == words.headline
    plots = visit.page.locator(".plot")
    assert plots.count() == visit.figures
    for index in range(visit.figures):
        assert plots.nth(index).locator("svg.main-svg").count() >= 1
        assert plots.nth(index).locator(".trace, .shapelayer path").count() >= 1


def test_what_to_train_next_follows_the_verdict(visit: Visit) -> None:
    place = visit.page.locator("#next")
    for sentence in verdict(visit.findings).next:
        for command in re.findall(r"`([^`]+)`", sentence):
            assert place.locator("code", has_text=command).first.is_visible()
    settings = place.locator("details")
    assert not settings.locator("pre").is_visible()
    settings.locator("summary").focus()
    visit.page.keyboard.press("Enter")
    assert settings.locator("pre").is_visible()
    assert "learning_rate = " in settings.locator("pre").inner_text()
    visit.page.keyboard.press("Enter")


def test_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # titles of axes and names in legends must stay inside their figures
    outside = visit.page.evaluate(
        """() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
            const box = plot.getBoundingClientRect();
            const titles = ".xtitle, .ytitle, .legendtext, #plot-fork-0 .annotation, #plot-fork-1 .annotation, "
                + "#plot-races-0 .annotation";
            return [...plot.querySelectorAll(titles)]
                .filter((title) => {
                    const inner = title.getBoundingClientRect();
                    return inner.width && (inner.left < box.left - 1 || inner.right > box.right + 1
                        || inner.top < box.top - 1 || inner.bottom > box.bottom + 1);
                })
                .map((title) => plot.id + ": " + title.textContent);
        })"""
    )
    assert outside == []


def test_the_fork_is_beside_the_whole_curve_where_there_is_room(visit: Visit) -> None:
    if visit.findings.study.name != "forked":
        assert visit.page.locator("#fork").count() == 0
        return
    boxes = [visit.page.locator(f"#plot-fork-{panel}").bounding_box() for panel in (0, 1)]
    whole, fork = (box for box in boxes if box is not None)
    wide = visit.page.evaluate("window.innerWidth") > 800
    assert (whole["y"] == fork["y"]) is wide
    assert (whole["x"] == fork["x"]) is not wide
    headline = visit.page.locator("#verdict .headline").bounding_box()
    first = visit.page.locator("#verdict li").first.bounding_box()
    assert headline is not None
    assert first is not None
    assert headline["y"] < whole["y"] < first["y"]
    places = [note.bounding_box() for note in visit.page.locator("#plot-fork-1 .annotation").all()]
    assert len(places) == 6  # four ends of lines, the plateau, the fork
    for one, other in itertools.combinations([place for place in places if place is not None], 2):
        apart = [one[axis] + one[size] <= other[axis] + 1 for axis, size in (("x", "width"), ("y", "height"))]
        apart += [other[axis] + other[size] <= one[axis] + 1 for axis, size in (("x", "width"), ("y", "height"))]
        assert any(apart)


def test_tables_sort_by_keyboard(visit: Visit) -> None:
    page = visit.page
    header = page.locator("th", has=page.get_by_role("button", name="Final loss"))
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    losses = _column(page, "Final loss")
    known = [float(loss) for loss in losses if loss]
    assert known == sorted(known)
    assert known[0] == min(run.val_loss for run in visit.findings.results.runs if run.val_loss is not None)
    assert losses == [*map(str, known), *[""] * (len(losses) - len(known))]  # runs without a loss come last
    page.keyboard.press("Space")
    assert header.get_attribute("aria-sort") == "descending"
    losses = _column(page, "Final loss")
    assert losses == [*map(str, known[::-1]), *[""] * (len(losses) - len(known))]
    assert "descending" in page.locator("#trials-status").inner_text()
    page.get_by_role("button", name="Outcome").press("Enter")
    assert _column(page, "Outcome") == sorted(_column(page, "Outcome"))
    assert header.get_attribute("aria-sort") is None


def _column(page: Page, name: str) -> list[str]:
    return page.evaluate(  # type: ignore[no-any-return]
        """(name) => {
            const table = document.querySelector("table.sortable");
            const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === name);
            return [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value);
        }""",
        name,
    )


def test_the_first_link_skips_to_the_content(visit: Visit) -> None:
    first = visit.page.locator("a, button, [tabindex]").first
    assert first.get_attribute("class") == "skip"
    first.focus()
    assert first.evaluate("(link) => link.getBoundingClientRect().left") >= 0
    first.evaluate("(link) => link.blur()")


def test_the_contents_lead_to_the_sections(visit: Visit) -> None:
    links = visit.page.get_by_role("navigation").get_by_role("link")
    for index in range(links.count()):
        target = (links.nth(index).get_attribute("href") or "").removeprefix("#")
        heading = visit.page.get_by_role("region", name=links.nth(index).inner_text(), exact=True)
        assert heading.get_attribute("id") == target


def test_the_focus_is_visible_on_every_stop_of_the_tab_key(visit: Visit) -> None:
    page = visit.page
    page.locator("a").first.focus()
    focused = []
    for _ in range(8):
        name, width = page.evaluate(
            "[document.activeElement.outerHTML.slice(0, 30), getComputedStyle(document.activeElement).outlineWidth]"
        )
        assert width == "3px", name
        focused.append(name)
        page.keyboard.press("Tab")
    assert len(set(focused)) == 8
    assert (
        page.evaluate("[...document.querySelectorAll('.plot *')].filter((element) => element.tabIndex >= 0).length")
        == 0
    )


def test_it_prints_on_a4_at_full_size(visit: Visit) -> None:
    page = visit.page
    pdf = page.pdf(format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "12mm"))
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", pdf)) > 3
    # the browser would shrink a page wider than the paper; 300 dots per 96 pixels is full size
    assert set(_scales(pdf)) == {300 / 96}
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 703, "height": 1000})  # A4 less the margins
    assert page.locator("#verdict").is_visible()
    for hidden in (".modebar", "nav", "details", "#trials-status"):
        assert not page.locator(hidden).first.is_visible()
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".box")]
            .filter((box) => box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible")
            .map((box) => box.getAttribute("aria-label"))"""
    )
    assert cut == []
    assert page.locator(".picture").first.evaluate("(element) => getComputedStyle(element).breakInside") == "avoid"
    page.emulate_media(media="screen")


def _scales(pdf: bytes) -> Iterator[float]:
    """Yield the scale of each page, dots per pixel."""
    for start in re.finditer(rb"stream\r?\n", pdf):
        try:
            drawing = zlib.decompressobj().decompress(pdf[start.end() :])
        except zlib.error:
            continue
        if drawing.startswith(b".23999"):  # a page, which begins with points per dot
            scale = re.search(rb"\bq\n([\d.]+) 0 0 \1 [-\d. ]+ cm", drawing)
            assert scale is not None
            yield float(scale[1])
