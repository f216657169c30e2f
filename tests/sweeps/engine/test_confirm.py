"""The confirm phase: which runs it makes, on which seeds, when it ends, and what it says of a closed form."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from sweeps.analysis.arms import BASELINE, PHASE, Arm, Arms
from sweeps.analysis.attribution import AdviceWord, BestWord, KnobWord
from sweeps.analysis.evidence import ALPHA_BEST, P_MULTIPLIER, Evidence
from sweeps.analysis.findings import Findings
from sweeps.engine import confirm
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.export.ladder import ladder
from sweeps.export.trial import export_run, trial_of
from sweeps.store.records import Results, Run
from sweeps.study.proposals import baseline_params, config_of
from sweeps.study.sections import Confirm
from tests.helpers import confirming, small_sweep, synthetic
from trainer.config import TrainConfig

CONFIRM = {"seeds": 5, "max_trials": 60}


def swept(folder: Path, **changes: Any) -> Results:
    baseline = {**small_sweep.study().baseline, "learning_rate": 2e-4, "min_lr": 2e-5}
    given = {"baseline": baseline, "trials": 12, "confirm": CONFIRM, "candidates": [{"dropout": 0.3}], **changes}
    small_sweep.sweep(folder, small_sweep.study(**given))
    return small_sweep.found(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The baseline's rate, 2e-4, is too low (3e-3 is best), its dropout of 0 as good as can be."""
    return swept(tmp_path_factory.mktemp("confirm"))


def test_it_begins_when_the_search_has_ended_and_takes_fresh_seeds(results: Results) -> None:
    phases = [run.phase for run in results.runs]
    assert PHASE not in phases[: phases.index(PHASE)]
    assert set(phases[phases.index(PHASE) :]) == {PHASE}
    confirming = [run for run in results.runs if run.phase == PHASE]
    assert all(run.optuna_study == "small-confirm" and run.seed != results.study.seed for run in confirming)


def test_no_run_is_made_twice(results: Results) -> None:
    configs = [run.config for run in results.runs]
    assert len(set(configs)) == len(configs)


def test_the_noise_of_the_whole_change_is_its_own_and_that_of_a_knob_alone_the_others_too() -> None:
    """Student's t on the best's own differences; a knob alone has more degrees of freedom than its seeds give."""
    noise = {"luck": 0.0, "noise": 0.03}  # the same for all arms, so that others would be asked
    knobs = {name: knob for name, knob in synthetic.KNOBS.items() if name != "n_embd"}  # all of one shape
    made = confirming.confirmed(confirming.searched(confirming.slow, **noise, knobs=knobs), confirming.slow, **noise)
    evidence = Evidence(made)
    winner = evidence.arms.winner
    assert len(winner.knobs) > 1
    baseline, best = evidence.losses(BASELINE), evidence.losses(winner)
    seeds = sorted(baseline.keys() & best.keys())
    own = stats.ttest_rel([baseline[seed] for seed in seeds], [best[seed] for seed in seeds]).confidence_interval()
    effect = evidence.gain(winner, threshold=0.0)
    assert effect is not None
    assert (effect.low, effect.high) == (pytest.approx(own.low), pytest.approx(own.high))
    lasting = evidence.lasting(winner)
    assert lasting is not None
    assert lasting.degrees == lasting.n - 1
    single = [evidence.gain(Arm(frozenset([knob])), threshold=0.0) for knob in winner.knobs]
    assert any(each is not None and each.method == "layout" and each.degrees > each.n - 1 for each in single)


def test_the_knob_is_named(results: Results) -> None:
    found = Findings(results).attribution
    assert found is not None
    assert found.word is BestWord.IMPROVES
    assert found.effect is not None
    assert found.effect.mean == pytest.approx(
        0.2 * (distance(2e-4) - distance(found.best.config.learning_rate)) - found.best.config.dropout,
        abs=0.003,
    )
    words = {knob.knob: knob.word for knob in found.knobs}
    assert words["learning_rate"] is KnobWord.ALONE
    assert words.get("dropout") in (None, KnobWord.HURTS, KnobWord.NO_EFFECT)
    assert [each.word for each in found.advice] == [AdviceWord.WRONG]


def distance(rate: float) -> float:
    return math.log10(rate / 3e-3) ** 2


def test_a_finished_study_has_nothing_left_to_confirm(results: Results) -> None:
    assert confirm.next_run(Evidence(results)) is None


