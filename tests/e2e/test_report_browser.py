"""The report in a real browser: offline, without errors, every figure drawn, usable by keyboard and on a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from sweeps.report import write_report
from tests import synthetic

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
FIGURES = 20

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
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(synthetic.full(), tmp_path_factory.mktemp("report") / "report.html")


class Visit:
    """A page opened offline, and everything that went wrong while it was."""

    def __init__(self, browser: Browser, report: Path, *, width: int) -> None:
        self.context = browser.new_context(offline=True, viewport={"width": width, "height": 800})
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # a busy machine is no error
        self.context.route("**/*", self._route)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type != "log" else None)
        self.page.goto(report.as_uri())
        self.page.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .xy').length >= {FIGURES}")

    def _route(self, route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()


@pytest.fixture(scope="module", params=[1280, 390], ids=["desktop", "phone"])
def visit(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Visit]:
    visit = Visit(browser, report, width=request.param)
    yield visit
    visit.context.close()
    assert visit.requests == []
    assert visit.errors == []


def test_verdict_and_figures_are_there(visit: Visit) -> None:
    assert visit.page.locator("#verdict").is_visible()
    assert "n_embd" in visit.page.locator("#verdict .headline").inner_text()
    plots = visit.page.locator(".plot")
    assert plots.count() == FIGURES
    for index in range(FIGURES):
        assert plots.nth(index).locator("svg.main-svg").count() >= 1
        assert plots.nth(index).locator(".trace, .shapelayer path").count() >= 1


def test_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # titles of axes stay inside their figures
    outside = visit.page.evaluate(
        """() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
            const box = plot.getBoundingClientRect();
            return [...plot.querySelectorAll(".xtitle, .ytitle, .legendtext")]
                .filter((title) => {
                    const inner = title.getBoundingClientRect();
                    return inner.width && (inner.left < box.left - 1 || inner.right > box.right + 1
                        || inner.top < box.top - 1 || inner.bottom > box.bottom + 1);
                })
                .map((title) => plot.id + ": " + title.textContent);
        })"""
    )
    assert outside == []


def test_tables_sort_by_keyboard(visit: Visit) -> None:
    page = visit.page
    header = page.locator("th", has=page.get_by_role("button", name="Final loss"))
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    losses = _column(page, "Final loss")
    known = [float(loss) for loss in losses if loss]
    assert known == sorted(known)
    assert known[0] == min(run.val_loss for run in synthetic.full().runs if run.val_loss is not None)
    assert losses == [*map(str, known), *[""] * (len(losses) - len(known))]  # runs without a loss go last
    page.keyboard.press("Space")
    assert header.get_attribute("aria-sort") == "descending"
    losses = _column(page, "Final loss")
    assert [float(loss) for loss in losses if loss] == known[::-1]
    assert losses[-1] == ""
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


def test_it_prints(visit: Visit) -> None:
    visit.page.emulate_media(media="print")
    assert visit.page.locator("#verdict").is_visible()
    assert not visit.page.locator(".modebar").first.is_visible()
    visit.page.emulate_media(media="screen")
