"""Consequences of a confirmed verdict: the best config's losses, the commands to run next, the open questions."""

from __future__ import annotations

import dataclasses
import re

import pytest
from pydantic import ValidationError

from sweeps.analysis.attribution import Attribution, KnobWord
from sweeps.study.sections import MAX_CONFIRM_SEEDS, Confirm
from sweeps.verdict.open_questions import open_questions
from sweeps.verdict.recommendation import confirmed_losses
from sweeps.verdict.verdict import Verdict, verdict
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import CASES, KNOBS, attribution, contrast, findings_of, gain, knob

RESULTS = attributions.results()


def words(judged: Attribution) -> Verdict:
    return verdict(findings_of(judged))


def test_right_advice_is_named_even_where_the_best_config_is_not_shown_to_be_better() -> None:
    judged = dataclasses.replace(CASES["nothing"](), candidates=attributions.ANSWERS)
    tried = synthetic.run(5, "candidate", label="candidate: learning_rate 0.002", key="candidate:2")
    sentences = verdict(findings_of(judged, dataclasses.replace(RESULTS, runs=(*RESULTS.runs, tried))))
    assert sentences.headline.startswith("The advice learning_rate 0.002 gains 0.25 nats (")
    assert any("`sweep export plateau --trial 5 --iters 600`" in sentence for sentence in sentences.next)


def test_of_one_knob_alone_the_config_is_the_baseline_with_that_change() -> None:
    sentences = words(CASES["one alone"]())
    assert sentences.best[0] == "A run of 600 iterations; it changes learning_rate 0.001 → 0.003."
    assert sentences.best[1].startswith(
        "The baseline ends at 3.830 nats, this config at 3.430 (means over 5 seeds of the baseline"
    )
    # 0.05 ± 2.7764 * 0.03; the search: 0.525
    assert sentences.best[-1].startswith(
        "The gain of trial 17, the search's best, is 0.050 nats (0.023 bits per byte) on fresh seeds. The search"
    )
    assert sentences.proof[1].startswith("Learning rate alone against the baseline: +0.40 nats")
    assert sentences.proof[2].startswith("All changes of the search's best, trial 17: +0.05 nats")
    assert "not above the 0.02 nats" in sentences.proof[2]
    assert sentences.next[0].startswith(
        "Do: train 600 iterations with learning_rate alone changed: `sweep export plateau"
    )


def test_the_best_config_has_its_gain_on_fresh_seeds_beside_the_searchs() -> None:
    settings, loss, gains = words(attribution()).best
    assert settings == (
        "Trial 17 of 600 iterations; it changes learning_rate 0.001 → 0.003, n_embd 384 → 768 and dropout 0 → 0.05."
    )
    # baseline at fresh seeds 3.81 to 3.85, best 3.30 to 3.34; e**3.83 = 46.06, 3.83 / ln 2 / 3.1 = 1.782
    assert loss.startswith(
        "The baseline ends at 3.830 nats, this config at 3.320 (means over 5 seeds of the baseline and 5 fresh"
    )
    assert "perplexity 27.66 instead of 46.06, 1.545 bits per byte instead of 1.782" in loss
    # the search: 3.30 against the baseline's mean over six seeds, 3.825
    # 0.51 / ln 2 / 3.1
    assert "0.510 nats (0.237 bits per byte) on fresh seeds. The search had promised 0.525" in gains
    assert "winner of 2 trials" in gains


@pytest.mark.parametrize(("method", "baseline"), [("paired", 3.83), ("unpaired", 3.825)])
def test_means_are_over_the_seeds_that_the_effect_is_over(method: str, baseline: float) -> None:
    judged = confirmed_losses(findings_of(attribution(effect=gain(0.51, method=method))))
    assert judged is not None
    assert judged.means == pytest.approx((baseline, 3.32))
    assert confirmed_losses(findings_of(attribution(effect=None))) is None


@pytest.mark.parametrize(
    ("judged", "commands"),
    [
        (attribution(), ["sweep export plateau --all -o plateau-best.py", "sweep confirm plateau --seeds 6"]),
        (attribution(candidates=()), ["sweep export plateau --all -o plateau-best.py"]),
        (CASES["nothing"](), ["sweep confirm plateau --seeds 6"]),  # the advice is open, the knobs are decided
        (CASES["undecided"](), ["sweep confirm plateau --seeds 12"]),  # knobs have 3 seeds and need 9 more
        (CASES["unchanged"](), []),
        (
            attribution(knobs=(KNOBS[0], knob("n_embd", KnobWord.UNKNOWN, None)), candidates=()),
            ["sweep export plateau --all -o plateau-best.py", "sweep confirm plateau"],
        ),
    ],
)
def test_what_to_train_next_and_what_would_decide(judged: Attribution, commands: list[str]) -> None:
    sentences = " ".join(words(judged).next)
    assert re.findall(r"`([^`]+)`", sentences) == commands


def test_what_no_number_of_seeds_decides_is_said_to_be_small() -> None:
    far = [
        knob("n_embd", KnobWord.UNKNOWN, gain(0.03, se=0.03), more_seeds=None),
        knob("dropout", KnobWord.UNKNOWN, gain(0.03, se=0.02, n=4), more_seeds=40),
    ]
    sentences = words(attribution(knobs=(KNOBS[0], *far), candidates=(), pair=None)).next
    assert "Unknown: n_embd and dropout: over 32 seeds needed, so any effect is small." in sentences
    assert not any("sweep confirm" in sentence for sentence in sentences)


def test_a_gain_that_is_shown_is_open_only_as_a_head_start() -> None:
    judged = CASES["head start?"]()
    best = open_questions(judged)[0]
    assert best.name == "the best config"
    # 0.01 ± 0.01 over 5 seeds: t(0.95) / sqrt((5 + more) / 5) * 0.01 < 0.01 holds at 5 + 12 seeds at the latest
    assert best.seeds is not None
    assert 5 < best.seeds <= 17
    settled = knob("n_embd", KnobWord.UNKNOWN, gain(0.4), lasting=contrast(0.2), more_seeds=1)
    assert open_questions(attribution(knobs=(KNOBS[0], settled), candidates=())) == ()


def test_the_command_takes_the_seeds_that_are_named() -> None:
    assert Confirm(seeds=MAX_CONFIRM_SEEDS).seeds == MAX_CONFIRM_SEEDS
    with pytest.raises(ValidationError):
        Confirm(seeds=MAX_CONFIRM_SEEDS + 1)