def test_keys_name_their_proposals(results: Results) -> None:
    arms = Arms(results.study, results.best, vocab_size=results.data.vocab_size)
    listed = [BASELINE, arms.winner, *(Arm(frozenset([knob])) for knob in arms.changed), Arm(candidate=0)]
    for arm in [*listed, *(Arm(each.knobs, each.candidate, half=True) for each in listed)]:
        made = arms.proposal(arm, 77)
        assert arms.proposed(made.key) == made
    assert arms.proposed("star:dropout:high") is None


class Killed(BaseException):
    """The end of a process, as far as a test can have it."""


@pytest.mark.parametrize("method", ["ask", "tell"])
def test_killed_in_the_middle_it_goes_on(results: Results, tmp_path: Path, method: str) -> None:
    """Between the trial and its run, and between the run's end and what Optuna is told."""
    left = sum(run.phase != PHASE for run in results.runs) + 4
    original = getattr(OptunaTrials, method)

    def deadly(*args: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and method == "tell":
            raise Killed
        asked = original(*args, **named)
        if left == 0:
            raise Killed
        return asked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OptunaTrials, method, deadly)
        with pytest.raises(Killed):
            swept(tmp_path)
    assert small_sweep.essence(swept(tmp_path)) == small_sweep.essence(results)


def test_more_seeds_go_on_from_what_there_is(results: Results, tmp_path: Path) -> None:
    few = swept(tmp_path, confirm={"seeds": 2, "max_trials": 3})
    assert sum(run.phase == PHASE for run in few.runs) == 3
    more = swept(tmp_path)
    assert small_sweep.essence(more) == small_sweep.essence(results)
    assert more.runs[: len(few.runs)] == few.runs


# In memory: a loss surface that is known


@pytest.fixture(scope="module", params=["flat", "slow", "both"])
def known(request: pytest.FixtureRequest) -> tuple[str, Results]:
    surface = getattr(confirming, request.param)
    return request.param, confirming.confirmed(confirming.searched(surface, trials=12), surface)


def test_the_words_are_the_truth(known: tuple[str, Results]) -> None:
    name, found = known[0], Findings(known[1]).attribution
    assert found is not None
    assert found.decided
    words = {knob.knob: knob.word for knob in found.knobs}
    claimed = {knob for knob, word in words.items() if word in (KnobWord.ALONE, KnobWord.JOINT, KnobWord.NECESSARY)}
    assert found.broken is (name != "flat")
    assert claimed == {"flat": set(), "slow": {"learning_rate"}, "both": {"weight_decay", "n_embd"}}[name]
    if name == "both":
        assert {words[knob] for knob in claimed} == {KnobWord.JOINT}
        assert {knob.partner for knob in found.knobs if knob.knob in claimed} == claimed


def test_intervals_hold_the_truth(known: tuple[str, Results]) -> None:
    surface, found = getattr(confirming, known[0]), Findings(known[1]).attribution
    assert found is not None
    assert found.effect is not None
    assert found.effect.low is not None
    gain = surface(found.reference) - surface(found.best.config)
    assert found.effect.low - 0.01 <= gain <= (found.effect.high or 0) + 0.01  # one draw of a 95 % interval


def test_the_budget_is_kept_and_no_run_is_made_twice_in_memory(known: tuple[str, Results]) -> None:
    runs = [run for run in known[1].runs if run.phase == PHASE]
    assert len(runs) <= known[1].study.confirm.max_trials
    assert len({run.config for run in known[1].runs}) == len(known[1].runs)
    most = known[1].study.seed + known[1].study.confirm.seeds + confirm.EXTRA
    assert all(known[1].study.seed < run.seed <= most for run in runs)


def test_a_best_that_is_no_better_costs_its_seeds_the_advice_and_each_knob_alone() -> None:
    found = confirming.confirmed(confirming.searched(confirming.flat, trials=12), confirming.flat)
    arms = Evidence(found).arms
    labels = {run.label for run in found.runs if run.phase == PHASE}
    assert not [label for label in labels if "without" in label or "half" in label]
    runs = [run for run in found.runs if run.label.startswith("best")]
    assert confirm.FIRST <= len(runs) <= found.study.confirm.seeds or not arms.all


def test_the_path_falls_to_the_best(known: tuple[str, Results]) -> None:
    found = Findings(known[1]).attribution
    assert found is not None
    if known[0] == "flat":
        return
    steps = [step.knob for step in found.path]
    assert steps[0] is None
    assert found.path[0].losses
    first = {"slow": {"learning_rate"}, "both": {"weight_decay", "n_embd"}}[known[0]]
    assert set(steps[1 : 1 + len(first)]) == first
    changed = [*(step.knob for step in found.path if step.knob), *(knob for step in found.path for knob in step.rest)]
    assert sorted(changed) == sorted(knob.knob for knob in found.knobs)


