"""Planted faults: each case breaks the settings that it names, and scores are those worked out by hand."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import optuna
import pytest
from optuna.distributions import FloatDistribution
from scipy import stats

from benchmarks.verdict import train_directly
from benchmarks.verdict.planted import CASES, Case, as_json, direct_configs, importances, markdown_lines, study_of
from benchmarks.verdict.planted_scores import (
    Arm,
    Claim,
    Rate,
    Score,
    above_equal_share,
    arms_of,
    claims_of,
    direct_effect,
    is_borne_out,
    paired_difference,
    ranking,
    rates_of,
    score,
)
from sweeps.store.records import DataFacts, Outcome, Results, Run
from sweeps.study.proposals import baseline_config
from sweeps.workers import launch
from sweeps.workers.pool import Job, Report
from tests.helpers.inline_pool import InlinePool
from trainer.config import TrainConfig
from trainer.points import Answer, Point, Result

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_breaks_the_settings_that_it_names(case: Case) -> None:
    broken, mended = study_of(case), study_of(case, mended=True)
    assert (broken.name, broken.seed) == (case.name, case.seed)
    differ = {knob for knob in broken.knobs if broken.knob_value(knob) != mended.knob_value(knob)}
    assert differ == set(case.planted)
    # the rest of the study differs only where that follows from the knobs
    assert broken.knobs == mended.knobs
    assert {name for name in broken.baseline if broken.baseline[name] != mended.baseline[name]} <= differ | {"min_lr"}
    broken_config, mended_config = (baseline_config(study, seed=1, vocab_size=0) for study in (broken, mended))
    assert (broken_config != mended_config) == bool(case.planted)
    assert broken_config.max_iters == int(broken.baseline["max_iters"])  # a trial is as long as the baseline's run


def test_the_cases_cover_single_faults_pairs_and_none() -> None:
    null = [case for case in CASES if not case.planted]
    assert len(CASES) >= 10
    assert len(BY_NAME) == len(CASES)
    assert len({case.seed for case in null}) == len(null) >= 2
    assert all(study_of(case).baseline == study_of(null[0]).baseline for case in null)
    assert len([case for case in CASES if len(case.planted) == 2]) >= 3
    assert {knob for case in CASES for knob in case.planted} == set(study_of(null[0]).knobs)


def knob(name: str, verdict: str, effect: float | None = None, **more: Any) -> dict[str, Any]:
    ci = None if effect is None else [effect - 0.05, effect + 0.05]
    return {"name": name, "verdict": verdict, "effect": effect, "ci": ci, "reset": None, "partner": None, **more}


def verdict(*knobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    fields = {"broken": True, "word": "improves", "delta": 0.4, "min_effect": 0.02, "joint": None, "candidates": []}
    return {**fields, "knobs": list(knobs), **more}


def output(verdict_as_json: dict[str, Any] | None) -> dict[str, Any]:
    """Return the output of `sweep run --json`."""
    return {"verdict": verdict_as_json, "trials": {"complete": 30, "pruned": 12, "diverged": 0}, "seconds": 61.5}


def scored(verdict_as_json: dict[str, Any] | None, *planted: str, losses: Any = None, **more: Any) -> Score:
    settings: dict[str, Any] = {"knobs": 6, "losses": losses or {}, "mended": (), "shares": {}}
    return score("a case", planted, output(verdict_as_json), **{**settings, **more})


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
    claims = list(claims_of(verdict(ALONE, JOINT[0], NECESSARY, JOINT[1], *IDLE, joint=BOTH)))
    assert claims == [
        Claim(knobs=("dropout",), verdict="alone", effect=0.3, low=0.25, high=0.35),
        Claim(knobs=("n_embd",), verdict="necessary", effect=0.25, low=0.2, high=0.3),
        Claim(knobs=("learning_rate", "warmup_iters"), verdict="joint", effect=0.21, low=0.18, high=0.24),
    ]


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


RIGHT = {"config": {"dropout": 0.2, "weight_decay": 0.5}, "verdict": "right"}
WRONG = {"config": {"learning_rate": 0.001}, "verdict": "wrong"}


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
        scored(verdict(NECESSARY, broken=False, word="none"), "n_embd", "min_lr", shares={"fANOVA": SHARES}),
        scored(verdict(*IDLE, broken=False, word="none"), shares={"fANOVA": SHARES}),
        scored(verdict(*IDLE, broken=True)),
    ]
    counts = {rate.what: (rate.k, rate.n) for rate in rates_of(scores)}
    assert counts == {
        "faulted baselines shown to be beaten": (2, 3),
        "broken knob named first": (2, 3),
        "broken knobs named": (3, 4),
        "innocent knobs accused": (1, 5 + 5 + 4 + 6 + 6),
        "null cases with a claim": (1, 2),
        "intervals that hold the direct mean": (1, 2),
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


def results_of(case: Case, params: dict[str, float]) -> Results:
    """Return the case's study with one complete trial."""
    study = study_of(case)
    run = Run(
        id=1,
        optuna_study=case.name,
        trial=3,
        seed=study.seed,
        phase="search",
        origin="sampler",
        label="trial 3",
        knob=None,
        params=params,
        config=baseline_config(study, seed=study.seed, vocab_size=257),
        device="cpu",
        outcome=Outcome.COMPLETE,
        reason="",
        val_loss=2.0,
        val_se=0.01,
        seconds=1.0,
        points=(),
    )
    data = DataFacts(path="", fingerprint="", vocab_size=257, train_tokens=10, val_tokens=10, bytes_per_token=1.0)
    return Results(study=study, data=data, runs=(run,), provenance={}, seconds=1.0)


PARAMS = {
    "learning_rate": 4e-3,
    "min_lr_ratio": 0.25,
    "warmup_fraction": 0.5,
    "dropout": 0.1,
    "weight_decay": 0.3,
    "n_embd": 32,
}


