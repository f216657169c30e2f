"""Sentences of a study that starts from a checkpoint: a table of the words, and claims only where they are due."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import typer

from sweeps.analysis.attribution import Attribution, BestWord, CandidateWord, KnobWord
from sweeps.analysis.branches import Branches, BranchFinding, Growth
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.analysis.races import RaceFinding
from sweeps.cli import app
from sweeps.store.records import Results
from sweeps.study.start import CheckpointStart
from sweeps.verdict import from_plateau
from sweeps.verdict.verdict import Verdict, verdict
from tests.helpers import attributions, branching
from tests.helpers.attributions import CASES, contrast, findings_of, gain, knob

AHEAD: Mapping[str, Callable[[float], float]] = {
    "origin": lambda step: 5 - step / 400,
    "n_embd=768": lambda step: 5 - step / 320,
    "dropout=0.2": lambda step: 5.1 - step / 400,
}


def words_of(results: Results) -> Verdict:
    return verdict(Findings(results))


def judged_words(judged: Attribution, *, growth: Sequence[Growth] = (), races: Sequence[RaceFinding] = ()) -> Verdict:
    """Return the verdict of a study of branches that ends with this attribution."""
    findings = findings_of(judged)
    branches = Branches(origin=branching.ORIGIN, val_loss=3.9, knobs=(), best=None, growth=tuple(growth))
    vars(findings).update(branches=branches, races=tuple(races))
    return verdict(findings)


def race(
    mean: float = 0.3, *, se: float | None = 0.01, n: int = 2, trend: float | None = 0.03, **changes: Any
) -> RaceFinding:
    """Return a race of width 768 with this gap at iteration 800. `trend`: known to 0.001."""
    fields: dict[str, Any] = {
        "knob": "n_embd",
        "value": 768,
        "seeds": tuple(range(n)),
        "gaps": {800: contrast(mean, se=se, n=n)},
        "trend": None if trend is None else contrast(trend, se=0.001, n=5),
        "params": 3.1,
        "seconds": 1.5,
        "memory": 2.4,
        "at_equal_time": 0.12,
        "diverged": 0,
    }
    return RaceFinding(**{**fields, **changes})


def test_a_study_from_scratch_has_none_of_these_groups() -> None:
    words = words_of(attributions.swept())
    assert words.start == words.branches == words.races == words.nothing == ()
    assert next(iter(words.groups)) == "What it rests on"


def test_the_whole() -> None:
    words = words_of(branching.results(races=AHEAD))
    assert words.headline.startswith("Dropout 0.1 → 0 breaks the plateau alone, by 0.0303 nats (95 % interval 0.0")
    assert list(words.groups)[:5] == [
        "Where it starts",
        "From your checkpoint",
        "If you retrain",
        "Nothing shown",
        "What it rests on",
    ]
    dropout, best = words.branches
    assert dropout.startswith(
        "dropout 0.1 → 0: breaks the plateau alone, and is necessary; alone it gains 0.0303 nats ("
    )
    assert dropout.endswith(
        "; its loss falls 2.5 times as fast as the control's; its lead still grows at the end: +0.0151 nats per 100 "
        "iterations (95 % interval +0.0144 to +0.0159, 3 seeds)."
    )
    assert best.startswith("Trial 1, all changes together: it gains 0.0303 nats (")
    assert [sentence.split(":")[0] for sentence in words.races] == [
        "n_embd 768, raced from scratch for 200 iterations",
        "dropout 0.2, raced from scratch for 200 iterations",
    ]
    assert words.nothing == ("From your checkpoint, within ± 0.0018 nats: weight_decay 0.1 → 0.2.",)
    assert words.proof[0] == "The origin's curve is on a plateau since step 400, so the word is “breaks”."
    assert words.next[0] == (
        "Do: go on from the checkpoint with both changes: `sweep export plateau --checkpoint out-plateau --all -o "
        "plateau-best.py`."
    )
    assert "Do: if you retrain from scratch, take n_embd 768: `sweep export plateau --race n_embd=768`." in words.next


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ({}, "its curve is on a plateau since step 400 by the plateau test"),
        ({"since": None}, "its curve is on a plateau by the plateau test"),
        ({"plateau": "improving", "since": None}, "its curve is still improving by the plateau test"),
        ({"plateau": "undetermined", "since": None}, "the plateau test can't tell whether its curve is on a plateau"),
        ({"plateau": None, "since": None}, "without a log, it is unknown whether that is a plateau"),
    ],
)
def test_the_start_says_whether_it_is_a_plateau(origin: dict[str, Any], says: str) -> None:
    words = words_of(branching.results(branching.study(origin=origin)))
    assert words.start == (
        f"Branches start from the baseline's own run at step 600, at 3.900 nats; {says}.",
        "Going on as before brings 0.015 nats in the next 200 iterations. "
        "A change counts above 0.002 nats (min_effect).",
    )
    text = "\n".join(words.lines)
    breaks = origin.get("plateau", "plateau") == "plateau"
    assert bool(re.search(r"\bbreaks the plateau\b", text)) == breaks
    assert ("improves on the control" in text) == (not breaks)
    assert ("so the word is “improves”" in words.proof[0]) == (not breaks)


def test_a_checkpoint_of_ones_own_is_called_so() -> None:
    study = branching.study()
    own = study.model_copy(update={"start": CheckpointStart(checkpoint="out/ckpt.pt"), "race": None})
    findings = Findings(dataclasses.replace(branching.results(), study=own))
    assert findings.branches is not None
    first, *_ = from_plateau.start(findings, findings.branches)
    assert first.startswith("Branches start from your checkpoint at step 600, at 3.900 nats;")


def test_going_on_may_cost() -> None:
    words = words_of(branching.results(branching.study(origin={"going_on": -0.004})))
    assert words.start[1].startswith("Going on as before costs 0.004 nats in the next 200 iterations.")
    assert len(words_of(branching.results(branching.study(origin={"going_on": None}))).start) == 1


@pytest.mark.parametrize(
    ("sentence", "of_branches"),
    [
        ("It improves on the baseline.", "It improves on the control."),
        ("Baseline: 3 seeds.", "Control: 3 seeds."),
        ("The baseline's final loss.", "The control's final loss."),
        ("The baseline's own 3,000 iterations.", "The baseline's own 3,000 iterations."),
        ("Raise baseline_seeds.", "Raise baseline_seeds."),
        ("`sweep confirm baseline` beats the baseline.", "`sweep confirm baseline` beats the control."),
        ("half of the gain in runs half as long is 0", "half of the gain in branches half as long is 0"),
    ],
)
def test_the_baseline_of_branches_is_the_control(sentence: str, of_branches: str) -> None:
    assert from_plateau.of_control([sentence]) == (of_branches,)


@pytest.mark.parametrize("case", CASES)
def test_sentences_are_whole_and_commands_are_understood(case: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    words = judged_words(CASES[case](), races=[race(), race(0.0), race(-0.3, n=1)])
    for line in words.lines:
        assert line.endswith(".")
        assert not re.search(r"None\b(?! of)|\bnan\b|\binf\b|Contrast|\s\s|\(\(|\)\)", line)
        assert not re.search(r"(?<![\w-])-\d", line)  # a true minus before every number
        assert line.count("(") == line.count(")")
        for command in re.findall(r"`([^`]+)`", line):
            program, name, *arguments = shlex.split(command)
            assert program == "sweep"
            commands[name].make_context(name, arguments)
        assert not re.search(r"\b[Bb]aseline\b(?!'s own)", re.sub(r"`[^`]+`", "", line))


def test_every_knob_of_the_verdict_is_in_one_list() -> None:
    for case in CASES.values():
        judged = case()
        words = judged_words(judged)
        for each in judged.knobs:
            named = [line for line in words.branches if line.startswith(f"{each.knob} ")]
            quiet = [line for line in words.nothing if each.knob in line]
            assert len(named) + len(quiet) == 1
            assert bool(quiet) == (each.word is KnobWord.NO_EFFECT)


def test_a_knob_that_was_never_run_alone_shows_nothing() -> None:
    judged = attributions.attribution(knobs=(attributions.KNOBS[0], knob("dropout", KnobWord.UNKNOWN, None)))
    words = judged_words(judged)
    assert words.nothing == ("Not run alone on a fresh seed yet: dropout.",)


def test_advice_that_is_right_is_said_without_a_command_of_trials_from_scratch() -> None:
    judged = attributions.undecided()
    right = attributions.candidate(2, CandidateWord.RIGHT, gain(0.25))
    words = judged_words(dataclasses.replace(judged, candidates=(right,)))
    assert "Do: follow the advice learning_rate 0.002, which is shown to be right." in words.next
    assert not any("--iters" in line for line in words.next)
    assert not any("follow the advice" in line for line in judged_words(CASES["broken"]()).next if "Do:" in line)


# the parts of a branch's sentence


def finding(**changes: Any) -> BranchFinding:
    fields: dict[str, Any] = {
        "knob": "dropout",
        "seeds": (1338, 1339, 1340),
        "trend": contrast(0.02, se=0.001, n=3),
        "times_as_fast": 2.08,
        "time": 1.0,
        "at_equal_time": 0.4,
    }
    return BranchFinding(**{**fields, **changes})


def sentence(branch: BranchFinding, effect: Contrast) -> str:
    """Return the sentence on dropout with this finding and this gain alone."""
    judged = attributions.attribution(knobs=(knob("dropout", KnobWord.ALONE, effect),), word=BestWord.BREAKS)
    branches = Branches(origin=branching.ORIGIN, val_loss=3.9, knobs=(branch,), best=None, growth=())
    (only,) = from_plateau.from_checkpoint(judged, branches)
    return only


@pytest.mark.parametrize(
    ("changes", "says", "never"),
    [
        ({}, "its loss falls 2.1 times as fast as the control's", "equal time"),
        ({"times_as_fast": -0.4}, "its loss doesn't fall at all", "times as fast"),
        ({"times_as_fast": None}, "its lead still grows at the end: +0.0200 nats per 100", "times as fast"),
        ({"trend": contrast(-0.02, se=0.001)}, "its lead shrinks at the end: −0.0200 nats per 100", "grows"),
        ({"trend": contrast(0.01, se=0.02)}, "its lead is shown neither to grow nor to shrink at the end", "shrinks"),
        ({"trend": contrast(0.01, n=1)}, "+0.0100 nats per 100 iterations (1 seed, noise unknown)", "still grows"),
        ({"trend": None}, "its loss falls", "lead"),
        (
            {"time": 1.6, "at_equal_time": 0.21},
            "1.60 times the control's time; at equal time it gains 0.210 nats",
            "loses",
        ),
        ({"time": 1.6, "at_equal_time": -0.05}, "at equal time it loses 0.050 nats", "at equal time it gains"),
        ({"time": 0.88}, "it takes 0.88 times the control's time", "equal time"),
        ({"time": None, "at_equal_time": None}, "its lead still grows", "time it"),
    ],
)
def test_what_the_curves_add(changes: dict[str, Any], says: str, never: str) -> None:
    text = sentence(finding(**changes), gain(0.4))
    assert says in text
    assert never not in text


def test_a_change_that_loses_has_no_lead() -> None:
    assert "lead" not in sentence(finding(), gain(-0.4))


@pytest.mark.parametrize(
    ("trend", "group", "says"),
    [
        (contrast(0.02, se=0.001), "branches", "the lead over the control grows by at least +0.0200 nats per 100"),
        (contrast(-0.02, se=0.001), "branches", "the lead over the control shrinks by −0.0200 nats per 100"),
        (contrast(0.02, se=0.02), "nothing", "no trend is shown, +0.0200 nats per 100 iterations (95 % interval"),
        (contrast(0.02, n=1), "nothing", "no trend is shown, +0.0200 nats per 100 iterations (1 seed, noise unknown)"),
    ],
)
def test_growth_is_said_by_its_trend_alone(trend: Contrast, group: str, says: str) -> None:
    growth = Growth(knob="n_embd", value=768, seeds=(1, 2), trend=trend)
    words = judged_words(attributions.attribution(knobs=()), growth=[growth])
    (line,) = [line for lines in (words.branches, words.nothing) for line in lines if "n_embd" in line]
    assert line in getattr(words, group)
    assert line.startswith("n_embd grown to 768, with dropout off on both sides: ")
    assert says in line
    assert "nats (" not in line  # no size beside the trend


# races


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (race(), "it is ahead of the origin by 0.30 nats (95 % interval 0.17 to 0.43, 2 paired seeds)"),
        (race(), "the gap grows: +0.0300 nats per 100 iterations"),
        (race(trend=-0.03), "the gap closes: −0.0300"),
        (race(trend=0.0), "the gap is shown neither to grow nor to close"),
        (race(-0.3), "it is behind the origin by 0.30 nats (95 % interval 0.17 to 0.43, 2 paired seeds)"),
        (race(-0.3), "it catches up: +0.0300"),
        (race(-0.3, trend=-0.03), "it falls further behind: −0.0300"),
        (race(n=1), "its gap to the origin is +0.300 nats (1 paired seed, noise unknown), which shows nothing yet"),
        (race(), "3.1 times the parameters and 1.50 times the time, so at equal time 0.120 nats ahead"),
        (race(at_equal_time=-0.02), "1.50 times the time, so at equal time 0.020 nats behind"),
        (race(seconds=None, at_equal_time=None), "; 3.1 times the parameters."),
        (race(seconds=1.01), "; 3.1 times the parameters."),
        (race(params=1.0), "; 1.50 times the time, so at equal time"),
        (race(diverged=1), "iterations: 1 run diverged or did not fit in memory; it is ahead"),
        (race(gaps={}, seeds=(), diverged=2), "raced from scratch: 2 runs diverged or did not fit in memory."),
        (race(gaps={}), "raced from scratch: there is no curve of the origin to compare it with yet."),
    ],
)
def test_a_race(run: RaceFinding, says: str) -> None:
    (line,) = from_plateau.if_you_retrain([run])
    assert line.startswith("n_embd 768, raced from scratch")
    assert says in line


@pytest.mark.parametrize(
    ("mean", "n", "ahead", "listed"),
    [(0.3, 2, True, True), (-0.3, 2, False, True), (0.3, 1, False, True), (0.05, 2, False, False)],
)
def test_only_a_gap_that_is_shown_counts_as_ahead(mean: float, n: int, ahead: bool, listed: bool) -> None:
    """Of two seeds with a standard error of 0.01, the interval is the mean ± 0.127."""
    run = race(mean, n=n)
    assert bool(list(from_plateau.if_you_retrain([run]))) == listed
    words = judged_words(attributions.undecided(), races=[run])
    assert any("if you retrain" in line for line in words.next) == ahead
    assert ("From scratch, n_embd 768 is ahead of the origin by 0.30 nats" in words.headline) == ahead
    quiet = [line for line in words.nothing if line.startswith("n_embd 768, raced from scratch for 800")]
    assert bool(quiet) == (not listed)


def test_several_races_are_never_ranked_with_branches() -> None:
    words = words_of(branching.results(races={**AHEAD, "dropout=0.2": lambda step: 4.9 - step / 400}))
    assert "From scratch" not in words.headline
    assert not any("raced" in line for line in words.branches)
    retrain = [line.partition(":")[2].partition(":")[0] for line in words.next if "retrain from scratch" in line]
    assert retrain == [f" if you retrain from scratch, take {change}" for change in ("n_embd 768", "dropout 0.2")]


def test_the_command_of_a_race_has_the_value_that_was_raced() -> None:
    raced = race(0.3, knob="weight_decay", value=0.00012345, n=5, at_equal_time=None, seconds=None, params=1.0)
    words = judged_words(attributions.attribution(), races=[raced])
    assert (
        "Do: if you retrain from scratch, take weight_decay 1.2e-4: `sweep export plateau --race "
        "weight_decay=0.00012345`." in words.next
    )


# before the confirm phase


def test_before_anything_is_confirmed_the_screening_stands_in_the_list_of_the_checkpoint() -> None:
    results = branching.results(races=AHEAD)
    searched = tuple(run for run in results.runs if run.phase != "confirm")
    words = words_of(dataclasses.replace(results, runs=searched))
    assert words.headline.startswith("No verdict on single knobs yet")
    assert words.proof == words.knobs == ()
    assert words.best[0].startswith("Best config: trial 1")
    assert "than the control's" in words.best[0]


def test_before_the_first_branch_the_start_and_the_races_are_said() -> None:
    results = branching.results(races=AHEAD)
    words = words_of(dataclasses.replace(results, runs=tuple(run for run in results.runs if run.before_trials)))
    assert words.headline.startswith("No verdict yet: no run of the control is complete")
    assert len(words.start) == 1
    assert len(words.races) == 2


# how far to trust it


@pytest.mark.parametrize(("iters", "warned"), [(200, True), (200_000, False)])
def test_weight_decay_is_said_to_be_slow_where_branches_are_shorter_than_its_time(iters: int, warned: bool) -> None:
    """With a rate of 1e-4 and a decay of 0.1 it is 100,000 iterations."""
    study = branching.study(horizon={"iters": iters})
    findings = Findings(branching.results(study))
    said = [line for line in from_plateau.reading(findings) if "Weight decay acts over" in line]
    assert bool(said) == warned
    assert not warned or "about 100,000 iterations, and the branches have 200." in said[0]
