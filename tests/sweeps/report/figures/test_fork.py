"""The fork: lines shifted to meet it, means and bands over seeds, and pictures of every state of a sweep."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.figures.branch_lines import BEST, CONTROL, GOING_ON, KNOB, Branches, branches_of
from sweeps.report.figures.fork import fork_picture, origin_picture
from sweeps.store.records import Outcome, Results
from sweeps.study.proposals import baseline_proposals
from sweeps.study.start import CheckpointStart
from tests.helpers import branches as branched
from tests.helpers import synthetic
from tests.helpers.figures import note_texts, trace_named


def test_branches_meet_at_the_fork_and_the_band_is_their_range() -> None:
    """The origin is at 3.9 at iteration 2,400; the branches' windows are easier by 0.2, those of going on by 0.5."""
    study = branched.forked_study()
    origin, going_on, *_ = branched.before_trials(study).values()
    halted: dict[str, Any] = {"outcome": Outcome.HALTED, "val_loss": None}
    control = baseline_proposals(study, vocab_size=2048)
    runs = [
        branched.run_of(origin, 0, {0: 7.6, 1200: 4.0, 2400: 3.9, 2500: 3.0}, **halted),
        branched.run_of(going_on, 1, {2400: 3.4, 2600: 3.39, 2800: 3.38}),
        branched.run_of(control[0], 2, {0: 3.7, 200: 3.68, 400: 3.66}),
        branched.run_of(control[1], 3, {0: 3.7, 200: 3.64, 400: 3.60}),
        branched.run_of(control[2], 4, {0: 3.7, 200: 3.1}, outcome="running", val_loss=None),
    ]
    found = branches_of(Findings(synthetic.results(runs, study=study)))
    assert [(point.step, point.loss) for point in found.curve] == [(0, 7.6), (1200, 4.0), (2400, 3.9)]
    assert (found.step, found.level, found.since) == (2400, 3.9, 1800)
    assert [line.kind for line in found.lines] == [GOING_ON, CONTROL]
    before, control_line = found.lines
    assert before.x == (2400, 2600, 2800)
    assert before.means == pytest.approx((3.9, 3.89, 3.88))
    assert before.shift == pytest.approx(0.5)
    assert control_line.seeds == (1337, 1338)  # the third still runs
    assert control_line.x == (2400, 2600, 2800)
    assert control_line.lows == pytest.approx((3.9, 3.84, 3.80))
    assert control_line.means == pytest.approx((3.9, 3.86, 3.83))
    assert control_line.highs == pytest.approx((3.9, 3.88, 3.86))
    assert control_line.shift == pytest.approx(0.2)


def test_a_branch_of_other_batches_is_drawn_at_equal_tokens() -> None:
    study = branched.forked_study()
    baseline = baseline_proposals(study, vocab_size=2048)[0]
    twice = dataclasses.replace(baseline, config=baseline.config.replace(batch_size=32, max_iters=200))
    losses = {0: 3.7, 100: 3.65, 200: 3.6}
    results = synthetic.results([branched.run_of(twice, 0, losses)], study=study)
    (line,) = branches_of(Findings(results)).lines
    assert line.x == (2400, 2600, 2800)


@functools.cache
def _forked() -> Branches:
    return branches_of(Findings(branched.forked()))


def test_what_falls_is_compared_with_the_control_on_its_own_seeds() -> None:
    found = _forked()
    assert [line.kind for line in found.lines] == [GOING_ON, CONTROL, KNOB, BEST]
    control, knob, best = found.lines[1:]
    assert control.seeds == knob.seeds == best.seeds == (1338, 1339, 1340)
    finals: dict[str, list[float]] = {"baseline": [], "dropout alone": [], "best": []}
    for run in branched.forked().runs:
        name, _, seed = run.label.partition(", seed ")
        name = re.sub(r" \(trial \d+\)$", "", name)
        if name in finals and seed in ("1338", "1339", "1340") and run.val_loss is not None:
            finals[name].append(run.val_loss)
    reference, alone, everything = (sum(losses) / 3 for losses in finals.values())
    assert knob.gain == pytest.approx(reference - alone) == pytest.approx(0.06)
    assert best.gain == pytest.approx(reference - everything) == pytest.approx(0.08)
    assert knob.label == "dropout 0\nalone"
    assert best.words == "the best config (dropout 0.1 → 0 and weight_decay 0.1 → 0.03)"


