"""The report as HTML: self-contained, escaped, readable in structure, with few runs as with many."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.album import album_of
from sweeps.report.publish import page_of
from sweeps.store.records import Outcome, Run
from sweeps.study.start import CheckpointStart
from sweeps.verdict.glance import answer_of
from sweeps.verdict.verdict import verdict
from tests.helpers import attributions, branches, synthetic
from tests.helpers.report_page import Page, confirmed_html, forked_html, searched_html

EVIL = "<script>alert('x')</script> \"&amp; </title><img src=http://x.test/y onerror=alert(1)>"


@pytest.fixture(scope="module", params=["full", "swept", "forked"])
def either(request: pytest.FixtureRequest) -> str:
    pages = {"full": searched_html, "swept": confirmed_html, "forked": forked_html}
    return pages[request.param]()


def test_nothing_is_loaded_from_anywhere(either: str) -> None:
    page = Page(either)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    policy = next(meta["content"] for meta in page.named("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "@import" not in either.partition("</style>")[0]
    assert "url(" not in either.partition("</style>")[0]
    assert either.count("plotly.js v") == 1


def test_structure(either: str) -> None:
    page = Page(either)
    assert page.named("html")[0]["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert headings.count(2) == len(page.named("section")) == 3
    assert [section["id"] for section in page.named("section")] == ["answer", "next", "details"]
    assert [len(page.named(tag)) for tag in ("header", "main")] == [1, 1]
    inner = {(link["href"] or "").removeprefix("#") for link in page.named("a")}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert inner <= set(ids)
    labelled = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(labelled) <= set(ids)
    skip = next(link for link in page.named("a") if link.get("class") == "skip")
    assert (skip["href"] or "").removeprefix("#") in ids


def test_every_figure_is_json_with_a_place_and_a_description() -> None:
    page = Page(searched_html())
    plots = {a["id"]: a for a in page.named("div") if a.get("class") == "plot"}
    scripts = [a for a in page.named("script") if "data-plot" in a]
    pictures = album_of(Findings(synthetic.full())).pictures
    assert len(plots) == len(scripts) == sum(len(picture.figures) for picture in pictures)
    for attributes, text in zip(page.named("script"), page.scripts, strict=True):
        if "data-plot" in attributes:
            assert plots[attributes["data-plot"]]["aria-label"]
            assert plots[attributes["data-plot"]]["role"] == "img"
            assert set(json.loads(text)) == {"data", "layout"}


STUDIES = {"full": synthetic.full, "swept": attributions.swept, "forked": branches.forked}


def test_every_sentence_of_the_verdict_is_there_to_read(either: str, request: pytest.FixtureRequest) -> None:
    (results,) = (study() for name, study in STUDIES.items() if name in request.node.name)
    text = Page(either).text
    for line in verdict(Findings(results)).lines:
        assert " ".join(line.replace("`", "").split()) in text


def test_the_answer_comes_first_then_what_to_do_and_the_rest_is_folded(
    either: str, request: pytest.FixtureRequest
) -> None:
    (results,) = (study() for name, study in STUDIES.items() if name in request.node.name)
    answer, page = answer_of(Findings(results)), Page(either)
    text = page.text
    order = [
        answer.sentence,
        *(piece.text.replace("`", "") for piece in answer.advice),
        "Details",
        "The verdict in full",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    folds = [a for a in page.named("details") if a.get("class") == "fold"]
    assert all("open" not in fold for fold in folds)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    first_fold = ids.index(folds[0]["id"])
    for picture in album_of(Findings(results)).pictures[1:]:
        assert ids.index(picture.key) > first_fold
    assert ids.index("trials") > first_fold


def test_the_fork_leads_and_the_races_are_among_the_curves() -> None:
    page = Page(forked_html())
    assert [figure["id"] for figure in page.named("figure")] == ["fork"]
    articles = [article["id"] for article in page.named("article")]
    assert articles[:5] == ["confirmed-effects", "ablation-path", "every-seed", "origin", "races"]
    assert "best-curve" not in articles
    assert [figure["id"] for figure in Page(confirmed_html()).named("figure")] == ["head-to-head"]


def test_commands_can_be_copied(either: str, request: pytest.FixtureRequest) -> None:
    (results,) = (study() for name, study in STUDIES.items() if name in request.node.name)
    page = Page(either)
    commands = [piece.command for piece in answer_of(Findings(results)).advice if piece.command]
    assert commands
    assert sum("data-copy" in attributes for attributes in page.named("code")) >= len(commands)
    assert all(command in page.text for command in commands)


def test_tables_are_named_and_sort_by_every_column(either: str) -> None:
    page = Page(either)
    boxes = [a for a in page.named("div") if a.get("class") == "box"]
    assert len(page.named("table")) == len(page.named("caption")) == len(boxes) >= 3
    assert {(a["role"], a["tabindex"]) for a in boxes} == {("region", "0")}
    assert all(a["aria-label"] for a in boxes)
    buttons = page.named("button")
    assert {a["type"] for a in buttons} == {"button"}
    assert len(buttons) == len([a for a in page.named("th") if a["scope"] == "col"])
    cells = [a for tag in ("td", "th") for a in page.named(tag) if a.get("scope") != "col"]
    assert sum("data-value" not in a for a in cells) == 4 * len(page.named("tfoot"))  # the scale, which stays below


def test_each_changed_setting_has_its_verdict() -> None:
    cells = [cell.get("data-value") for cell in Page(confirmed_html()).named("td")]
    assert any((cell or "").startswith("breaks the plateau alone; alone it gains 0.086 nats (95") for cell in cells)
    assert any((cell or "").startswith("no effect shown; alone it ") for cell in cells)
    assert cells.count("follows from the knobs") == 2  # n_head with the width, min_lr with the rate


def test_a_best_config_is_not_offered_as_one_before_it_is_shown_to_be() -> None:
    caveat = "not shown to be better than the baseline; changes from the baseline"
    one_seed = Page(page_of(Findings(attributions.swept(seeds=1)))).text
    assert "is not shown to be better than the baseline" in one_seed
    assert caveat in one_seed
    assert caveat in Page(searched_html()).text
    assert caveat not in Page(confirmed_html()).text


def test_what_it_ends_with_is_of_fresh_seeds() -> None:
    results = attributions.swept()
    fresh = [run for run in results.runs if run.label.startswith("best (trial 15), seed")]
    assert len(fresh) == 5
    best = sum(run.val_loss or 0.0 for run in fresh) / 5
    # the width changes, so seeds are unpaired and all seeds of the baseline count
    seeds = [run for run in results.runs if run.config == results.runs[0].config.replace(seed=run.seed)]
    assert len(seeds) == 6
    baseline = sum(run.val_loss or 0.0 for run in seeds) / 6
    assert f"final loss{baseline:.4f}{best:.4f}" in Page(confirmed_html()).text


def test_whatever_the_study_says_is_only_text() -> None:
    results = synthetic.full(trials=5)
    assert any(run.outcome == "diverged" for run in results.runs)  # the verdict quotes its reason
    runs = [dataclasses.replace(run, label=f"{run.label} {EVIL}", reason=EVIL, device=EVIL) for run in results.runs]
    data = dataclasses.replace(results.data, path=EVIL, fingerprint=EVIL)
    evil = dataclasses.replace(results, runs=tuple(runs), data=data, provenance={EVIL: EVIL})
    clean, page = Page(page_of(Findings(results))), Page(page_of(Findings(evil)))
    assert [tag for tag, _ in page.elements].count("script") == [tag for tag, _ in clean.elements].count("script")
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert not any(value for _, attributes in page.elements for value in attributes if value and "<" in value)
    assert "".join(page.texts).count("<script>") > len(runs)  # shown as text


def test_whatever_is_known_of_an_origin_is_only_text() -> None:
    study = branches.forked_study(notes=[EVIL], checkpoint=EVIL)
    study = study.model_copy(update={"start": CheckpointStart(checkpoint=EVIL, log=EVIL)})
    failed = dataclasses.replace(branches.forked().runs[0], outcome=Outcome.FAILED, reason=EVIL)
    for results in (
        dataclasses.replace(branches.forked(), study=study),
        synthetic.results([failed], study=branches.study()),
    ):
        page = Page(page_of(Findings(results)))
        assert "img" not in {tag for tag, _ in page.elements}
        assert not any(value for _, attributes in page.elements for value in attributes if value and "<" in value)
        assert "".join(page.texts).count("<script>") >= 2


@pytest.mark.parametrize(
    "runs", [[], [synthetic.run(0, "baseline")], [synthetic.run(0, outcome="failed", val_loss=None)]]
)
def test_tiny_results_have_a_report_too(runs: list[Run]) -> None:
    page = Page(page_of(Findings(synthetic.results(runs))))
    assert page.text.count(answer_of(Findings(synthetic.results(runs))).sentence) >= 1
    assert len(page.named("tr")) >= len(runs)


def test_figures_have_no_more_digits_than_can_be_seen() -> None:
    figures = "".join(text for text in Page(searched_html()).scripts if text.startswith('{"data"'))
    numbers = re.findall(r"[:,\[](-?\d+\.\d+(?:e-?\d+)?)(?=[,\]}])", figures)
    assert len(numbers) > 1000
    assert all(float(f"{float(number):.7g}") == float(number) for number in numbers)


def test_the_same_results_give_the_same_page() -> None:
    assert page_of(Findings(synthetic.full())) == searched_html()
