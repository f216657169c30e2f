"""Fewer changes than the search's best: when the verdict is about these."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sweeps.analysis import judge
from sweeps.analysis.attribution import Attribution, BestWord, KnobWord
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.simpler import with_fewer_changes
from tests.helpers import attributions
from tests.helpers.attributions import contrast, gain

EVIDENCE = Evidence(attributions.swept())


def judged(**changes: Any) -> Attribution:
    """Return the verdict on the swept study: the rate and the width improve it alone, dropout does nothing."""
    attribution = judge.judge(EVIDENCE)
    assert attribution is not None
    return dataclasses.replace(attribution, **changes)


def test_the_best_stays_where_it_gains_most() -> None:
    assert with_fewer_changes(judged(), EVIDENCE) == judged()
    assert not judged().fewer


def test_one_knob_that_gains_more_is_the_verdict() -> None:
    rate = judged().knobs[0]
    assert (rate.knob, rate.word) == ("learning_rate", KnobWord.ALONE)
    assert rate.alone is not None
    simpler = with_fewer_changes(judged(effect=gain(rate.alone.mean - 0.001), pair=None), EVIDENCE)
    assert simpler.fewer
    assert (simpler.change, simpler.effect) == (("learning_rate",), rate.alone)
    assert simpler.best.config.learning_rate == 3e-3
    assert simpler.best.config.n_embd == judged().reference.n_embd
    assert simpler.whole == judged().whole
    assert simpler.whole_word is judged().word


def test_the_top_pair_that_gains_more_is_the_verdict() -> None:
    pair = judged().pair
    assert pair is not None
    simpler = with_fewer_changes(judged(effect=gain(0.1), pair=dataclasses.replace(pair, both=gain(0.2))), EVIDENCE)
    with_runs = any(run.label.startswith("learning_rate and n_embd alone") for run in EVIDENCE.results.runs)
    without = any(run.label.startswith("best without dropout") for run in EVIDENCE.results.runs)
    assert with_runs or without  # one config, by either name
    assert simpler.change == ("learning_rate", "n_embd")
    assert simpler.effect == gain(0.2)
    assert (simpler.best.config.learning_rate, simpler.best.config.n_embd) == (3e-3, 768)
    assert simpler.best.config.dropout == judged().reference.dropout


def test_all_but_a_knob_that_hurts_alone_is_the_verdict_where_that_gains_more() -> None:
    knobs = [
        dataclasses.replace(knob, word=KnobWord.HURTS) if knob.knob == "dropout" else knob for knob in judged().knobs
    ]
    simpler = with_fewer_changes(judged(effect=gain(0.05), knobs=tuple(knobs), pair=None), EVIDENCE)
    assert set(simpler.change) == {"learning_rate", "n_embd"}


@pytest.mark.parametrize(
    "changes",
    [
        {"word": BestWord.NONE, "effect": gain(0.01)},  # nothing is shown of the best
        {"effect": gain(0.5)},
    ],
)
def test_otherwise_nothing_changes(changes: dict[str, Any]) -> None:
    assert with_fewer_changes(judged(**changes), EVIDENCE) == judged(**changes)


def test_a_pair_that_is_not_shown_or_on_one_seed_is_no_verdict() -> None:
    pair, alone = judged().pair, [dataclasses.replace(knob, word=KnobWord.UNKNOWN) for knob in judged().knobs]
    assert pair is not None
    for both in (gain(0.2, n=1), gain(0.2, se=0.2)):
        unsure = judged(effect=gain(0.1), pair=dataclasses.replace(pair, both=both), knobs=tuple(alone))
        assert not with_fewer_changes(unsure, EVIDENCE).fewer


def test_the_word_of_the_whole() -> None:
    assert attributions.one_alone().whole_word is BestWord.NONE
    assert attributions.attribution().whole_word is BestWord.BREAKS
    fewer = dataclasses.replace(attributions.one_alone(), whole=gain(0.3), whole_lasting=contrast(0.2))
    assert fewer.whole_word is BestWord.BREAKS


def test_a_path_is_complete_if_it_leads_all_the_way() -> None:
    whole = attributions.attribution()
    assert whole.complete_path
    assert not dataclasses.replace(whole, path=whole.path[:3]).complete_path
    assert not dataclasses.replace(whole, path=whole.path[:1]).complete_path
    together = dataclasses.replace(whole.path[3], knob=None, rest=("n_embd", "dropout"))
    assert dataclasses.replace(whole, path=(*whole.path[:2], together)).complete_path
    unmeasured = dataclasses.replace(whole.path[3], drop=None)
    assert not dataclasses.replace(whole, path=(*whole.path[:3], unmeasured)).complete_path
