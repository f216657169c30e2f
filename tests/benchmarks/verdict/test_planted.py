"""Scores of planted faults are those worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from scipy import stats

from benchmarks.verdict.planted import as_json, compute_of, importances, markdown_lines
from benchmarks.verdict.planted_scores import (
    OLD_PROTOCOL,
    Arm,
    Claim,
    Difference,
    Rate,
    Score,
    above_equal_share,
    arms_of,
    claims_of,
    direct_effect,
    is_borne_out,
    knob_claims,
    named_knobs,
    paired_difference,
    ranking,
    rates_of,
    score,
    text_of,
)
from trainer.config import TrainConfig
from trainer.model.gpt import GPT


def knob(name: str, verdict: str, effect: float | None = None, **more: Any) -> dict[str, Any]:
    ci = None if effect is None else [effect - 0.05, effect + 0.05]
    return {"name": name, "verdict": verdict, "effect": effect, "ci": ci, "reset": None, "partner": None, **more}


def verdict(*knobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    fields = {"broken": True, "word": "improves", "delta": 0.4, "ci": [0.36, 0.44], "min_effect": 0.02, "joint": None}
    return {**fields, "change": ["dropout"], "candidates": [], "knobs": list(knobs), **more}


def output(verdict_as_json: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    """Return the output of `sweep run --json`."""
    trials = {"complete": 30, "pruned": 12, "diverged": 0}
    return {"verdict": verdict_as_json, "trials": trials, "seconds": 61.5, **more}


KNOBS = ("learning_rate", "min_lr", "warmup_iters", "dropout", "weight_decay", "n_embd")


def scored(
    verdict_as_json: dict[str, Any] | None, *planted: str, losses: Any = None, races: Any = (), **more: Any
) -> Score:
    settings: dict[str, Any] = {"knobs": KNOBS, "losses": losses or {}, "mended": (), "shares": {}, "compute": 0.0}
    return score("a case", planted, output(verdict_as_json, races=races), **{**settings, **more})


ALONE = knob("dropout", "alone", 0.3)
NECESSARY = knob("n_embd", "necessary", 0.01, reset={"effect": 0.25, "ci": [0.2, 0.3]})
BOTH = {"knobs": ["learning_rate", "warmup_iters"], "effect": 0.21, "ci": [0.18, 0.24], "interaction": None}
JOINT = [knob("warmup_iters", "joint", 0.0), knob("learning_rate", "joint", -0.01)]
IDLE = [
    knob("weight_decay", "no effect shown", 0.0),
    knob("min_lr", "not enough evidence"),
    knob("beta2", "hurts", -0.3),
]


def test_each_verdict_that_names_a_knob_is_a_claim_with_an_interval() -> None:
    claims = list(knob_claims(verdict(ALONE, JOINT[0], NECESSARY, JOINT[1], *IDLE, joint=BOTH)))
    assert claims == [
        Claim(knobs=("dropout",), verdict="alone", effect=0.3, low=0.25, high=0.35),
        Claim(knobs=("n_embd",), verdict="necessary", effect=0.25, low=0.2, high=0.3),
        Claim(knobs=("learning_rate", "warmup_iters"), verdict="joint", effect=0.21, low=0.18, high=0.24),
    ]


def test_the_headline_credits_knobs_whatever_their_own_word() -> None:
    open_word = knob("weight_decay", "not enough evidence", 0.2)
    crediting = verdict(ALONE, knob("min_lr", "gains", 0.1), open_word, headline=["weight_decay", "dropout"])
    assert named_knobs(crediting) == ("weight_decay", "dropout")
    assert [claim.knobs[0] for claim in knob_claims(crediting)] == ["dropout", "min_lr", "weight_decay"]
    assert scored(crediting, "weight_decay").first
    assert not scored(crediting, "dropout").first
    without_headline = verdict(ALONE, knob("min_lr", "gains", 0.1), open_word)
    assert named_knobs(without_headline) == ("dropout", "min_lr")


def test_the_whole_change_is_a_claim_unless_one_knob_is_all_of_it() -> None:
    both = verdict(ALONE, knob("n_embd", "alone", 0.1), change=["n_embd", "dropout"])
    assert [claim.knobs for claim in claims_of(output(both))] == [("dropout",), ("n_embd",), ("dropout", "n_embd")]
    whole = claims_of(output(both))[-1]
    assert (whole.verdict, whole.effect, whole.low, whole.high, whole.accuses) == ("change", 0.4, 0.36, 0.44, ())
    assert [claim.knobs for claim in claims_of(output(verdict(ALONE)))] == [("dropout",)]
    assert claims_of(output(verdict(*IDLE, broken=False))) == []


def race(change: str, gap: float | None, half: float = 0.02, step: int = 300) -> dict[str, Any]:
    ci = None if gap is None else [gap - half, gap + half]
    knob, _, value = change.partition("=")
    return {
        "change": {knob: int(value)},
        "step": step,
        "gap": gap,
        "ci": ci,
        "growing": True,
        "params": 2.0,
        "seconds": 1.5,
    }


def test_shapes_are_named_by_the_largest_gap_whose_interval_is_above_0() -> None:
    races = [race("n_layer=6", 0.05), race("n_embd=96", 0.1), race("n_layer=9", 0.3, half=0.4), race("n_head=6", None)]
    shallow = scored(verdict(*IDLE, broken=False), "n_embd", races=races)
    assert (shallow.raced, shallow.named, shallow.first) == (("n_embd", "n_layer"), (), True)
    assert (shallow.claims[0].verdict, shallow.claims[0].step, shallow.claims[0].effect) == ("race", 300, 0.1)
    assert not scored(verdict(*IDLE, broken=False), "n_layer", races=races).first
    assert scored(verdict(ALONE), "dropout", races=races).first
    assert scored(verdict(ALONE), "n_embd", races=races).first


def test_a_race_is_judged_by_races_on_fresh_seeds_at_its_step() -> None:
    origin, deep, wide = (Arm([f"race {what} at 300"]) for what in ("origin", "n_layer=6", "n_embd=96"))
    losses = {B: [3.0, 3.0], origin: [4.0, 4.2], deep: [4.01, 4.2], wide: [3.9, 4.12]}
    null = verdict(*IDLE, broken=False)
    (wider, deeper) = scored(null, races=[race("n_layer=6", 0.05), race("n_embd=96", 0.1)], losses=losses).claims
    assert wider.direct is not None
    assert wider.direct.mean == pytest.approx(0.09)
    assert (wider.held, wider.borne_out, deeper.held, deeper.borne_out) == (True, True, False, False)
    assert set(arms_of(wider, ALL)) == {origin, wide}
    one = scored(null, races=[race("n_embd=96", 0.1)], losses=losses)
    assert (one.accused, one.excused, one.claims_anything) == ((), ("n_embd",), False)
    other = scored(null, races=[race("n_layer=6", 0.1)], losses=losses)
    assert (other.accused, other.excused, other.claims_anything) == (("n_layer",), (), True)


def test_advice_is_judged_as_a_claim() -> None:
    right = {**RIGHT, "effect": 0.2, "ci": [0.1, 0.3]}
    losses = {B: [3.0, 3.0], Arm(["advice dropout=0.2 weight_decay=0.5"]): [2.9, 2.8], D: [2.7, 2.8], ALL: [2.7, 2.8]}
    (claim,) = scored(verdict(candidates=[right], broken=False), losses=losses).claims
    assert (claim.verdict, claim.held, claim.borne_out, claim.accuses) == ("advice", True, True, ())
    assert text_of(right["config"]) == claim.knobs[0]


def test_an_interval_agrees_where_both_errors_explain_the_difference() -> None:
    direct = Difference(mean=0.26, low=0.22, high=0.30, n=8)
    claim = Claim(knobs=("dropout",), verdict="alone", effect=0.3, low=0.27, high=0.4, direct=direct)
    assert (claim.held, claim.agrees) == (False, True)  # 0.04 <= hypot(0.03, 0.04)
    assert dataclasses.replace(claim, direct=dataclasses.replace(direct, mean=0.24, high=0.27)).agrees is False
    assert dataclasses.replace(claim, direct=dataclasses.replace(direct, mean=0.39, high=0.4)).agrees is True
    assert dataclasses.replace(claim, direct=None).agrees is None


def test_compute_is_stated_as_a_share_of_the_earlier_protocol() -> None:
    config = TrainConfig(n_layer=3, n_head=4, n_embd=64, block_size=64, vocab_size=512)
    count = sum(parameter.numel() for parameter in GPT(config).parameters())
    assert 28_000 * 1024 * count == OLD_PROTOCOL

    def run(*tokens: int) -> Any:
        return SimpleNamespace(config=config, points=[SimpleNamespace(tokens=each) for each in tokens])

    assert compute_of([run(0, 500, 1000), run(4000, 4100), run()]) == 1100 * count
    assert scored(verdict(ALONE), compute=OLD_PROTOCOL / 4).compute == 0.25


def test_a_claim_without_an_interval_is_not_judged() -> None:
    (claim,) = scored(verdict({**ALONE, "ci": None}), "dropout", losses={B: [3.0, 3.1], D: [2.7, 2.8]}).claims
    assert (claim.low, claim.high, claim.held) == (None, None, None)
    assert claim.direct is not None


def test_the_knob_named_first_is_the_first_in_the_verdict() -> None:
    two_named = verdict(ALONE, NECESSARY, *IDLE)
    assert scored(two_named, "dropout").first
    assert not scored(two_named, "n_embd").first
    assert not scored(verdict(*IDLE), "weight_decay").first  # listed, but not named
    two_planted = scored(two_named, "n_embd", "dropout")
    assert two_planted.first
    assert (two_planted.named, two_planted.accused, two_planted.innocents) == (("dropout", "n_embd"), (), 4)


def test_an_innocent_knob_that_is_named_is_accused() -> None:
    joint = scored(verdict(*JOINT, *IDLE, joint=BOTH), "warmup_iters")
    assert (joint.first, joint.named, joint.accused) == (
        True,
        ("warmup_iters", "learning_rate"),
        ("learning_rate",),
    )
    assert scored(verdict(NECESSARY, *IDLE), "dropout").accused == ("n_embd",)


def test_no_verdict_claims_nothing() -> None:
    silent = scored(None)
    assert (silent.word, silent.broken, silent.named, silent.claims_anything) == ("none", False, (), False)
    assert (silent.runs, silent.seconds, silent.innocents) == (42, 61.5, 6)
    assert scored(None, losses={B: [3.0, 3.1]}).best is None  # no best to compare with the baseline


RIGHT = {"config": {"dropout": 0.2, "weight_decay": 0.5}, "verdict": "right", "effect": 0.1, "ci": None}
WRONG = {"config": {"learning_rate": 0.001}, "verdict": "wrong", "effect": -0.1, "ci": None}


@pytest.mark.parametrize(
    ("verdict_as_json", "claims_anything"),
    [
        (verdict(*IDLE, broken=False, word="none"), False),
        (verdict(*IDLE, broken=False, word="none", candidates=[WRONG]), False),
        (verdict(*IDLE, broken=False, word="none", candidates=[WRONG, RIGHT]), True),
        (verdict(*IDLE, broken=True, word="improves"), True),
        (verdict(ALONE, broken=False, word="none"), True),
    ],
)
def test_what_counts_as_a_claim_on_a_null_case(verdict_as_json: dict[str, Any], claims_anything: bool) -> None:
    assert scored(verdict_as_json).claims_anything is claims_anything


def test_advice_called_right_is_kept_as_text() -> None:
    assert scored(verdict(candidates=[WRONG, RIGHT])).advice == ("dropout=0.2 weight_decay=0.5",)


B, D, E, L, W = Arm(), Arm(["dropout"]), Arm(["n_embd"]), Arm(["learning_rate"]), Arm(["warmup_iters"])
ALL = D | E | L | W


def mean(claim: Claim, losses: Any) -> float:
    effect = direct_effect(claim, losses, ALL)
    assert effect is not None
    return effect.mean


@pytest.mark.parametrize(
    ("claim", "arms"),
    [
        (Claim(knobs=("dropout",), verdict="alone", effect=0, low=0, high=0), {B, D}),
        (Claim(knobs=("n_embd",), verdict="necessary", effect=0, low=0, high=0), {B, ALL, ALL - E}),
        (Claim(knobs=("learning_rate", "warmup_iters"), verdict="joint", effect=0, low=0, high=0), {B, L, W, L | W}),
    ],
)
def test_arms_that_show_whether_a_claim_is_true(claim: Claim, arms: set[Arm]) -> None:
    assert set(arms_of(claim, ALL)) == arms


def test_a_knob_alone_must_gain_more_than_min_effect() -> None:
    claim = Claim(knobs=("dropout",), verdict="alone", effect=0.3, low=0.25, high=0.35)
    losses = {B: [3.0, 3.1], D: [2.97, 3.08]}
    assert mean(claim, losses) == pytest.approx(0.025)
    assert is_borne_out(claim, "dropout", losses, ALL, min_effect=0.02)
    assert not is_borne_out(claim, "dropout", losses, ALL, min_effect=0.03)


def test_without_a_necessary_knob_the_best_must_lose_half_of_its_gain() -> None:
    claim = Claim(knobs=("n_embd",), verdict="necessary", effect=0.3, low=0.25, high=0.35)
    losses = {B: [3.0, 3.0], ALL: [2.6, 2.6], ALL - E: [2.82, 2.84]}
    assert mean(claim, losses) == pytest.approx(0.23)
    assert is_borne_out(claim, "n_embd", losses, ALL, min_effect=10)
    losses[ALL - E] = [2.78, 2.8]
    assert mean(claim, losses) == pytest.approx(0.19)
    assert not is_borne_out(claim, "n_embd", losses, ALL, min_effect=0)


def test_each_of_two_joint_knobs_must_add_to_the_other() -> None:
    claim = Claim(knobs=("learning_rate", "warmup_iters"), verdict="joint", effect=0.3, low=0.25, high=0.35)
    losses = {B: [3.0, 3.0], L: [3.1, 3.1], W: [2.71, 2.71], L | W: [2.7, 2.7]}
    assert mean(claim, losses) == pytest.approx(0.3)
    assert is_borne_out(claim, "warmup_iters", losses, ALL, min_effect=0.02)
    assert not is_borne_out(claim, "learning_rate", losses, ALL, min_effect=0.02)


def test_an_innocent_knob_is_excused_where_direct_runs_bear_the_claim_out() -> None:
    two_named = verdict(ALONE, knob("n_embd", "alone", 0.1))
    losses = {B: [3.0, 3.1, 3.2], D: [2.7, 2.8, 2.9], E: [2.9, 3.0, 3.1], D | E: [2.6, 2.7, 2.8]}
    guilty = scored(two_named, "dropout", losses={**losses, E: [2.99, 3.09, 3.19]})
    assert (guilty.accused, guilty.excused) == (("n_embd",), ())
    excused = scored(two_named, "dropout", losses=losses, mended=[2.65, 2.75, 2.85])
    assert (excused.accused, excused.excused) == ((), ("n_embd",))
    assert excused.mended is not None
    assert excused.mended.mean == pytest.approx(0.35)
    assert [claim.held for claim in excused.claims] == [True, True]
    assert [claim.held for claim in guilty.claims] == [True, False]
    assert scored(two_named, "dropout").claims[0].held is None
    larger = scored(two_named, "dropout", losses={**losses, D: [2.6, 2.7, 2.8]})
    assert [claim.held for claim in larger.claims] == [False, True]


def test_the_gain_of_the_best_is_measured_where_its_arm_was_run() -> None:
    nothing_shown = verdict(ALONE, knob("n_embd", "hurts", -0.1), broken=False, word="none")
    losses = {B: [3.0, 3.1], D: [2.99, 3.1], D | E: [3.1, 3.15]}
    best = scored(nothing_shown, losses=losses).best
    assert best is not None
    assert best.mean == pytest.approx(-0.075)
    assert scored(nothing_shown, losses={B: losses[B], D: losses[D]}).best is None


def test_differences_are_paired_by_seed_with_students_interval() -> None:
    baseline, changed = [3.0, 3.4, 2.9, 3.3], [2.8, 3.3, 2.65, 3.0]
    difference = paired_difference(baseline, changed)
    assert difference is not None
    oracle = stats.ttest_rel(baseline, changed).confidence_interval(0.95)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.2125, oracle.low, oracle.high))
    assert difference.n == 4


def test_a_seed_that_diverged_is_left_out() -> None:
    difference = paired_difference([3.0, 3.4, math.inf, 3.1], [2.8, math.inf, 2.7, 2.8])
    assert difference is not None
    assert (difference.n, difference.mean) == (2, pytest.approx(0.25))
    assert paired_difference([3.0, math.inf], [2.8, 2.9]) is None


def test_rates_have_clopper_and_pearsons_interval() -> None:
    # closed forms at the ends: 1 - (alpha / 2) ** (1 / n)
    low, high = Rate(what="", k=0, n=10).interval
    assert (low, high) == pytest.approx((0, 1 - 0.025**0.1))
    low, high = Rate(what="", k=10, n=10).interval
    assert (low, high) == pytest.approx((0.025**0.1, 1))
    low, high = Rate(what="", k=3, n=10).interval
    assert (low, high) == pytest.approx((stats.beta.ppf(0.025, 3, 8), stats.beta.ppf(0.975, 4, 7)))
    assert Rate(what="", k=0, n=0).interval == (0, 1)


SHARES = {"dropout": 0.2, "n_embd": 0.5, "min_lr": 0.3, "weight_decay": 0.0}


def test_knobs_are_ranked_by_share_and_named_above_an_equal_one() -> None:
    assert ranking(SHARES) == ["n_embd", "min_lr", "dropout", "weight_decay"]
    assert above_equal_share(SHARES) == ["n_embd", "min_lr"]
    assert above_equal_share(dict.fromkeys(SHARES, 0.25)) == []
    assert above_equal_share({}) == []


def test_rates_count_over_cases() -> None:
    wrong = verdict(knob("n_embd", "alone", 0.1), knob("dropout", "alone", 0.3))
    losses = {B: [3.0, 3.0, 3.0], D: [2.7, 2.7, 2.7], E: [3.0, 3.0, 3.0]}
    scores = [
        scored(verdict(ALONE), "dropout", shares={"fANOVA": SHARES}),
        scored(wrong, "dropout", losses=losses, shares={"fANOVA": SHARES}),
        scored(
            verdict(NECESSARY, broken=False, word="none"),
            *("n_embd", "min_lr"),
            shares={"fANOVA": SHARES},
            races=[race("n_embd=96", 0.1)],
        ),
        scored(verdict(*IDLE, broken=False, word="none"), shares={"fANOVA": SHARES}),
        scored(verdict(*IDLE, broken=True)),
    ]
    counts = {rate.what: (rate.k, rate.n) for rate in rates_of(scores)}
    assert counts == {
        "faulted baselines shown to be beaten": (3, 3),
        "broken knob named first": (2, 3),
        "broken knobs named": (3, 4),
        "innocent knobs accused": (1, 5 + 5 + 4 + 6 + 6),
        "null cases with a claim": (1, 2),
        "null cases with a claim that direct runs don't bear out": (0, 2),
        "intervals that hold the direct mean": (1, 2),
        "intervals that hold it, its own error allowed for": (1, 2),
        "cases within a third of the earlier compute": (5, 5),
        "Optuna's fANOVA: broken knob ranked first": (1, 3),
        "Optuna's fANOVA: innocent knobs above an equal share": (2 + 2 + 0 + 2, 5 + 5 + 4 + 6),
    }


def test_importances_are_optunas_by_nanogpts_names(tmp_path: Path) -> None:
    store = tmp_path / "study.db"
    study = optuna.create_study(study_name="a case", storage=f"sqlite:///{store}")
    spaces = {"min_lr_ratio": FloatDistribution(0, 1), "dropout": FloatDistribution(0, 1)}
    for number in range(24):
        params = {"min_lr_ratio": (number % 5) / 4, "dropout": (number % 7) / 6}
        value = params["min_lr_ratio"] + 0.01 * params["dropout"]
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=value))
    by_evaluator = importances(str(store), "a case")
    assert set(by_evaluator) == {"fANOVA", "PED-ANOVA"}
    for shares in by_evaluator.values():
        assert set(shares) == {"min_lr", "dropout"}
        assert ranking(shares)[0] == "min_lr"
        assert sum(shares.values()) == pytest.approx(1)
    assert by_evaluator == importances(str(store), "a case")


def test_the_table_and_the_json_agree() -> None:
    losses = {B: [3.0, 3.1, 3.2], D: [2.7, 2.8, 2.9]}
    shares = {"fANOVA": SHARES, "PED-ANOVA": SHARES}
    faulted = scored(
        verdict(ALONE), "dropout", losses=losses, mended=[2.6, 2.71, 2.8], shares=shares, compute=0.1 * OLD_PROTOCOL
    )
    null = scored(None, shares=shares, compute=0.2 * OLD_PROTOCOL)
    text = "\n".join(markdown_lines([faulted, null]))
    claim = "dropout alone 0.3000 (0.2500 to 0.3500; direct 0.3000)"
    assert f"| a case | dropout | improves 0.4000 | dropout | none | {claim} | none |" in text
    assert "n_embd 0.50" in text
    assert "| a case | nothing | none | none | none | none | none |" in text
    assert "compute of a case, of the earlier protocol's: 0.15 (at most 0.20)" in text
    assert "- broken knob named first: 1 of 1 (0.03 to 1.00)" in text
    scores = json.loads(json.dumps(as_json([faulted, null])))
    assert scores["cases"][0]["first"] is True
    assert scores["cases"][0]["claims"][0]["held"] is True
    assert scores["cases"][0]["mended"]["mean"] == pytest.approx(statistics.fmean([0.4, 0.39, 0.4]))
    assert scores["cases"][1]["claims_anything"] is False
    assert [rate["k"] for rate in scores["summary"]][:2] == [1, 1]
