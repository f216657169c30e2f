"""What pruning saved and cost: counted on runs whose numbers are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from sweeps.analysis.findings import Findings
from sweeps.analysis.pruning import ended_among_best, exact_interval, rule_of
from sweeps.store.records import Run
from sweeps.text import percent_whole
from sweeps.verdict.cautions import pruning_sentence
from sweeps.verdict.verdict import verdict
from tests.helpers import synthetic
from tests.helpers.pruned_runs import CURVE, complete, sentinel, stopped

PLATEAU = synthetic.study()
MEDIAN = synthetic.study(pruner={"type": "median"})
NONE = synthetic.study(pruner={"type": "none"})


# --- the interval --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 5), (1, 9), (3, 9), (9, 9), (7, 200), (0, 400)])
def test_the_interval_is_clopper_and_pearsons(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert exact_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 300), st.just(0.0) | st.floats(0.001, 1))
def test_the_interval_holds_its_share_and_shrinks(n: int, share: float) -> None:
    low, high = exact_interval(share * n, n)
    more_low, more_high = exact_interval(share * 4 * n, 4 * n)
    assert 0 <= low <= share <= high <= 1
    assert more_high - more_low < high - low


# --- the balance ---------------------------------------------------------------------------------------------------


def test_saved_is_the_share_of_the_horizon_that_stopped_trials_did_not_train() -> None:
    runs = [
        stopped(0, at=15),
        stopped(1, at=3),
        *complete(1),
        synthetic.run(2, outcome="diverged", val_loss=None, points=CURVE[:5]),
        # trials that are never pruned
        synthetic.run(3, "baseline"),
        synthetic.run(4, "one-at-a-time"),
        synthetic.run(5, outcome="running", val_loss=None),
        synthetic.run(6, outcome="infeasible", val_loss=None, points=()),
        synthetic.run(7, optuna_study="plateau-confirm"),
    ]
    balance = Findings(synthetic.results(runs)).balance
    assert balance.trials == 4
    assert [run.id for run in balance.stopped] == [0, 1]
    assert balance.saved == pytest.approx((0.5 + 0.9) / 4)
    assert balance.expected == pytest.approx(0.02)
    assert balance.interval is None


def test_a_diverged_trial_is_stopped_without_a_chance() -> None:
    runs = [stopped(0, at=15, predicted=None, reason="diverged"), stopped(1, at=15)]
    balance = Findings(synthetic.results(runs)).balance
    assert len(balance.stopped) == 2
    assert balance.expected == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("final", "best_then", "losses", "among_best"),
    [
        (3.52, 3.5, [3.0] * 10, True),  # within the margin of the best then
        (3.53, 3.5, [3.0] * 10, False),
        (3.52, None, [3.0] * 10, False),
        (4.0, 3.5, [4.0] * 10, True),  # no trial is lower
        (4.0, 3.5, [3.9, *[4.0] * 9], False),  # one of ten is lower
        (4.0, 3.5, [3.9, *[4.0] * 10], True),  # one of eleven is lower
        (math.inf, 3.5, [math.inf] * 10, False),  # diverged
        (math.inf, None, [], False),
    ],
)
def test_among_the_best_is_within_the_margin_then_or_in_the_best_tenth_now(
    final: float, best_then: float | None, losses: list[float], among_best: bool
) -> None:
    assert ended_among_best(final, best_then=best_then, margin=0.03, losses=np.array(losses)) is among_best


@pytest.mark.parametrize(
    ("final", "among_best"),
    [(3.4, True), (3.5299, True), (3.5301, False), (4.0, False)],
    ids=["best of all", "within the margin", "beyond it", "as expected"],
)
def test_a_mistake_ends_within_the_margin_of_the_best_at_its_time(final: float, among_best: bool) -> None:
    sentinels = Findings(synthetic.results([*complete(20), sentinel(0, final)])).balance.sentinels
    assert [spared.among_best for spared in sentinels] == [among_best]


@pytest.mark.parametrize(("trials", "among_best"), [(19, False), (20, False), (21, True), (30, True)])
def test_or_is_in_the_best_tenth_of_all_trials_now(trials: int, among_best: bool) -> None:
    """The third of 20 is below the best tenth, the third of 21 partly in it. Pruned trials count as predicted."""
    better, worse = complete(2, loss=3.3), complete(trials - 8, start=200, loss=4.0)
    runs = [*better, *worse, *(stopped(300 + index, at=9) for index in range(5)), sentinel(0, 3.6, best=3.3)]
    assert len(runs) == trials
    sentinels = Findings(synthetic.results(runs)).balance.sentinels
    assert [spared.among_best for spared in sentinels] == [among_best]


def test_sentinels_that_have_not_ended_say_nothing_and_diverged_ones_were_no_mistake() -> None:
    runs = [sentinel(0, None, outcome="running"), sentinel(1, None, outcome="diverged")]
    balance = Findings(synthetic.results(runs)).balance
    assert [(spared.run.id, spared.among_best) for spared in balance.sentinels] == [(1, False)]
    assert balance.interval == exact_interval(0, 1)


def test_only_the_plateau_pruner_has_a_rule() -> None:
    study = synthetic.study(pruner={"type": "plateau", "epsilon": 0.05, "margin": 0.1, "looks": [0.2, 0.5]})
    rule = rule_of(study)
    assert rule is not None
    assert (rule.epsilon, rule.margin, rule.looks) == (0.05, 0.1, (0.2, 0.5))
    assert rule_of(MEDIAN) is None
    wide = [*complete(20), sentinel(0, 3.59)]
    assert Findings(synthetic.results(wide, study=study)).balance.mistakes == 1
    assert Findings(synthetic.results(wide)).balance.mistakes == 0
    assert Findings(synthetic.results(wide, study=MEDIAN)).balance.sentinels == ()


# --- words ---------------------------------------------------------------------------------------------------------

UNSEEN = " No trial that the rule would have stopped went on to its end: not enough evidence of what stopping cost."


@pytest.mark.parametrize(
    ("runs", "study", "text"),
    [
        ([], PLATEAU, ""),
        ([synthetic.run(0, "baseline")], PLATEAU, ""),
        ([stopped(0, at=15)], NONE, ""),
        (complete(3), MEDIAN, "None of 3 sampled trials was stopped early."),
        (
            [stopped(0, at=15, predicted=None, rule="median"), *complete(9)],
            MEDIAN,
            f"1 of 10 sampled trials was stopped early. This saved 5.0 % of the sampled trials' training.{UNSEEN}",
        ),
        (
            [stopped(0, at=6), stopped(1, at=6), *complete(2)],
            PLATEAU,
            "2 of 4 sampled trials were stopped early. This saved 40 % of the sampled trials' training. "
            f"The rule expects that 0.02 of those stopped would have ended among the best.{UNSEEN}",
        ),
        (
            [stopped(0, at=6), *complete(21), sentinel(1, 4.0), sentinel(2, 3.4), sentinel(3, 4.1)],
            PLATEAU,
            "1 of 25 sampled trials was stopped early. This saved 3.2 % of the sampled trials' training. "
            "The rule expects that 0.01 of those stopped would have ended among the best. "
            "Of 3 sentinels, which the rule would have stopped but let go on, 1 ended among the best (95 % "
            "interval: 0.8 % to 91 %).",
        ),
        (
            [*complete(21), sentinel(1, 4.0)],
            PLATEAU,
            "None of 22 sampled trials was stopped early. "
            "Of 1 sentinel, which the rule would have stopped but let go on, none ended among the best (95 % "
            "interval: 0 % to 98 %).",
        ),
    ],
    ids=["empty", "no sampled trial", "no pruner", "none stopped", "median", "no sentinel", "sentinels", "only one"],
)
def test_the_sentence(runs: list[Run], study: Any, text: str) -> None:
    results = synthetic.results(runs, study=study)
    assert pruning_sentence(Findings(results)) == text
    assert (text in verdict(Findings(results)).cautions) == bool(text)


def test_rounded() -> None:
    assert [percent_whole(x) for x in (0, 0.004, 0.02, 0.0994, 0.0996, 0.314, 1)] == [
        *("0 %", "0.4 %", "2.0 %", "9.9 %", "10 %", "31 %", "100 %")
    ]
