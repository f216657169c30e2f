"""Rows of the answer: the words of each knob, race and single run, and what lies at an end of a range."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sweeps.analysis.attribution import Attribution, BestWord, KnobWord, Pair
from sweeps.analysis.findings import Findings
from sweeps.verdict.glance import answer_of
from sweeps.verdict.rows import does, edges_of, rows_of
from tests.helpers import attributions, branches, synthetic
from tests.helpers.attributions import CASES, KNOBS, attribution, contrast, findings_of, gain, knob

HURTS = gain(-0.2)
PAIR = Pair(knobs=("dropout", "n_embd"), both=gain(0.48), interaction=contrast(0.46))


@pytest.mark.parametrize(
    ("word", "alone", "changes", "of_the_best", "words"),
    [
        (KnobWord.ALONE, gain(0.4), {}, {}, "breaks it alone"),
        (KnobWord.ALONE, gain(0.4), {}, {"word": BestWord.IMPROVES}, "improves it alone"),
        (KnobWord.GAINS, gain(0.4), {}, {}, "gains; may not last"),
        (KnobWord.JOINT, gain(0.01), {"partner": "warmup_iters"}, {}, "only together with warm-up"),
        (KnobWord.NECESSARY, gain(0.01), {"reset": contrast(0.4)}, {}, "the best needs it"),
        (KnobWord.NECESSARY, HURTS, {"reset": contrast(0.4)}, {}, "hurts alone, best needs it"),
        (KnobWord.HURTS, HURTS, {"reset": contrast(0.1)}, {"pair": PAIR}, "only together with width"),
        (KnobWord.HURTS, HURTS, {"reset": contrast(0.1)}, {"pair": None}, "hurts alone, needs others"),
        (KnobWord.HURTS, HURTS, {"reset": contrast(0.0)}, {}, "hurts alone, yet included"),
        (KnobWord.HURTS, None, {"diverged": 2}, {}, "diverges alone, yet included"),
        (KnobWord.HURTS, HURTS, {"reset": contrast(0.1)}, {"word": BestWord.NONE}, "hurts alone"),
        (KnobWord.NO_EFFECT, gain(0.001), {}, {}, "no effect"),
        (KnobWord.UNKNOWN, gain(0.05, se=0.05), {}, {}, "not enough evidence"),
        (KnobWord.UNKNOWN, gain(0.4), {"lasting": contrast(-0.05)}, {}, "only a head start"),
    ],
)
def test_what_a_knob_does(
    word: KnobWord, alone: Any, changes: dict[str, Any], of_the_best: dict[str, Any], words: str
) -> None:
    one = knob("dropout", word, alone, **changes)
    judged = attribution(knobs=(one, KNOBS[1]), **of_the_best)
    assert does(one, judged) == words
    assert len(words.split()) <= 5
    row = rows_of(findings_of(judged))[0]
    assert (row.knob, row.does, row.before, row.after) == ("dropout", words, "0", "0.05")
    assert row.effect == (0.4 if word is KnobWord.NECESSARY else None if alone is None else alone.mean)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("broken", "break it"),
        ("improved", "improve it"),
        ("one alone", "not shown to be better"),
        ("head start", "only a head start"),
        ("head start?", "gain; may not last"),
        ("diverged", "diverge"),
        ("nothing", "no gain that counts"),
        ("undecided", "not enough evidence"),
    ],
)
def test_what_all_changes_do_together(case: str, words: str) -> None:
    (whole,) = [row for row in rows_of(findings_of(CASES[case]())) if row.knob is None]
    assert (whole.does, whole.measured) == (words, "together")


def test_several_changes_that_gain_more_have_a_row_of_their_own() -> None:
    judged: Attribution = dataclasses.replace(
        attribution(),
        best=attributions.RATE,
        change=("learning_rate", "n_embd"),
        effect=gain(0.55),
        whole_lasting=contrast(0.2),
    )
    *_, fewer, whole = rows_of(findings_of(judged))
    assert (fewer.after, fewer.does, fewer.effect, fewer.shown) == ("learning rate and width", "break it", 0.55, True)
    assert (whole.after, whole.does, whole.effect, whole.shown) == ("", "gain no more", 0.51, False)


def test_single_runs_come_with_the_largest_gain_first_and_claim_nothing_more() -> None:
    rows = rows_of(Findings(synthetic.full()))
    assert [row.knob for row in rows if row.shown] == ["n_embd", "learning_rate", "dropout"]
    assert {row.does for row in rows} == {"lowers it, in one run", "raises it, in one run", "within the noise"}
    assert {row.seeds for row in rows} == {1}
    assert not any("hurt" in row.does for row in rows)


def test_races() -> None:
    ahead, behind = (row for row in rows_of(Findings(branches.forked())) if row.protocol == "race")
    assert (ahead.knob, ahead.before, ahead.after, ahead.does) == ("n_embd", "384", "768", "ahead")
    assert (behind.knob, behind.does) == ("n_layer", "behind")
    assert ahead.cost is not None
    # 12 * L * C**2 + (V + T + 2 * L + 1) * C, with L 6, V 2048, T 256
    wide, narrow = (12 * 6 * width**2 + (2048 + 256 + 13) * width for width in (768, 384))
    assert ahead.cost.parameters == pytest.approx(wide / narrow, rel=1e-3)


def test_bits_per_byte_stand_beside_nats() -> None:
    findings = findings_of(attribution())
    per_token = findings.results.data.bytes_per_token
    assert per_token is not None
    for row in answer_of(findings).rows:
        assert row.effect is not None
        assert row.bits_per_byte == pytest.approx(row.effect * 1.4426950408889634 / per_token)


@pytest.mark.parametrize(
    ("params", "edges"),
    [
        ({"dropout": 0.1}, {}),
        ({"dropout": 0.0}, {"dropout": "at its natural limit, 0"}),
        (
            {"dropout": 0.1, "learning_rate": 6e-3},
            {"learning_rate": "at the high end of its range; to look further: knobs.learning_rate.high: 0.018"},
        ),
        ({"dropout": 0.1, "min_lr_ratio": 0.0}, {"min_lr": "at its natural limit, 0 of learning_rate"}),
        (
            {"dropout": 0.1, "n_embd": 768},
            {"n_embd": "at the high end of its range; to look further: knobs.n_embd.high: 1024"},
        ),
    ],
)
def test_settings_at_an_end_of_their_range(params: dict[str, float], edges: dict[str, str]) -> None:
    run = synthetic.run(3, params={**synthetic.params_of(synthetic.BASELINE), **params})
    assert edges_of(synthetic.study(), run) == edges


def test_ends_are_said_of_the_config_to_train_alone() -> None:
    told = [advice.text for advice in answer_of(findings_of(attribution())).advice]
    assert "widen knobs.n_embd.high: 1024 (the best lies at that end)" in told
    # the verdict is about the rate alone, and about nothing
    for case in ("one alone", "nothing", "undecided"):
        assert not any("n_embd.high" in advice.text for advice in answer_of(findings_of(CASES[case]())).advice)
