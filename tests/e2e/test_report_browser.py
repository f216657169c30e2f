"""The report in a real browser: offline and without errors, with every figure, by keyboard and on a phone."""

from __future__ import annotations

import functools
import itertools
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from sweeps.analysis.findings import Findings
from sweeps.report.album import album_of
from sweeps.report.figures.dark import DARK
from sweeps.report.figures.style import BLACK
from sweeps.verdict.glance import answer_of
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
    return sum(len(picture.figures) for picture in album_of(findings_of(study)).pictures)


class Visit:
    """A page opened offline, with the requests and the errors that it has caused."""

    def __init__(
        self, browser: Browser, report: Path, *, study: str, width: int, scheme: Literal["light", "dark"] = "light"
    ) -> None:
        self.findings, self.figures = findings_of(study), count_figures(study)
        self.answer = answer_of(self.findings)
        self.context = browser.new_context(
            offline=True, viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # long enough for a busy machine
        self.context.route("**/*", self._route)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type != "log" else None)
        self.page.goto(report.as_uri())
        expect(self.page.locator(".lead .js-plotly-plot .xy").first).to_be_attached(timeout=120_000)

    def unfold(self) -> None:
        """Open everything that is folded and wait for all figures."""
        self.page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
        expect(self.page.locator(".plot.js-plotly-plot:has(.xy)")).to_have_count(self.figures, timeout=120_000)

    def fold(self) -> None:
        """Close everything that can be folded."""
        self.page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = false")

    def _route(self, route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()


@pytest.fixture(
    scope="module",
    params=[("confirmed", 1280), ("confirmed", 390), ("searched", 390), ("forked", 1280), ("forked", 390)],
    ids=["desktop", "phone", "phone-unconfirmed", "fork-desktop", "fork-phone"],
)
def visit(request: pytest.FixtureRequest, browser: Browser, reports: dict[str, Path]) -> Iterator[Visit]:
    study, width = request.param
    visit = Visit(browser, reports[study], study=study, width=width)
    yield visit
    visit.context.close()
    assert visit.requests == []
    assert visit.errors == []


def test_the_answer_takes_two_screens_and_the_rest_is_folded(visit: Visit) -> None:
    page = visit.page
    assert page.locator(".headline").inner_text().replace("\u00a0", " ") == visit.answer.sentence
    parts = (".headline", ".lead .plot", "table.changes", ".advice")
    places = [page.locator(part).first.bounding_box() for part in parts]
    tops = [place["y"] for place in places if place is not None]
    assert len(tops) == 4
    assert tops == sorted(tops)
    wide = page.evaluate("window.innerWidth") > 600
    answer_ends = page.locator("#next").evaluate("(section) => section.getBoundingClientRect().bottom + scrollY")
    assert answer_ends <= (2 if wide else 2.5) * 800
    assert page.evaluate("document.documentElement.scrollHeight") <= (2.5 if wide else 3.5) * 800
    assert page.locator("details[open]").count() == 0
    assert page.locator(".js-plotly-plot").count() == 1


def test_the_verdict_and_every_figure_are_shown_once_unfolded(visit: Visit) -> None:
    visit.unfold()
    for sentence in verdict(visit.findings).lines:
        words = re.sub("`[^`]*`.*", "", sentence.partition(": ")[2] or sentence)
        assert visit.page.locator("#verdict").get_by_text(words).first.is_visible(), sentence
    plots = visit.page.locator(".plot")
    assert plots.count() == visit.figures
    for index in range(visit.figures):
        assert plots.nth(index).locator("svg.main-svg").count() >= 1
        assert plots.nth(index).locator(".trace, .shapelayer path").count() >= 1
    settings = visit.page.locator("#settings pre")
    assert settings.is_visible()
    assert "learning_rate = " in settings.inner_text()
    visit.fold()


def test_a_figure_is_as_wide_as_its_place_whenever_it_is_unfolded(visit: Visit) -> None:
    page, fold = visit.page, visit.page.locator("details.fold", has=visit.page.locator("#loss-curves"))
    size = page.viewport_size
    assert size is not None
    fold.locator("> summary").press("Enter")
    expect(page.locator("#plot-loss-curves-0 .xy").first).to_be_attached()
    assert _width(page, "#plot-loss-curves-0 .main-svg") == _width(page, "#plot-loss-curves-0")
    fold.locator("> summary").press("Enter")
    assert not page.locator("#plot-loss-curves-0").is_visible()
    page.set_viewport_size({"width": size["width"] - 40, "height": size["height"]})
    fold.locator("> summary").press("Enter")
    width = _width(page, "#plot-loss-curves-0")
    expect(page.locator("#plot-loss-curves-0 .main-svg").first).to_have_css("width", f"{width}px")
    fold.locator("> summary").press("Enter")
    page.set_viewport_size(size)


def _width(page: Page, selector: str) -> float:
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return round(box["width"])


def test_without_scripts_everything_can_be_read(browser: Browser, reports: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(reports["confirmed"].as_uri())
    assert page.locator("table.changes svg.interval").first.is_visible()
    assert page.locator(".copy").count() == 0
    fold = page.locator("#verdict")
    assert not fold.locator("li").first.is_visible()
    fold.locator("summary").click()
    assert fold.locator("li").first.is_visible()
    context.close()


def test_a_command_is_copied_or_else_selected(visit: Visit) -> None:
    page, commands = visit.page, [piece.command for piece in visit.answer.advice if piece.command]
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    buttons = page.locator(".advice").get_by_role("button", name="Copy:")
    assert buttons.count() == len(commands)
    for index, command in enumerate(commands):
        buttons.nth(index).press("Enter")
        expect(page.locator("#status")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == command
        assert buttons.nth(index).inner_text() == "Copied"
        page.evaluate("document.querySelector('#status').textContent = ''")
    page.evaluate(
        """() => {
            navigator.clipboard.writeText = () => Promise.reject(new Error("not allowed"));
            document.execCommand = () => false;
        }"""
    )
    buttons.first.press("Enter")
    expect(page.locator("#status")).to_have_text("Selected; press Ctrl+C to copy")
    assert page.evaluate("getSelection().toString()").strip() == commands[0]


def test_colours_follow_the_reader_and_change_with_them(browser: Browser, reports: dict[str, Path]) -> None:
    visit = Visit(browser, reports["forked"], study="forked", width=1280, scheme="dark")
    page = visit.page
    assert _paper(page) == ["rgb(22, 27, 34)"] * 2
    fork = page.locator("#plot-fork-0")
    line = fork.evaluate("(plot) => plot.data.find((trace) => trace.name === 'origin').line.color")
    assert line == DARK[BLACK]
    band = fork.evaluate("(plot) => plot.layout.shapes.find((shape) => shape.fillcolor).fillcolor")
    assert band.startswith(DARK[BLACK])  # with an opacity after it
    page.emulate_media(color_scheme="light")
    papers = page.locator(".plot .main-svg:first-child")
    expect(papers.first).to_have_css("background-color", "rgb(255, 255, 255)")
    assert _paper(page) == ["rgb(255, 255, 255)"] * 2
    visit.unfold()
    page.emulate_media(color_scheme="dark")
    for index in range(papers.count()):
        expect(papers.nth(index)).to_have_css("background-color", "rgb(22, 27, 34)")
    assert visit.errors == []
    visit.context.close()


def _paper(page: Page) -> list[str]:
    """Return the colours behind the leading figure: the page's own, and plotly's."""
    return page.evaluate(  # type: ignore[no-any-return]
        """() => [
            getComputedStyle(document.querySelector(".lead")).backgroundColor,
            getComputedStyle(document.querySelector(".lead .main-svg")).backgroundColor,
        ]"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(browser: Browser, reports: dict[str, Path], scheme: Literal["light", "dark"]) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5:1, for every text of the page and of the figures on its background."""
    visit = Visit(browser, reports["confirmed"], study="confirmed", width=1280, scheme=scheme)
    visit.unfold()
    assert visit.page.evaluate(_FAINT_TEXTS) == []
    visit.context.close()


_FAINT_TEXTS = """() => {
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
        .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const background = (element) => {
        for (let parent = element; parent; parent = parent.parentElement) {
            const colour = parts(getComputedStyle(parent).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    return [...document.body.querySelectorAll("*")]
        .filter((element) => own(element) && element.checkVisibility())
        .filter((element) => !["SCRIPT", "STYLE"].includes(element.tagName))
        .map((element) => {
            const style = getComputedStyle(element);
            const ink = parts(element.closest("svg") ? style.fill : style.color);
            const [one, other] = [luminance(ink), luminance(background(element))].sort((a, b) => b - a);
            return [(one + 0.05) / (other + 0.05), element.tagName + ": " + element.textContent.slice(0, 40)];
        })
        .filter(([contrast]) => contrast < 4.5);
}"""


def test_plotlys_tools_appear_under_the_pointer_and_over_nothing(browser: Browser, reports: dict[str, Path]) -> None:
    visit = Visit(browser, reports["confirmed"], study="confirmed", width=1280)
    visit.unfold()
    page = visit.page
    tools = page.locator("#plot-loss-curves-0 .modebar-btn").evaluate_all(
        "(buttons) => buttons.map((button) => button.getAttribute('aria-label'))"
    )
    assert "Zoom" in tools
    assert not any("Share" in tool for tool in tools)  # which would send the figure to plotly's servers
    for name in ("head-to-head", "loss-curves", "effects"):
        plot = page.locator(f"#plot-{name}-0")
        plot.scroll_into_view_if_needed()
        page.mouse.move(0, 0)
        expect(plot.locator(".modebar-group").first).to_have_css("opacity", "0")
        plot.hover()
        expect(plot.locator(".modebar-group").first).to_have_css("opacity", "1")
        bar = plot.locator(".modebar-group").first.bounding_box()
        assert bar is not None
        for other in (*plot.locator(".legend").all(), plot.locator(".nsewdrag").first):
            box = other.bounding_box()
            if box is not None:
                assert bar["y"] + bar["height"] <= box["y"] + 1, name
    visit.context.close()


def test_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for box in visit.page.locator(".box:has(.changes)").all():
        assert box.evaluate("(box) => box.scrollWidth <= box.clientWidth")
    visit.unfold()
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # titles of axes and names in legends must stay inside their figures
    outside = visit.page.evaluate(
        """() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
            const box = plot.getBoundingClientRect();
            const titles = ".xtitle, .ytitle, .legendtext, #plot-fork-0 .annotation, #plot-races-0 .annotation, "
                + "#plot-head-to-head-0 .annotation";
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
    visit.fold()


def test_the_labels_of_the_fork_do_not_meet(visit: Visit) -> None:
    if visit.findings.study.name != "forked":
        assert visit.page.locator("#fork").count() == 0
        return
    places = [note.bounding_box() for note in visit.page.locator("#plot-fork-0 .annotation").all()]
    assert len(places) == 6  # four ends of lines, the plateau, the fork
    for one, other in itertools.combinations([place for place in places if place is not None], 2):
        apart = [one[axis] + one[size] <= other[axis] + 1 for axis, size in (("x", "width"), ("y", "height"))]
        apart += [other[axis] + other[size] <= one[axis] + 1 for axis, size in (("x", "width"), ("y", "height"))]
        assert any(apart)


def test_tables_sort_by_keyboard(visit: Visit) -> None:
    page = visit.page
    visit.fold()
    page.locator("#trials > summary").press("Enter")
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
    assert "descending" in page.locator("#status").inner_text()
    page.get_by_role("button", name="Outcome").press("Enter")
    assert _column(page, "Outcome") == sorted(_column(page, "Outcome"))
    assert header.get_attribute("aria-sort") is None
    page.locator("#trials > summary").press("Enter")


def test_the_changes_sort_and_their_scale_stays_below(visit: Visit) -> None:
    table = visit.page.locator("table.changes").first
    nats = table.get_by_role("button", name="Nats")
    nats.press("Enter")
    effects = [row.effect for row in visit.answer.rows if row.protocol == visit.answer.rows[0].protocol]
    known = sorted(effect for effect in effects if effect is not None)
    shown = table.locator("tbody td.effect").evaluate_all("(cells) => cells.map((cell) => cell.dataset.value)")
    assert [float(value) for value in shown if value] == known
    assert table.locator("tr").last.locator("svg.axis").count() == 1
    nats.press("Enter")
    shown = table.locator("tbody td.effect").evaluate_all("(cells) => cells.map((cell) => cell.dataset.value)")
    assert [float(value) for value in shown if value] == known[::-1]


def _column(page: Page, name: str) -> list[str]:
    return page.evaluate(  # type: ignore[no-any-return]
        """(name) => {
            const table = document.querySelector("table.runs");
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


def test_a_link_to_what_is_folded_opens_it(visit: Visit) -> None:
    visit.page.evaluate("location.hash = 'loss-curves'")
    expect(visit.page.locator("#plot-loss-curves-0 .xy").first).to_be_visible()
    visit.page.evaluate("location.hash = ''")
    visit.fold()


def test_the_tab_key_goes_through_the_answer_in_order_with_a_visible_focus(visit: Visit) -> None:
    page = visit.page
    page.locator("a").first.focus()
    stops = []
    for _ in range(60):
        name, width, top = page.evaluate(
            """() => {
                const at = document.activeElement;
                const name = at.closest("section")?.id + " " + (at.className || at.tagName.toLowerCase());
                return [name, getComputedStyle(at).outlineWidth, at.getBoundingClientRect().top + scrollY];
            }"""
        )
        assert width == "3px", name
        stops.append((name, top))
        if name.startswith("details"):
            break
        page.keyboard.press("Tab")
    names = [name for name, _ in stops]
    assert names[0] == "undefined skip"
    assert names[1] == "answer summary"  # how to read the figure, whose tools are skipped
    assert "answer box" in names
    copies = sum(1 for piece in visit.answer.advice if piece.command)
    assert names.count("next copy") == copies
    tops = [top for _, top in stops[1:]]
    assert all(after >= before - 40 for before, after in itertools.pairwise(tops))  # within a row of headers
    assert names[-1] == "details summary"
    tools = "[...document.querySelectorAll('.plot *')].filter((element) => element.tabIndex >= 0).length"
    assert page.evaluate(tools) == 0


def test_it_prints_on_a4_at_full_size(visit: Visit) -> None:
    page = visit.page
    pdf = page.pdf(format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "12mm"))
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", pdf)) > 6  # with all that was folded
    # the browser would shrink a page wider than the paper; 300 dots per 96 pixels is full size
    assert set(_scales(pdf)) == {300 / 96}
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 703, "height": 1000})  # A4 less the margins
    assert page.locator("#answer").is_visible()
    assert not page.locator("#verdict li").first.is_visible()  # folded again after printing
    for hidden in (".modebar", ".copy"):
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