@pytest.mark.parametrize("max_trials", [0, 1, 7])
def test_max_trials_is_the_most(max_trials: int) -> None:
    results = confirming.searched(confirming.slow, trials=12, confirm={"seeds": 5, "max_trials": max_trials})
    made = confirming.confirmed(results, confirming.slow)
    assert sum(run.phase == PHASE for run in made.runs) == max_trials
    found = Findings(made).attribution
    assert (found is None) is (max_trials == 0)
    assert max_trials > 1 or found is None or not found.decided


def test_of_a_best_that_diverges_on_every_fresh_seed_each_knob_gets_two_seeds_after_the_advice() -> None:
    before = confirming.searched(confirming.slow, trials=12)
    best = before.best
    assert best is not None
    lost = [
        dataclasses.replace(
            best,
            id=900 + i,
            seed=1338 + i,
            phase=PHASE,
            origin=PHASE,
            outcome="diverged",
            val_loss=None,
            config=best.config.replace(seed=1338 + i),
        )
        for i in range(confirm.FIRST)
    ]
    results = dataclasses.replace(before, runs=(*before.runs, *lost))
    wishes = list(confirm.wanted(Evidence(results)))
    arms = Evidence(results).arms
    knobs = [arm for arm, _ in wishes if arm.knobs not in (frozenset(), arms.all)]
    assert sorted(knobs, key=str) == sorted([Arm(frozenset([knob])) for knob in arms.changed] * confirm.KNOBS, key=str)
    assert wishes.index((knobs[0], 1338)) > max(i for i, (arm, _) in enumerate(wishes) if arm.candidate is not None)
    assert not any(arm.half for arm, _ in wishes)


def test_a_knob_that_diverges_alone_is_of_no_use_alone_and_gets_no_more_seeds() -> None:
    before = confirming.confirmed(confirming.searched(confirming.slow, trials=12), confirming.slow)
    alone = Arm(frozenset(["learning_rate"]))
    hit = {run.id for run in Evidence(before).runs(alone)[:1]}

    def ended(run: Run) -> Run:
        return dataclasses.replace(run, outcome="diverged", val_loss=None) if run.id in hit else run

    results = dataclasses.replace(before, runs=tuple(ended(run) for run in before.runs))
    found = Findings(results).attribution
    assert found is not None
    knob = next(each for each in found.knobs if each.knob == "learning_rate")
    assert (knob.word, knob.diverged) in ((KnobWord.NECESSARY, 1), (KnobWord.HURTS, 1))
    other = next(each for each in found.knobs if each.knob != "learning_rate")
    assert other.diverged == 0
    assert alone not in confirm.Questions(Evidence(results), found).undecided()


def test_half_is_half_and_keeps_its_schedule() -> None:
    results = confirming.searched(confirming.slow, trials=12)
    arms = Arms(results.study, results.best, vocab_size=results.data.vocab_size)
    whole, half = arms.config(BASELINE), arms.config(Arm(half=True))
    assert whole is not None
    assert half is not None
    assert half.max_iters == whole.max_iters / 2
    assert half.lr_decay_iters == half.max_iters
    assert half.learning_rate == whole.learning_rate


def test_a_run_of_another_config_is_of_no_arm() -> None:
    results = confirming.confirmed(confirming.searched(confirming.slow, trials=12), confirming.slow)
    arms = Arms(results.study, results.best, vocab_size=results.data.vocab_size)
    ours = [run for run in results.runs if run.phase == PHASE and arms.arm_of(run) is not None]
    assert ours
    for run in ours:
        other = dataclasses.replace(run, config=run.config.replace(beta2=run.config.beta2 / 2))
        assert arms.arm_of(other) is None


def test_a_phase_that_looks_after_every_run_asks_more_of_a_claim() -> None:
    """As much as Pocock's bound for four looks: one-sided .05 becomes .02."""
    results = confirming.confirmed(confirming.searched(confirming.slow, trials=12), confirming.slow)
    evidence = Evidence(results)
    effect = evidence.gain(evidence.arms.winner, threshold=0.0)
    assert effect is not None
    assert effect.se is not None
    assert effect.degrees is not None
    raw = stats.t.sf(effect.mean / effect.se, effect.degrees)
    assert effect.p == pytest.approx(min(1.0, 2.5 * raw))
    assert effect.lower == pytest.approx(effect.mean - stats.t.isf(0.02, effect.degrees) * effect.se)
    assert effect.low == pytest.approx(effect.mean - stats.t.isf(0.025, effect.degrees) * effect.se)


