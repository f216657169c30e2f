"""The report as HTML: self-contained, escaped, readable in structure, with few runs as with many."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.publish import all_pictures, page_of
from sweeps.store.records import Outcome, Run
from sweeps.study.start import CheckpointStart
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
    assert headings.count(2) == len(page.named("section")) == 5
    assert [section["id"] for section in page.named("section")] == [
        "verdict",
        "next",
        "evidence",
        "trials",
        "provenance",
    ]
    assert [len(page.named(tag)) for tag in ("header", "nav", "main")] == [1, 1, 1]
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
    scripts = [a for a in page.named("script") if a.get("type") == "application/json"]
    pictures = all_pictures(Findings(synthetic.full()))
    assert len(plots) == len(scripts) == sum(len(picture.figures) for picture in pictures)
    for attributes, text in zip(page.named("script"), page.scripts, strict=True):
        if attributes.get("type") == "application/json":
            assert plots[attributes["data-plot"]]["aria-label"]
            assert plots[attributes["data-plot"]]["role"] == "img"
            assert set(json.loads(text)) == {"data", "layout"}


def test_every_sentence_of_the_verdict_is_there_to_read(either: str, request: pytest.FixtureRequest) -> None:
    studies = {"full": synthetic.full, "swept": attributions.swept, "forked": branches.forked}
    (results,) = (study() for name, study in studies.items() if name in request.node.name)
    text = Page(either).text
    for line in verdict(Findings(results)).lines:
        assert " ".join(line.replace("`", "").split()) in text


def test_the_verdict_comes_first_then_what_to_train_next() -> None:
    text = Page(confirmed_html()).text
    order = ["Learning rate 0.001 → 0.003 breaks the plateau alone", "sweep export plateau --iters 600 -o"]
    order += ["As nanoGPT settings", "Evidence", "Effect of each knob", "Every run", "Commands to repeat the study"]
    places = [text.index(heading, text.index("Verdict Learning")) for heading in order]
    assert places == sorted(places)


def test_the_fork_stands_right_under_the_headline_and_the_races_lead_the_evidence() -> None:
    page = Page(forked_html())
    articles = [article["id"] for article in page.named("article")]
    assert articles[:3] == ["fork", "races", "confirmed-effects"]
    assert "best-curve" not in articles
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert ids.index("verdict") < ids.index("fork") < ids.index("next") < ids.index("evidence") < ids.index("races")
    headline = verdict(Findings(branches.forked())).headline
    text = page.text.partition("Verdict")[2]
    assert text.index(headline) < text.index("The origin and its branches") < text.index("What it rests on")
    assert [a["class"] for a in page.named("div") if "beside" in (a.get("class") or "")] == ["panels beside"]


def test_tables_are_named(either: str) -> None:
    page = Page(either)
    assert len(page.named("table")) == len(page.named("caption")) == 2
    boxes = [a for a in page.named("div") if a.get("class") == "box"]
    assert [(a["role"], a["tabindex"]) for a in boxes] == [("region", "0")] * 2
    assert all(a["aria-label"] for a in boxes)
    buttons = [a for tag, a in page.elements if tag == "button"]
    assert all(a["type"] == "button" for a in buttons)
    knobs = len(synthetic.KNOBS) - (either is forked_html())  # whose width races instead
    assert len(buttons) == 11 + knobs


def test_each_changed_setting_has_its_verdict() -> None:
    cells = [cell.get("data-value") for cell in Page(confirmed_html()).named("td")]
    assert any((cell or "").startswith("breaks the plateau alone; alone it gains 0.086 nats (95") for cell in cells)
    assert any((cell or "").startswith("no effect shown; alone it ") for cell in cells)
    assert cells.count("follows from the knobs") == 2  # n_head with the width, min_lr with the rate


def test_a_best_config_is_not_offered_as_one_before_it_is_shown_to_be() -> None:
    caveat = "not shown to be better than the baseline; changes from the baseline"
    one_seed = Page(page_of(Findings(attributions.swept(seeds=1)))).text
    assert "No config is shown to be better than the baseline" in one_seed
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
    assert any(attributes.get("id") == "verdict" for _, attributes in page.elements)
    assert len(page.named("tr")) >= len(runs)


def test_the_same_results_give_the_same_page() -> None:
    assert page_of(Findings(synthetic.full())) == searched_html()