def test_a_branch_that_still_runs_is_not_drawn() -> None:
    whole = branched.forked()
    runs = [
        dataclasses.replace(run, outcome=Outcome.RUNNING, val_loss=None, points=run.points[:3])
        if run.label == "dropout alone, seed 1340"
        else run
        for run in whole.runs
    ]
    knob = branches_of(Findings(dataclasses.replace(whole, runs=tuple(runs)))).line(KNOB)
    assert knob is not None
    assert knob.seeds == (1338, 1339)


def test_before_the_confirm_phase_the_searchs_best_stands_alone() -> None:
    found = branches_of(Findings(branched.forked(seeds=0)))
    assert [(line.kind, line.seeds) for line in found.lines] == [
        (GOING_ON, (1337,)),
        (CONTROL, (1337,)),
        (BEST, (1337,)),
    ]
    assert found.lines[-1].label == "best so far"


def test_the_fork_shows_what_falls_and_the_origins_picture_where_it_is() -> None:
    picture, (whole,) = fork_picture(Findings(branched.forked())), origin_picture(Findings(branched.forked())).figures
    (fork,) = picture.figures
    assert picture.key == "fork"
    assert trace_named(whole, "origin").x == tuple(range(0, 2401, 100))
    assert whole.layout.yaxis.range[1] < 5  # the fall from ln(2048) = 7.6 is not on the scale
    low, high = fork.layout.yaxis.range
    assert low < 3.81 < 3.9 < high < 3.95
    # the plateau is 600 iterations long, more than the 1.2 branches of 400 that are shown at most
    assert fork.layout.xaxis.range == (2400 - 1.2 * 400, 2800)
    bands = [shape for figure in (whole, fork) for shape in figure.layout.shapes if shape.fillcolor]
    assert [(band.x0, band.x1) for band in bands] == [(1800, 2400), (2400 - 1.2 * 400, 2400)]
    box = whole.layout.shapes[-1]
    assert (box.x0, box.x1, box.y0, box.y1) == (*fork.layout.xaxis.range, low, high)
    assert trace_named(fork, "the origin going on").line.dash == "dash"
    assert {"fork<br>at 2,400", "plateau", "control", "going on<br>as before"} < set(note_texts(fork))
    assert "best config<br>−0.080 nats" in note_texts(fork)
    assert "From iteration 1,800 to the fork at 2,400, the origin is on a plateau." in picture.summary
    assert "ends 0.080 nats lower (3 seeds) and dropout 0.1 → 0 alone ends 0.060 nats lower" in picture.summary
    assert "the branches by +0.040 nats and the origin going on by −0.070 nats" in picture.reading


@pytest.mark.parametrize(
    ("since", "first"),
    [
        (2100, 2400 - 1.3 * 300),  # its bend is near enough to show
        (2300, 2400 - 0.6 * 400),  # at least 0.6 of a branch
        (1000, 2400 - 1.2 * 400),  # at most 1.2
        (None, 2400 - 0.6 * 400),
    ],
)
def test_the_fork_begins_before_the_plateau_where_that_is_near(since: int | None, first: float) -> None:
    study = branched.forked_study(since=since, plateau="improving" if since is None else "plateau")
    results = dataclasses.replace(branched.forked(), study=study)
    (fork,) = fork_picture(Findings(results)).figures
    assert fork.layout.xaxis.range == pytest.approx((first, 2800))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("improving", "the origin is not on a plateau: it still improves"),
        ("undetermined", "Whether the origin is on a plateau at the fork, iteration 2,400, is not decided"),
        (None, "The origin is a checkpoint of iteration 2,400, without its curve"),
    ],
)
def test_without_a_plateau_nothing_is_shaded(word: str | None, says: str) -> None:
    results = dataclasses.replace(branched.forked(), study=branched.forked_study(plateau=word, since=None))
    picture = fork_picture(Findings(results))
    assert says in picture.summary
    assert not any("plateau" in note_texts(figure) for figure in picture.figures)