def test_direct_runs_are_the_claims_arms_and_the_mended_baseline() -> None:
    case = BY_NAME["lr-low"]
    configs = direct_configs(
        case, results_of(case, PARAMS), verdict(knob("learning_rate", "alone", 0.3), *IDLE), seeds=[9000, 9001]
    )
    assert set(configs) == {Arm(), L, None}
    assert [config.seed for config in configs[L]] == [9000, 9001]
    broken, alone, mended = (configs[arm][0] for arm in (Arm(), L, None))
    assert (broken.learning_rate, broken.min_lr) == (7e-4, 1.05e-4)
    assert (alone.learning_rate, alone.min_lr) == (
        4e-3,
        pytest.approx(6e-4),
    )  # the knob of min_lr is its ratio to the rate
    assert (mended.learning_rate, mended.min_lr) == (7e-3, 1.05e-3)
    assert broken.replace(learning_rate=7e-3, min_lr=1.05e-3) == mended
    assert alone.replace(learning_rate=7e-3, min_lr=1.05e-3) == mended


def test_on_a_null_case_the_best_is_measured() -> None:
    case = BY_NAME["null-1"]
    names = ("learning_rate", "min_lr", "warmup_iters", "dropout", "weight_decay", "n_embd")
    nothing = verdict(*(knob(name, "not enough evidence") for name in names), broken=False, word="none")
    configs = direct_configs(case, results_of(case, PARAMS), nothing, seeds=[9000])
    assert set(configs) == {Arm(), Arm(names)}
    best = configs[Arm(names)][0]
    assert (best.learning_rate, best.min_lr, best.warmup_iters) == (4e-3, pytest.approx(1e-3), 150)
    assert (best.dropout, best.weight_decay, best.n_embd, best.n_head) == (0.1, 0.3, 32, 2)


def test_the_table_and_the_json_agree() -> None:
    losses = {B: [3.0, 3.1, 3.2], D: [2.7, 2.8, 2.9]}
    shares = {"fANOVA": SHARES, "PED-ANOVA": SHARES}
    faulted = scored(verdict(ALONE), "dropout", losses=losses, mended=[2.6, 2.71, 2.8], shares=shares)
    null = scored(None, shares=shares)
    text = "\n".join(markdown_lines([faulted, null]))
    assert "| a case | dropout | improves | 0.400 | dropout alone 0.300 (0.250 to 0.350; direct 0.300) | none |" in text
    assert "n_embd 0.50" in text
    assert "| a case | nothing | none |  | none | none |" in text
    assert "- broken knob named first: 1 of 1 (0.03 to 1.00)" in text
    scores = json.loads(json.dumps(as_json([faulted, null])))
    assert scores["cases"][0]["first"] is True
    assert scores["cases"][0]["claims"][0]["held"] is True
    assert scores["cases"][0]["mended"]["mean"] == pytest.approx(statistics.fmean([0.4, 0.39, 0.4]))
    assert scores["cases"][1]["claims_anything"] is False
    assert [rate["k"] for rate in scores["summary"]][:2] == [1, 1]


class Pool(InlinePool):
    """Trains nothing: the loss is the learning rate, a rate of 1 diverges, and a rate of 2 crashes."""

    jobs: ClassVar[list[Job]] = []

    def __init__(self, devices: Sequence[str], *, logs: Path, cores: int) -> None:  # as ProcessPool
        super().__init__(devices, work=self.work)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def work(self, job: Job, report: Report) -> Result:
        self.jobs.append(job)
        rate = job.config.learning_rate
        if rate == 2:
            raise RuntimeError("out of order")
        point = Point(
            step=0,
            tokens=0,
            train_loss=5.0,
            train_se=0.1,
            val_loss=5.0,
            val_se=0.1,
            lr=rate,
            grad_norm=None,
            tokens_per_s=None,
            seconds=0.0,
        )
        assert report(point) is Answer.GO
        job.out.mkdir(parents=True)
        outcome = "diverged" if rate == 1 else "complete"
        return Result(outcome=outcome, step=1, points=(point,), val_loss=None if rate == 1 else rate)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    monkeypatch.setattr(train_directly, "ProcessPool", Pool)
    monkeypatch.setattr(launch, "cpu_cores", lambda: 2)
    monkeypatch.setattr(Pool, "jobs", [])
    return Pool


def configs(*rates: float) -> list[TrainConfig]:
    return [TrainConfig(learning_rate=rate, min_lr=0.0) for rate in rates]


def test_direct_losses_are_in_the_order_of_the_configs_and_no_config_is_trained_twice(
    pool: type[Pool], tmp_path: Path
) -> None:
    dataset: Any = SimpleNamespace(path=tmp_path / "data")
    assert train_directly.final_losses(configs(0.3, 0.1, 1, 0.2, 0.1), dataset, tmp_path) == [
        0.3,
        0.1,
        math.inf,
        0.2,
        0.1,
    ]
    assert sorted(job.config.learning_rate for job in pool.jobs) == [0.1, 0.2, 0.3, 1]
    assert {job.data for job in pool.jobs} == {dataset.path}
    assert not any(job.out.exists() for job in pool.jobs)
    assert train_directly.final_losses(configs(1, 0.4, 0.2), dataset, tmp_path) == [math.inf, 0.4, 0.2]
    assert [job.config.learning_rate for job in pool.jobs[4:]] == [0.4]
    assert train_directly.final_losses([], dataset, tmp_path) == []


def test_a_direct_run_that_crashes_ends_the_benchmark(pool: type[Pool], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="out of order"):
        train_directly.final_losses(configs(2), SimpleNamespace(path=tmp_path), tmp_path)  # type: ignore[arg-type]
