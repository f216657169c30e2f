"""Sections of the report about single runs: the table, the seeds, the time, the commands."""

from __future__ import annotations

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.page import render
from sweeps.report.publish import page_of
from tests.helpers import attributions, synthetic
from tests.helpers.report_page import Page, confirmed_html, searched_html


def test_confirm_runs_are_in_the_table_with_their_phase() -> None:
    values = [cell.get("data-value") for cell in Page(confirmed_html()).named("td")]
    runs = attributions.swept().runs
    # once in the column of phases, once in the column of origins
    assert values.count("confirm") == 2 * sum(run.phase == "confirm" for run in runs) > 100
    assert values.count("baseline") == 2 * 3
    assert values.count("search") == sum(run.phase == "search" for run in runs) > 10


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("/home/me/.venv/bin/sweep run studies/plateau.yaml --profile cpu", "sweep run studies/plateau.yaml --profile"),
        ("/usr/lib/sweeps/__main__.py run a.yaml", "/usr/lib/sweeps/__main__.py run a.yaml sweep report plateau"),
        ("", "Commands to repeat the study sweep report plateau sweep verdict plateau sweep export plateau"),
    ],
)
def test_commands_to_repeat_it(command: str, shown: str) -> None:
    text = Page(page_of(Findings(synthetic.results([], provenance={"command": command})))).text
    assert shown in text[text.index("Commands to repeat the study") :]


def test_what_it_took_stands_beside_what_was_estimated() -> None:
    runs = [synthetic.run(0, "baseline", seconds=90.0), synthetic.run(1, "baseline", seconds=96.0, seed=1338)]
    plain = Page(render(Findings(synthetic.results(runs)), [])).text
    assert "time70 min, 93 s per run of the baseline" in plain
    estimate = {"estimated at the start": "2 h 05 min, 80 s per run of the baseline"}
    text = Page(render(Findings(synthetic.results(runs, provenance=estimate)), [])).text
    sentence = (
        "estimated at the start: 2 h 05 min, 80 s per run of the baseline; took: 70 min, 93 s per run of the baseline"
    )
    assert text.count("80 s per run") == 1
    assert sentence in text


def test_seeds_are_told_by_phase() -> None:
    text = Page(confirmed_html()).text
    assert "baseline 1337, 1338, 1339; search 1337; confirm 1338, 1339, 1340, 1341, 1342" in text


def test_every_run_is_in_the_table_with_its_full_loss() -> None:
    results = synthetic.full()
    page = Page(searched_html())
    values = {cell.get("data-value") for cell in page.named("td")}
    for run in results.runs:
        assert run.label in values
        assert run.val_loss is None or str(run.val_loss) in values


def test_the_table_says_why_trials_were_stopped_and_which_went_on() -> None:
    values = {cell.get("data-value") or "" for cell in Page(searched_html()).named("td")}
    judged = [run for run in synthetic.full().runs if run.pruning is not None]
    assert {run.reason for run in judged if run.outcome == "pruned"} < values
    sentinels = [run.pruning.why for run in judged if run.pruning and run.pruning.sentinel]
    assert sentinels
    assert {f"sentinel, went on; {why}" for why in sentinels} < values
