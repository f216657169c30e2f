"""The report as HTML: self-contained, escaped, readable in structure, with few runs as with many."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sweeps.report import render, write_report
from sweeps.results import Run
from sweeps.words import why_pruned
from tests import synthetic

EVIL = "<script>alert('x')</script> \"&amp; </title><img src=http://x.test/y onerror=alert(1)>"


class Page(HTMLParser):
    """Elements with their attributes, and the text of each script, in the page's order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def full() -> str:
    return render(synthetic.full())


def test_nothing_is_loaded_from_anywhere(full: str) -> None:
    page = Page(full)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    policy = next(meta["content"] for meta in page.named("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "@import" not in full.partition("</style>")[0]
    assert "url(" not in full.partition("</style>")[0]
    assert full.count("plotly.js v") == 1


def test_structure(full: str) -> None:
    page = Page(full)
    assert page.named("html")[0]["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert headings.count(2) == len(page.named("section")) == 5
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "verdict" in ids
    labelled = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(labelled) <= set(ids)
    skip = next(link for link in page.named("a") if link.get("class") == "skip")
    assert (skip["href"] or "").removeprefix("#") in ids


def test_every_figure_is_json_with_a_place_and_a_description(full: str) -> None:
    page = Page(full)
    plots = {a["id"]: a for a in page.named("div") if a.get("class") == "plot"}
    scripts = [a for a in page.named("script") if a.get("type") == "application/json"]
    assert len(plots) == len(scripts) == 20
    for attributes, text in zip(page.named("script"), page.scripts, strict=True):
        if attributes.get("type") == "application/json":
            assert plots[attributes["data-plot"]]["aria-label"]
            assert plots[attributes["data-plot"]]["role"] == "img"
            assert set(json.loads(text)) == {"data", "layout"}


def test_every_run_is_in_the_table_with_its_full_loss(full: str) -> None:
    results = synthetic.full()
    page = Page(full)
    values = {cell.get("data-value") for cell in page.named("td")}
    for run in results.runs:
        assert run.label in values
        assert run.val_loss is None or str(run.val_loss) in values


def test_the_table_says_why_trials_were_stopped_and_which_went_on(full: str) -> None:
    values = {cell.get("data-value") or "" for cell in Page(full).named("td")}
    noted = [run for run in synthetic.full().runs if run.pruning is not None]
    assert {run.reason for run in noted if run.outcome == "pruned"} < values
    sentinels = [why_pruned(run.pruning) for run in noted if run.pruning and run.pruning.sentinel]
    assert sentinels
    assert {f"sentinel, went on; {why}" for why in sentinels} < values


def test_whatever_the_study_says_is_only_text() -> None:
    results = synthetic.full(trials=5)
    assert any(run.outcome == "diverged" for run in results.runs)  # its reason is in the verdict too
    runs = [dataclasses.replace(run, label=f"{run.label} {EVIL}", reason=EVIL, device=EVIL) for run in results.runs]
    data = dataclasses.replace(results.data, path=EVIL, fingerprint=EVIL)
    evil = dataclasses.replace(results, runs=tuple(runs), data=data, provenance={EVIL: EVIL})
    clean, page = Page(render(results)), Page(render(evil))
    assert [tag for tag, _ in page.elements].count("script") == [tag for tag, _ in clean.elements].count("script")
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert not any(value for _, attributes in page.elements for value in attributes if value and "<" in value)
    assert "".join(page.texts).count("<script>") > len(runs)  # it's there to read


@pytest.mark.parametrize(
    "runs", [[], [synthetic.run(0, "baseline")], [synthetic.run(0, outcome="failed", val_loss=None)]]
)
def test_tiny_results_have_a_report_too(runs: list[Run]) -> None:
    page = Page(render(synthetic.results(runs)))
    assert any(attributes.get("id") == "verdict" for _, attributes in page.elements)
    assert len(page.named("tr")) >= len(runs)


def test_the_same_results_give_the_same_page(full: str) -> None:
    assert render(synthetic.full()) == full


def test_the_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs" / "report.html"
    assert write_report(synthetic.results([]), path) == path
    first = path.read_text(encoding="utf-8")
    assert first.startswith("<!doctype html>")
    assert list(path.parent.iterdir()) == [path]

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_report(synthetic.results([synthetic.run(0)]), path)
    assert path.read_text(encoding="utf-8") == first
    assert list(path.parent.iterdir()) == [path]
