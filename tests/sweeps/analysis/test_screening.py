"""Screening: single runs against the baseline, words by table, and simulated families without any effect."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import noise_of, prediction_factor
from sweeps.analysis.screening import ScreenWord, screen, screen_word
from sweeps.text import perplexity
from sweeps.verdict.verdict import verdict
from tests.helpers import synthetic

STUDY = synthetic.study()


@pytest.mark.parametrize(
    ("effect", "family_half_width", "complete", "word"),
    [
        (0.051, 0.05, True, ScreenWord.LOWERS),
        (-0.051, 0.05, True, ScreenWord.RAISES),
        (0.05, 0.05, True, ScreenWord.NOISE),
        (-0.05, 0.05, True, ScreenWord.NOISE),
        (0.0, 0.05, True, ScreenWord.NOISE),
        (1.0, None, True, ScreenWord.UNKNOWN),
        (None, None, True, ScreenWord.UNKNOWN),  # no baseline
        (None, 0.05, True, ScreenWord.UNKNOWN),
        (None, None, False, ScreenWord.NO_LOSS),
        (1.0, 0.05, False, ScreenWord.NO_LOSS),
    ],
)
def test_the_word_of_a_comparison(
    effect: float | None, family_half_width: float | None, complete: bool, word: ScreenWord
) -> None:
    assert screen_word(effect, family_half_width, complete=complete) is word


@pytest.mark.parametrize(
    ("single_knob", "word"),
    [
        ([3.45], ScreenWord.LOWERS),  # half of the interval is 4.3027 * sqrt(4/3) * 0.01 = 0.04968
        ([3.4504], ScreenWord.NOISE),
        ([3.5496], ScreenWord.NOISE),
        ([3.55], ScreenWord.RAISES),
        ([3.45, 3.5], ScreenWord.NOISE),  # two looks ask more of each run
    ],
)
def test_words(single_knob: list[float], word: ScreenWord) -> None:
    effect = screen(synthetic.family([3.49, 3.5, 3.51], single_knob)).knobs[0].effects[0]
    assert effect.word is word
    assert effect.effect == pytest.approx(3.5 - single_knob[0])
    assert effect.half_width == pytest.approx(0.04968, abs=1e-5)


@pytest.mark.parametrize("baseline", [[], [3.5], [3.5, 3.5]])
def test_without_known_noise_nothing_is_claimed(baseline: list[float]) -> None:
    results = synthetic.family(baseline, [2.0, 5.0])
    effects = screen(results).knobs[0].effects
    assert [effect.word for effect in effects] == [ScreenWord.UNKNOWN] * 2
    assert all(effect.half_width is None for effect in effects)
    assert "lowers the loss" not in " ".join(verdict(Findings(results)).lines)


def test_pruned_runs_count_in_the_family() -> None:
    results = synthetic.family([3.49, 3.5, 3.51], [3.45])
    pruned = synthetic.run(
        500, "one-at-a-time", knob="n_embd", val_loss=None, outcome="pruned", reason="worse than the median"
    )
    with_pruned = dataclasses.replace(results, runs=(*results.runs, pruned))
    assert screen(results).knobs[0].effects[0].word is ScreenWord.LOWERS
    knobs = {knob.knob: knob for knob in screen(with_pruned).knobs}
    assert knobs["dropout"].effects[0].word is ScreenWord.NOISE
    assert knobs["n_embd"].effects[0].word is ScreenWord.NO_LOSS
    assert knobs["n_embd"].largest is None
    assert knobs["n_embd"].span is None


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_families_without_any_effect_are_left_alone(seeds: int, shared: float) -> None:
    """If single-knob runs are only further seeds, at most 5 % of whole families claim anything.

    `shared`: the part of a run's luck that comes with the search's seed, which the first baseline run has too.
    """
    rng = np.random.default_rng([seeds, int(10 * shared)])
    families, looks = 600, 6
    claims = 0
    for _ in range(families):
        luck = rng.normal(size=seeds)
        single_knob = math.sqrt(shared) * luck[0] + math.sqrt(1 - shared) * rng.normal(size=looks)
        results = synthetic.family((3.5 + 0.01 * luck).tolist(), (3.5 + 0.01 * single_knob).tolist(), study=STUDY)
        effects = screen(results).knobs[0].effects
        claims += any(effect.word in (ScreenWord.LOWERS, ScreenWord.RAISES) for effect in effects)
    error = 3.3 * math.sqrt(0.05 * 0.95 / families)
    assert claims / families <= 0.05 + error
    if not shared:  # exact, not just safe
        assert claims / families >= 0.05 - error


SIXTEENTHS = st.integers(16, 160).map(lambda number: number / 16)


@settings(max_examples=40, deadline=None)
@given(
    baseline=st.lists(SIXTEENTHS, min_size=2, max_size=4),
    single_knob=st.lists(SIXTEENTHS, min_size=1, max_size=4),
    shift=st.integers(-8, 8),
    random=st.randoms(use_true_random=False),
)
def test_a_constant_and_the_order_change_nothing(
    baseline: list[float], single_knob: list[float], shift: int, random: object
) -> None:
    results = synthetic.family(baseline, single_knob, study=STUDY)
    moved = [dataclasses.replace(run, val_loss=(run.val_loss or 0.0) + shift) for run in results.runs]
    random.shuffle(moved)  # type: ignore[attr-defined]
    was, now = screen(results).knobs[0], screen(dataclasses.replace(results, runs=tuple(moved))).knobs[0]
    assert [effect.word for effect in now.effects] == [effect.word for effect in was.effects]
    assert [effect.effect for effect in now.effects] == pytest.approx([effect.effect for effect in was.effects])
    assert [effect.run.id for effect in now.effects] == [effect.run.id for effect in was.effects]
    assert now.span == pytest.approx(was.span)


def test_knob_effect_has_the_larger_end_and_the_span() -> None:
    knob = screen(synthetic.family([3.4, 3.6], [3.3, 4.0])).knobs[0]
    assert knob.largest is knob.effects[1]
    assert knob.span == pytest.approx(0.7)


def test_best_is_of_the_search_alone_and_tells_its_luck() -> None:
    baseline = [synthetic.run(i, "baseline", seed=1337 + i, val_loss=3.49 + i / 100) for i in range(3)]
    baseline[1] = dataclasses.replace(baseline[1], optuna_study="plateau-confirm", val_loss=3.0)
    trials = [synthetic.run(10 + i, val_loss=3.4 + i / 10) for i in range(4)]
    pruned = synthetic.run(20, val_loss=None, outcome="pruned")
    results = synthetic.results([*baseline, *trials, pruned])
    best = screen(results).best
    assert best is not None
    assert best.run is results.best is trials[0]
    assert best.trials == 7  # two baseline runs, four trials and the pruned trial; the confirm run is not in the search
    noise = noise_of([3.49, 3.0, 3.51])
    assert best.gain == pytest.approx(noise.mean - 3.4)
    assert best.luck == pytest.approx((noise.sd or 0) * prediction_factor(3, looks=7))
    text = " ".join(verdict(Findings(results)).best)
    assert "winner of 7 trials" in text
    assert "screened, not yet proven" in text


def test_reference_is_the_searchs_own_seed() -> None:
    config = synthetic.BASELINE.replace(seed=9)
    runs = [
        synthetic.run(0, "baseline", seed=1338, config=config),
        synthetic.run(1, "baseline", outcome="failed", val_loss=None),
    ]
    assert synthetic.results(runs).reference is runs[1].config
    assert synthetic.results([]).reference is None


def test_units() -> None:
    results = synthetic.results([])
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(1e4) == math.inf
    # 3.1 bytes per token, each of 2 bits, are 6.2 bits = 6.2 ln 2 nats per token
    assert results.data.bits_per_byte(6.2 * math.log(2)) == pytest.approx(2)
    unknown = dataclasses.replace(results, data=dataclasses.replace(results.data, bytes_per_token=None))
    assert unknown.data.bits_per_byte(3.0) is None


@pytest.mark.parametrize(("train_tokens", "warned"), [(614_400, False), (600_000, True)])
def test_repeated_data_is_warned_of_above_four_epochs(train_tokens: int, warned: bool) -> None:
    results = synthetic.family([3.4, 3.5], [3.3])
    results = dataclasses.replace(results, data=dataclasses.replace(results.data, train_tokens=train_tokens))
    assert results.data.epochs(synthetic.BASELINE) == pytest.approx(600 * 16 * 256 / train_tokens)
    assert any("repeated tokens" in line for line in verdict(Findings(results)).cautions) is warned
