"""Sections of the report about single runs: the table, the seeds, the time, the commands."""

from __future__ import annotations

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.publish import page_of
from tests.helpers import attributions, branches, synthetic
from tests.helpers.report_page import Page, confirmed_html, forked_html, searched_html


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
    plain = Page(page_of(Findings(synthetic.results(runs)))).text
    assert "time70 min, 93 s per run of the baseline" in plain
    estimate = {"estimated at the start": "2 h 05 min, 80 s per run of the baseline"}
    text = Page(page_of(Findings(synthetic.results(runs, provenance=estimate)))).text
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


def test_the_table_says_where_the_origin_and_the_races_were_halted() -> None:
    page = Page(forked_html())
    values = [cell.get("data-value") for cell in page.named("td")]
    assert values.count("halted") == 6  # the origin, the same on another seed, two changes on two seeds
    assert values.count("going on") == 1
    losses = {"1337": 0.0, "1338": 0.0}
    for run in branches.forked().runs:
        if run.label == f"race: n_embd 768 from scratch, seed {run.seed}":
            losses[str(run.seed)] = run.points[-1].val_loss
    assert {f"a race of 1,200 iterations; {loss:.4f} on the small set" for loss in losses.values()} < {*values}
    assert "its curve is a plateau; 3.9000 on the small set" in values


def test_the_provenance_tells_the_origin_and_what_branches_are_measured_by() -> None:
    text = Page(forked_html()).text
    tokens = 400 * 16 * 256
    assert f"a trial400 iterations from the origin at step 2,400, {tokens:,} tokens, 0.24 epochs" in text
    assert "startthe baseline, trained for up to 3,000 iterations" in text
    assert "originstep 2,400 of seed 1337; learning rate 3e-4; sha256 ab12" in text
    assert "going on−0.008 nats in 400 iterations" in text
    assert "min_effect0.002 nats" in text
    assert "races600 iterations, up to twice as many, 2 seeds: n_embd 768 and n_layer 12" in text
    assert "from the origin" not in Page(searched_html()).text