def test_a_checkpoint_without_a_curve_has_only_the_fork() -> None:
    study = branched.forked_study(branched.study(race=None), plateau=None, since=None, seed=None)
    study = study.model_copy(update={"start": CheckpointStart(checkpoint="out/ckpt.pt")})
    runs = tuple(run for run in branched.forked().runs if run.origin != "origin" and run.phase != "race")
    picture = fork_picture(Findings(dataclasses.replace(branched.forked(), study=study, runs=runs)))
    (figure,) = picture.figures
    assert trace_named(figure, "the control").y[0] == pytest.approx(branched.LEVEL - branched.BRANCH_SHIFT)
    assert trace_named(figure, "the origin going on").y[0] == pytest.approx(branched.LEVEL - branched.BRANCH_SHIFT)
    assert origin_picture(Findings(dataclasses.replace(branched.forked(), study=study, runs=runs))).figures == ()
    assert "the branches by" not in picture.reading


def _states() -> dict[str, tuple[Results, int, str]]:
    """Return results, the number of figures and a part of the summary, by state of the sweep."""
    full, study = branched.forked(), branched.study()
    origin, going_on = full.runs[0], next(run for run in full.runs if run.origin == "going on")
    half = dataclasses.replace(origin, points=origin.points[:13])
    running = dataclasses.replace(half, outcome=Outcome.RUNNING, reason="")
    failed = dataclasses.replace(half, outcome=Outcome.FAILED, reason="its worker <b>died</b>")
    begun = dataclasses.replace(going_on, outcome=Outcome.RUNNING, val_loss=None, points=going_on.points[:2])
    known = branched.forked_study(going_on=None, min_effect=None)
    first = dataclasses.replace(running, points=origin.points[:1])
    at_fork = dataclasses.replace(begun, points=going_on.points[:1])
    worse = branched.forked_study(going_on=-0.004)
    return {
        "first evaluation": (synthetic.results([first], study=study), 1, "at iteration 0 of at most 3,000"),
        "at the fork": (synthetic.results([origin, at_fork], study=known), 1, "No branch is complete yet."),
        "rises": (dataclasses.replace(full, study=worse), 1, "Going on as before raises the loss by 0.004 nats"),
        "nothing": (synthetic.results([], study=study), 0, "The origin has not been evaluated yet"),
        "training": (synthetic.results([running], study=study), 1, "at iteration 1,200 of at most 3,000"),
        "failed": (synthetic.results([failed], study=study), 1, "failed at iteration 1,200 (its worker <b>died</b>)"),
        "known": (synthetic.results([origin], study=known), 1, "No branch is complete yet."),
        "going on": (synthetic.results([origin, begun], study=known), 1, "No branch is complete yet."),
        "groundwork": (branched.forked(searched=False), 1, "No branch is complete yet."),
        "control": (dataclasses.replace(full, runs=full.runs[:9]), 1, "The control has run on 2 seeds"),
    }


@pytest.mark.parametrize("state", _states())
def test_every_state_of_a_sweep_says_what_there_is(state: str) -> None:
    results, figures, says = _states()[state]
    picture = fork_picture(Findings(results))
    assert len(picture.figures) == figures
    assert says in picture.summary
    assert all(figure.to_json() for figure in picture.figures)


def test_a_few_thousandths_do_not_fill_the_figure() -> None:
    (fork,) = fork_picture(Findings(branched.forked(searched=False))).figures
    low, high = fork.layout.yaxis.range
    assert high - low > 0.02
