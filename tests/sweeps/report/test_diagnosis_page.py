"""The HTML page of a diagnosis: well formed, self-contained, escaped, with the curve, the fit and the schedule."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sweeps.diagnose.diagnosis import diagnosis_of
from sweeps.diagnose.log import read_log
from sweeps.diagnose.measured import Given
from sweeps.errors import SpecError
from sweeps.report.diagnosis_page import diagnosis_page, write_diagnosis
from tests.helpers.logged_runs import SETTINGS, Simulated, flat
from tests.helpers.training_logs import text_of


def svg_of(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])  # noqa: S314  # our own


def classes(figure: ElementTree.Element) -> dict[str, int]:
    found = [element.get("class", "") for element in figure.iter()]
    return {name: found.count(name) for name in found}


def test_the_page_has_the_curve_the_fit_the_forecast_and_the_schedule() -> None:
    html = diagnosis_page(Simulated(last=1400).diagnosis())
    drawn = classes(svg_of(html))
    assert drawn["validation"] == drawn["training"] == 29
    assert drawn["fit"] == drawn["ahead"] == drawn["band"] == drawn["rate"] == 1
    assert "since" not in drawn
    stuck = diagnosis_page(Simulated(train=flat, val=flat).diagnosis())
    assert classes(svg_of(stuck))["since"] == 1


def test_the_page_needs_nothing_else() -> None:
    html = diagnosis_page(Simulated().diagnosis())
    assert not re.findall(r"<script|<link (?!rel=\"icon\" href=\"data:,\")|src=|url\(|https?:", html)

    class Balanced(HTMLParser):
        opened: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # its form
            if tag not in ("meta", "link", "br", "line", "circle", "polyline", "polygon"):
                self.opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("line", "circle", "polyline", "polygon"):
                assert self.opened.pop() == tag

    parser = Balanced()
    parser.opened = []
    parser.feed(html)
    assert not parser.opened


def test_text_of_the_log_is_escaped() -> None:
    (run,) = read_log(text_of(Simulated().lines()), name="<script>alert(1)</script>")
    html = diagnosis_page(diagnosis_of(run, Given(settings=SETTINGS)))
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_a_run_of_one_loss_has_a_page_without_a_figure() -> None:
    (run,) = read_log("step 0: train loss 4.0000, val loss 4.0000\n", name="a.log")
    assert "<svg" not in diagnosis_page(diagnosis_of(run))


def test_a_path_that_cant_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SpecError, match=r"--html .*cannot be written"):
        write_diagnosis(Simulated().diagnosis(), tmp_path / "file" / "page.html")
    write_diagnosis(Simulated().diagnosis(), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