def test_a_phase_of_few_runs_settles_the_verdict_and_names_the_knob_before_it_resets_any() -> None:
    results = confirming.searched(confirming.slow, trials=12)
    made = confirming.confirmed(results, confirming.slow, noise=0.03)
    evidence = Evidence(made)
    order = [evidence.arms.arm_of(run) for run in made.runs if run.phase == PHASE]
    resets = [index for index, arm in enumerate(order) if arm and len(evidence.arms.all - arm.knobs) == 1]
    named = [index for index, arm in enumerate(order) if arm and arm == Arm(frozenset(["learning_rate"]), half=True)]
    assert resets
    assert named
    assert max(named[:2]) < min(resets)


def test_a_knob_that_does_nothing_and_diverges_is_of_no_use() -> None:
    before = confirming.confirmed(confirming.searched(confirming.slow, trials=12), confirming.slow)
    settled = Findings(before).attribution
    assert settled is not None
    idle = next(each.knob for each in settled.knobs if each.knob != "learning_rate" and not each.necessary)
    hit = {run.id for run in Evidence(before).runs(Arm(frozenset([idle])))[:1]}
    runs = [
        dataclasses.replace(run, outcome="diverged", val_loss=None) if run.id in hit else run for run in before.runs
    ]
    found = Findings(dataclasses.replace(before, runs=tuple(runs))).attribution
    assert found is not None
    assert {each.knob: each.word for each in found.knobs}[idle] is KnobWord.HURTS


def _spoilt(config: TrainConfig) -> float:
    """The rate gains .17 nats at 3e-3, and every width but the baseline's loses more."""
    return confirming.slow(config) + 0.3 * (config.n_embd != 384)


def test_a_knob_is_shown_alone_where_the_best_spoils_what_it_gains() -> None:
    searched = confirming.searched(_spoilt, trials=6)
    params = {**baseline_params(searched.study), "learning_rate": 3e-3, "n_embd": 448}
    config = config_of(searched.study, params, seed=searched.study.seed, vocab_size=searched.data.vocab_size)
    lucky = dataclasses.replace(
        next(run for run in searched.runs if run.origin == "sampler"), params=params, config=config, val_loss=2.0
    )
    runs = tuple(lucky if run.id == lucky.id else run for run in searched.runs)
    results = confirming.confirmed(dataclasses.replace(searched, runs=runs), _spoilt)
    found = Findings(results).attribution
    assert found is not None
    assert found.broken
    assert found.by_one
    assert found.change == ("learning_rate",)
    assert found.effect is not None
    assert found.effect.low < 0.14 * math.log(3) ** 2 < found.effect.high  # type: ignore[operator]  # it has bounds
    assert found.effect.looks == pytest.approx(P_MULTIPLIER / (1 - ALPHA_BEST))
    assert found.whole is not None
    assert found.whole.mean < 0
    assert found.whole.looks == pytest.approx(P_MULTIPLIER / ALPHA_BEST)
    assert found.best.config.replace(seed=0) == searched.runs[0].config.replace(
        seed=0, learning_rate=3e-3, min_lr=found.best.config.min_lr
    )
    assert found.searched.id == lucky.id
    words = {knob.knob: knob.word for knob in found.knobs}
    assert words == {"learning_rate": KnobWord.ALONE, "n_embd": KnobWord.HURTS}
    assert trial_of(Findings(results), None) == found.best
    exported = export_run(Findings(results), found.best, date="2026-11-24")
    assert exported.settings["learning_rate"] == 3e-3
    assert exported.settings["n_embd"] == 384
    assert "verdict: Learning rate improves on the baseline alone" in exported.text
    assert ladder(Findings(results), found.best).seeds == found.effect.n


@pytest.mark.parametrize(
    ("max_trials", "begun", "given", "settings"),
    [
        (60, 13, {}, (5, 73)),
        (0, 0, {}, (5, Confirm().max_trials)),  # a study without a confirm phase gets the default
        (60, 13, {"seeds": 8}, (8, 73)),
        (60, 13, {"max_trials": 20}, (5, 20)),
    ],
)
def test_a_continued_phase_has_room_for_as_many_runs_again(
    max_trials: int, begun: int, given: dict[str, int], settings: tuple[int, int]
) -> None:
    study = synthetic.study(confirm={"seeds": 5, "max_trials": max_trials, "min_effect": 0.03})
    runs = [synthetic.run(index, phase=PHASE, seed=index) for index in range(begun)]
    extended = confirm.extended(synthetic.results(runs, study=study), **{"seeds": None, "max_trials": None, **given})
    assert (extended.seeds, extended.max_trials, extended.min_effect) == (*settings, 0.03)
