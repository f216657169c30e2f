"""The replay of pruning rules: peers decide as Optuna's pruners do, and figures are those worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.pruners import BasePruner
from scipy import stats

from benchmarks.pruning import curve_banks, peer_rules, replay, replay_table
from benchmarks.pruning.curve_banks import Bank
from benchmarks.pruning.peer_rules import PEER_POLICIES, Past, Stop
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.schedule import lr_at


def bank_of(losses: Any, *, ends: Any = None, settings: dict[str, Any] | None = None) -> Bank:
    losses = np.array(losses, dtype=float)
    settings = {name: np.array(values, float) for name, values in (settings or {"a": range(len(losses))}).items()}
    ends = np.full(len(losses), losses.shape[1] - 1) if ends is None else np.array(ends)
    knobs = curve_banks.scaled(settings)
    return Bank(name="bank", losses=losses, ends=ends, settings=settings, knobs=knobs, rates=None)


def walks(seed: int, *, trials: int = 20, evaluations: int = 30, gaps: float = 0.0) -> Bank:
    """Random walks that fall slowly, some with gaps; one ends early, one has no final loss."""
    rng = np.random.default_rng(seed)
    losses = 5 + rng.normal(0, 0.5, (trials, 1)) + np.cumsum(rng.normal(-0.02, 0.2, (trials, evaluations + 1)), axis=1)
    ends = np.full(trials, evaluations)
    losses[rng.random(losses.shape) < gaps] = np.nan
    if gaps:
        losses[:, -1] = rng.normal(4, 1, trials)
        losses[3, :] = np.nan  # only gaps
        losses[5, -1] = np.nan
        ends[2], losses[2, 13:] = 12, np.nan
    return bank_of(losses, ends=ends)


class Fixed:
    """Stops each trial at a given evaluation."""

    def __init__(self, stops: Mapping[int, int], lows: Mapping[int, list[float]] | None = None) -> None:
        self.stops, self.lows = stops, lows or {}

    def stop(self, trial: int, past: Past, /) -> Stop:
        return Stop(self.stops.get(trial), self.lows.get(trial, ()))


# Peers against Optuna


OPTUNAS: dict[str, Callable[[int], BasePruner]] = {
    "none": lambda end: optuna.pruners.NopPruner(),
    "median": lambda end: optuna.pruners.MedianPruner(),
    "median-25": lambda end: optuna.pruners.MedianPruner(n_warmup_steps=math.ceil(0.25 * end)),
    "median-50": lambda end: optuna.pruners.MedianPruner(n_warmup_steps=math.ceil(0.5 * end)),
    "median-70": lambda end: optuna.pruners.MedianPruner(n_warmup_steps=math.ceil(0.7 * end)),
    "percentile-25": lambda end: optuna.pruners.PercentilePruner(25.0, n_warmup_steps=math.ceil(0.25 * end)),
    "sha": lambda end: optuna.pruners.SuccessiveHalvingPruner(),
    "hyperband": lambda end: optuna.pruners.HyperbandPruner(),
    "patient": lambda end: optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(), patience=5),
    "wilcoxon": lambda end: optuna.pruners.WilcoxonPruner(p_threshold=0.1),
}


def replayed_by_optuna(bank: Bank, pruner: BasePruner, order: list[int], study: str) -> list[int]:
    """Return the last evaluation of each trial, in the order they ran."""
    optuna_study = optuna.create_study(study_name=study, pruner=pruner)
    ends = []
    for index in order:
        trial, end = optuna_study.ask(), int(bank.ends[index])
        state, at = optuna.trial.TrialState.COMPLETE, 0
        for at in range(end + 1):
            trial.report(float(bank.losses[index, at]), at)
            if 1 <= at < bank.evaluations and trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        else:
            if not np.isfinite(bank.finals[index]):
                state = optuna.trial.TrialState.FAIL
        value = float(bank.finals[index]) if state == optuna.trial.TrialState.COMPLETE else None
        optuna_study.tell(trial, value, state=state)
        ends.append(at)
    return ends


def replayed(bank: Bank, name: str, order: list[int], study: str) -> list[int]:
    """Return the same from this replay."""
    pasts: list[Past] = []

    class Recorder:
        def __init__(self) -> None:
            self.policy = replay.POLICIES[name](bank)

        def stop(self, trial: int, past: Past, /) -> Stop:
            pasts.append(past)
            return self.policy.stop(trial, past)

    replay.replay(bank, Recorder(), order, study=study)
    return pasts[-1].ends


@pytest.mark.parametrize("gaps", [0.0, 0.03])
@pytest.mark.parametrize("name", OPTUNAS)
def test_peers_decide_as_optuna_does(name: str, gaps: float) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stopped = 0
    for seed in range(3):
        bank = walks(seed, gaps=gaps)
        order = np.random.default_rng(seed).permutation(len(bank)).tolist()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns of experimental pruners and of gaps
            expected = replayed_by_optuna(bank, OPTUNAS[name](bank.evaluations), order, f"study-{seed}")
        assert replayed(bank, name, order, f"study-{seed}") == expected
        stopped += sum(end < bank.ends[trial] for trial, end in zip(order, expected, strict=True))
    assert stopped or name == "none"


@pytest.mark.parametrize("name", sorted(set(replay.POLICIES) - set(replay_table.BOUNDS)))
def test_no_rule_looks_ahead(name: str) -> None:
    """The rest of a pruned trial's curve doesn't change any decision."""
    stopped = 0
    for bank in (walks(3, gaps=0.02), curve_banks.simulated_bank("settles-early", trials=20)):
        order = np.random.default_rng(3).permutation(len(bank)).tolist()
        ends = replayed(bank, name, order, "study")
        losses = bank.losses.copy()
        for trial, end in zip(order, ends, strict=True):
            if end < bank.ends[trial]:
                losses[trial, end + 1 :] = np.random.default_rng(trial).uniform(0, 9, bank.evaluations - end)
                stopped += 1
        assert replayed(dataclasses.replace(bank, losses=losses), name, order, "study") == ends
    assert stopped or name == "none"


@given(st.lists(st.lists(st.sampled_from([math.nan, 1.0, 2.5, 0.1, 1 / 3]), min_size=4, max_size=4), min_size=1))
def test_quantiles_are_numpys(rows: list[list[float]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of columns without a number
        expected = np.nanpercentile(np.array(rows), [25, 50], axis=0)
    for share, row in zip((0.25, 0.5), expected, strict=True):
        np.testing.assert_array_equal(peer_rules.quantile(np.array(rows), share), row)


@pytest.mark.parametrize(
    "differences",
    [
        np.random.default_rng(0).normal(0.2, 1, 45),
        np.random.default_rng(1).normal(-0.3, 1, 20),
        np.array([0.3, -0.1, 0.5, 0.3, 0.0, -0.5, 2.0]),
        np.array([0.3, 0.0, -0.1, 0.5]),
        np.append(np.random.default_rng(2).normal(0, 1, 52), [1.0, -1.0]),
        np.append(0.0, np.random.default_rng(3).normal(0.2, 1, 30).round(1)),
    ],
    ids=["higher", "lower", "ties and zeros", "a zero", "over 50", "a shared start"],
)
def test_signed_ranks_are_scipys(differences: Any) -> None:
    expected = [
        1.0  # scipy raises an error for a single zero; one difference is never significant
        if not differences[:count].any()
        else stats.wilcoxon(differences[:count], alternative="greater", zero_method="zsplit").pvalue
        for count in range(1, len(differences) + 1)
    ]
    np.testing.assert_allclose(peer_rules.signed_rank_p(differences), expected, rtol=1e-12)


# Replays worked out by hand


LOSSES = [[9, 8, 7, 6, 5.0], [9, 8, 6, 5, 4.0], [9, 8, 7, 5, 4.5], [9, 9, 9, 9, 8.0]]


def test_a_study_by_hand() -> None:
    """The best is pruned at 2 of 4, a bad one at 1: 4 + 2 + 4 + 1 of 16; 1 of 2 prunes was harmful."""
    bank = bank_of(LOSSES)
    outcome = replay.replay(bank, Fixed({1: 2, 3: 1}, {0: [4.9, 5.1], 1: [4.0], 2: [9.0, 9.0]}), [0, 1, 2, 3])
    assert outcome.compute == 11 / 16
    assert outcome.regret == 0.5
    assert outcome.regret_at_quarter == 1.0  # only trial 0 fits in 4 of 16
    assert not outcome.best_kept
    assert outcome.top_tenth_pruned == 1.0
    assert outcome.pruned.tolist() == [False, True, False, True]
    assert outcome.harmful == 1
    assert (outcome.covered, outcome.bounded) == (1.5, 3)
    kept = replay.replay(bank, Fixed({3: 1}), [1, 0, 2, 3])
    assert (kept.regret, kept.best_kept, kept.top_tenth_pruned, kept.harmful) == (0.0, True, 0.0, 0)
    assert replay_table.measures_of([outcome, kept]) == {
        "compute": (11 / 16 + 13 / 16) / 2,
        "regret": 0.25,
        "regret_at_quarter": 0.5,
        "best_kept": 0.5,
        "top_tenth_pruned": 0.5,
        "harmful": 1 / 3,
        "coverage": 0.5,
    }


def test_a_prune_is_harmful_only_beyond_the_noise() -> None:
    bank = bank_of(np.linspace(9, [5.0, 4.996, 4.99], 5).T)
    assert replay.replay(bank, Fixed({1: 1, 2: 1}), range(3)).harmful == 1


def test_a_study_without_completed_trials_is_as_bad_as_the_worst() -> None:
    outcome = replay.replay(bank_of(LOSSES), Fixed(dict.fromkeys(range(4), 1)), [0, 1, 2, 3])
    assert (outcome.regret, outcome.regret_at_quarter, outcome.compute) == (4.0, 4.0, 0.25)


def test_a_run_that_diverged_ends_by_itself() -> None:
    """It costs what it ran, and a stop counts as a prune only before its end."""
    losses = np.array(LOSSES)
    losses[3, 3:] = np.nan
    bank = bank_of(losses, ends=[4, 4, 4, 2])
    assert bank.finals.tolist() == [5.0, 4.0, 4.5, math.inf]
    whole = replay.replay(bank, Fixed({}), [3, 0, 1, 2])
    assert (whole.compute, whole.pruned.any(), whole.regret) == (14 / 16, False, 0.0)
    assert not replay.replay(bank, Fixed({3: 2}), [3, 0, 1, 2]).pruned.any()
    assert replay.replay(bank, Fixed({3: 1}), [3, 0, 1, 2]).compute == 13 / 16


def test_the_oracle_cuts_all_but_the_top_tenth() -> None:
    bank = bank_of(np.linspace(5, np.arange(20) / 10, 21).T)
    order = [5, 6, 7, 8, 9, 0, 1, *range(10, 20), 2, 3, 4]
    outcome = replay.replay(bank, PEER_POLICIES["oracle"](bank), order)
    assert outcome.compute == pytest.approx((7 * 20 + 13 * 2) / 400)
    assert outcome.pruned.sum() == 13
    assert not outcome.pruned[:2].any()


def test_a_cut_keeps_the_best_quarter() -> None:
    """After 5 completed trials with losses 1 to 5 at the cut, the quartile is 2. Pruned trials count too."""
    bank = bank_of([[9.0, 9, 9, loss, 9, 9, 9, 9, 9, 1] for loss in (1, 2, 3, 4, 5, 2.1, 2.02, 2.05)])
    outcome = replay.replay(bank, peer_rules.Cut(bank, at=1 / 3), range(8))
    assert outcome.pruned.tolist() == [False] * 5 + [True, False, True]
    assert outcome.compute == (6 * 9 + 2 * 3) / 72


# Banks


KNOBS = {"learning_rate": 1e-3, "min_lr_ratio": 0.1, "warmup_fraction": 0.1, "n_embd": 64}


def write(path: Path, runs: list[tuple[int, int, dict[str, float], dict[int, float]]]) -> Path:
    rows = [
        {
            "trial": trial,
            "seed": seed,
            "step": step,
            "train_loss": 1.0,
            "val_loss": loss,
            "val_se": 0.1,
            **KNOBS,
            **knobs,
        }
        for trial, seed, knobs, curve in runs
        for step, loss in curve.items()
    ]
    pq.write_table(pa.Table.from_pylist([{**row, "note": "text is no knob"} for row in rows]), path)
    return path


def test_a_bank_has_one_run_per_config(tmp_path: Path) -> None:
    whole = {0: 7.0, 10: 6.0, 20: 5.0, 30: 4.0, 40: 3.0}
    path = write(
        tmp_path / "bank.parquet",
        [
            (0, 1, {}, whole),
            (1, 1, {"learning_rate": 1e-2}, {0: 7.0, 10: 6.5, 17: 50.0}),
            (2, 1, {"learning_rate": 2e-2, "warmup_fraction": 0.0}, {0: 7.0, 10: math.inf, 30: 4.5, 40: 3.5}),
            (0, 2, {}, {**whole, 40: 2.0}),
            (9, 3, {"n_embd": 128}, {**whole, 40: 1.0}),
        ],
    )
    bank = curve_banks.read(path)
    assert list(bank.settings) == list(KNOBS)
    nan = math.nan
    expected = [[7, 6, 5, 4, 3], [7, 6.5, nan, nan, nan], [7, nan, nan, 4.5, 3.5], [7, 6, 5, 4, 1]]
    np.testing.assert_array_equal(bank.losses, expected)
    assert bank.ends.tolist() == [4, 1, 4, 4]
    assert bank.finals.tolist() == [3, math.inf, 3.5, 1]
    assert bank.ranked().tolist() == [3, 0, 2, 1]
    rate, ratio, warm, width = bank.knobs.T
    np.testing.assert_allclose(rate, np.log([1, 10, 20, 1]) / np.log(20))  # scaled by logarithm beyond a factor of 10
    assert width.tolist() == [0, 0, 0, 1]
    assert ratio.tolist() == [0, 0, 0, 0]  # the same in all runs
    assert warm.tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.3])
def test_learning_rates_are_the_trainers(fraction: float) -> None:
    settings = {"learning_rate": np.array([3e-3]), "min_lr_ratio": np.array([0.2])}
    steps = np.arange(0, 401, 10)
    (rates,) = curve_banks.cosine({**settings, "warmup_fraction": np.array([fraction])}, steps)
    warm = max(1, round(fraction * 400)) if fraction else 0
    rate = {"learning_rate": 3e-3, "min_lr": 6e-4, "warmup_iters": warm}
    config = TrainConfig(max_iters=400, lr_decay_iters=400, vocab_size=64, **rate)
    np.testing.assert_allclose(rates, [lr_at(int(step), config) for step in steps])


def test_a_bank_without_schedules_has_no_rates(tmp_path: Path) -> None:
    path = tmp_path / "bank.parquet"
    rows = {
        "trial": [0],
        "seed": [0],
        "step": [0],
        "train_loss": [1.0],
        "val_loss": [1.0],
        "val_se": [0.1],
        "dropout": [0],
    }
    pq.write_table(pa.table(rows), path)
    assert curve_banks.read(path).rates is None
    pq.write_table(pa.table({"trial": [0]}), path)
    with pytest.raises(UserError, match="no column seed, step, train_loss, val_loss, val_se"):
        curve_banks.read(path)
    with pytest.raises(UserError, match="no such bank"):
        curve_banks.read(tmp_path / "none.parquet")


def test_agreement_is_spearmans() -> None:
    bank = walks(0, gaps=0.1)
    expected = stats.spearmanr(
        bank.losses[:, 15], np.where(np.isinf(bank.finals), np.nan, bank.finals), nan_policy="omit"
    )
    assert bank.agreement(0.5) == pytest.approx(expected.statistic)


def test_simulated_banks_cross_late_and_settle_early_as_named() -> None:
    late, early = curve_banks.simulated_bank("cross-late"), curve_banks.simulated_bank("settles-early")
    good_late, good_early = (bank.only(bank.ranked()[:18]) for bank in (late, early))
    assert [len(late), late.evaluations] == [60, 40]
    assert -0.5 < good_late.agreement(0.3) < -0.2
    assert -0.5 < good_late.agreement(0.4) < -0.2
    assert 0.2 < good_late.agreement(0.7) < 0.4
    assert late.agreement(0.7) > 0.9
    assert early.agreement(0.25) > 0.95
    assert good_early.agreement(0.25) > 0.8
    np.testing.assert_array_equal(late.losses, curve_banks.simulated_bank("cross-late").losses)
    with pytest.raises(ValueError, match="crossing"):
        curve_banks.simulated_bank("crossing")


# Intervals, comparisons, targets


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=30)
    left_out = [np.delete(values, index).mean() for index in range(30)]
    assert replay_table.jackknife_se(left_out) == pytest.approx(values.std(ddof=1) / math.sqrt(30))


def test_errors_come_from_leaving_configs_out() -> None:
    """Where nothing depends on the order, compute is a mean over trials. Its error is that of the groups' means."""
    bank = bank_of(np.random.default_rng(1).normal(size=(40, 11)))
    stops = dict(enumerate(np.random.default_rng(0).integers(1, 10, 40).tolist()))

    def policy(part: Bank) -> Fixed:
        return Fixed({trial: stops[int(number)] for trial, number in enumerate(part.settings["a"])})

    comparison = replay.compare_policies(bank, {"fixed": policy}, strata=["all"], orders=5)
    groups = replay.Replays(bank, {}, orders=5, seed=0).groups
    means = [np.mean([stops[int(trial)] / 10 for trial in group]) for group in groups]
    (row,) = comparison["policies"]
    assert [len(group) for group in groups] == [4] * 10
    assert row["compute"] == pytest.approx(np.mean(means))
    assert row["compute_se"] == pytest.approx(np.std(means, ddof=1) / math.sqrt(10))
    assert row["coverage"] is None
    assert row["coverage_se"] is None


def test_prune_rates_by_third() -> None:
    bank = bank_of(np.ones((6, 5)), settings={"learning_rate": [6, 5, 4, 3, 2, 1], "n_embd": [1, 1, 1, 1, 1, 1]})
    outcomes = [replay.replay(bank, Fixed(stops), range(6)) for stops in ({0: 1, 1: 1}, {0: 1, 5: 1})]
    assert replay_table.prune_rates(bank, outcomes) == {"learning_rate": {"low": 0.25, "middle": 0.0, "high": 0.75}}


@pytest.mark.parametrize(
    ("plateau", "peer", "expected"),
    [
        ((0.5, 0.1), (0.25, 0.3), 0.1 - 0.3 * 2 / 3),  # a third of the peer's studies run unpruned
        ((0.25, 0.3), (0.5, 0.1), 0.3 * 2 / 3 - 0.1),
        ((0.4, 0.2), (0.4, 0.3), -0.1),
        ((0.5, 0.2), (1.0, 0.0), 0.0),
        ((1.0, 0.0), (1.0, 0.0), 0.0),
    ],
)
def test_rules_are_compared_at_equal_compute(plateau: Any, peer: Any, expected: float) -> None:
    plateau_measures, peer_measures = ({"compute": compute, "regret": regret} for compute, regret in (plateau, peer))
    assert replay_table.mixed_difference(plateau_measures, peer_measures, "regret") == pytest.approx(expected)
    pair = replay_table.difference_at_equal_compute(
        plateau_measures, [plateau_measures] * 10, peer_measures, [peer_measures] * 10, "regret"
    )
    assert pair["compute"] == max(plateau[0], peer[0])
    assert pair["se"] == pytest.approx(0.0)
    assert pair["low"] == pytest.approx(pair["difference"])


def row(name: str, compute: float, *limits: float) -> dict[str, Any]:
    best_kept, top_tenth_pruned, harmful = limits or (1.0, 0.0, 0.0)
    return {
        "name": name,
        "compute": compute,
        "best_kept": best_kept,
        "top_tenth_pruned": top_tenth_pruned,
        "harmful": harmful,
    }


def test_the_target_is_set_by_the_cheapest_safe_peer() -> None:
    rows = [
        row("none", 1.0),
        row("a", 0.2, 0.96, 0.0, 0.0),
        row("b", 0.3, 1.0, 0.06, 0.0),
        row("c", 0.4, 1.0, 0.0, 0.03),
        row("d", 0.6, 0.97, 0.05, 0.02),
        row("oracle", 0.2),
        row("plateau", 0.37, 0.98, 0.02, 0.05),
    ]
    target = replay_table.target(rows)
    assert (target["safe_peer"], target["safe_peer_compute"], target["oracle_compute"]) == ("d", 0.6, 0.2)
    assert target["needed_compute"] == pytest.approx(0.36)
    assert target["met"] == {"compute": False, "best_kept": True, "top_tenth_pruned": True, "harmful": False}
    assert replay_table.target([row("none", 1.0)])["needed_compute"] is None


def test_strata_and_orders_are_shared() -> None:
    """All rules run in the same orders. best30 is the best 30 %, formed again where a group is left out."""
    bank = walks(0, trials=40)
    replays = replay.Replays(bank, {}, orders=3, seed=1)
    assert replays.trials("best30").tolist() == sorted(bank.ranked()[:12].tolist())
    without = replays.trials("best30", 2)
    assert len(without) == 11
    assert not set(without) & set(replays.groups[2].tolist())
    kept = [trial for trial in bank.ranked() if trial not in replays.groups[2]]
    assert set(without) == set(kept[:11])


# This project's rule, and the command


def test_the_rule_sees_curves_only_as_far_as_they_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Completed trials have their final loss, pruned ones the predicted loss, and diverged ones an infinite loss."""
    looks: list[tuple[Any, list[Any]]] = []

    def prediction(k: int) -> Any:
        return types.SimpleNamespace(mean=f"at {k}")

    def decide(rule: Any, curve: Any, others: list[Any]) -> Any:
        looks.append((curve, others))
        k = len(curve.losses) - 1
        prune = (curve.losses[0] == 1 and k == 2) or (curve.losses[0] == 2 and k == 3)
        reason = "diverged" if curve.losses[0] == 2 else "dominated"
        return types.SimpleNamespace(prune=prune, low=0.5 if k == 2 else None, reason=reason, prediction=prediction(k))

    schedule = types.SimpleNamespace(of=lambda rates: tuple(rates), constant=lambda end: f"constant {end}")
    monkeypatch.setitem(sys.modules, "sweeps.pruning.law", types.SimpleNamespace(Schedule=schedule))
    rule = types.SimpleNamespace(Rule=lambda trials: "rule", decide=decide)
    monkeypatch.setitem(sys.modules, "sweeps.pruning.rule", rule)
    bank = bank_of([[0, 0, 0, 0, 3.0], [1, 1, 1, 1, 4.0], [2, 2, 2, 2, 5.0], [3, 3, 3, np.nan, np.nan], [4.0] * 5])
    bank = dataclasses.replace(bank, ends=np.array([4, 4, 4, 2, 4]))
    outcome = replay.replay(bank, replay.Plateau(bank), range(5))
    assert outcome.pruned.tolist() == [False, True, True, False, False]
    assert outcome.compute == (4 + 2 + 3 + 2 + 4) / 20
    assert (outcome.covered, outcome.bounded) == (5.0, 5)
    looks_by_trial = [int(curve.losses[0]) for curve, _ in looks]
    assert [looks_by_trial.count(trial) for trial in range(5)] == [3, 2, 3, 2, 3]
    curve, others = looks[-1]
    assert len(curve.losses) == 4
    assert curve.schedule == "constant 4"
    assert [len(other.losses) for other in others] == [5, 3, 4, 3]
    assert [other.final for other in others] == [3.0, None, math.inf, math.inf]
    assert others[1].predicted == "at 2"


def test_informed_spends_less_than_the_rule_and_ignores_the_order() -> None:
    bank = curve_banks.simulated_bank("settles-early", trials=30)
    plateau, informed = replay.Plateau(bank), replay.Informed(bank)
    order = np.random.default_rng(0).permutation(30).tolist()
    outcome = replay.replay(bank, informed, order)
    first = order[: peer_rules.STARTUP]
    assert not outcome.pruned[first].any()
    reordered = replay.replay(bank, replay.Informed(bank), [*first, *reversed(order[peer_rules.STARTUP :])])
    assert (reordered.pruned == outcome.pruned).all()
    assert reordered.compute == outcome.compute < replay.replay(bank, plateau, order).compute
    last = order[-1]
    whole = Past("", trials=[trial for trial in range(30) if trial != last], completed=tuple(first))
    whole.ends, whole.notes = [bank.evaluations] * 29, [None] * 29
    assert plateau.stop(last, whole) == informed.stop(last, whole)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["replay", *arguments])
    return replay.main()


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--simulated", "settles-early", "--orders", "5", "--policies", "none,median-70,oracle", "--json"]
    assert command(monkeypatch, *arguments, "--jobs", "1") == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison.keys() == {
        *("bank", "trials", "evaluations", "orders", "agreement", "policies", "paired", "targets"),
    }
    assert [(row["name"], row["stratum"]) for row in comparison["policies"]] == [
        (name, stratum) for stratum in ("all", "best30") for name in ("none", "median-70", "oracle")
    ]
    measures = {name for measure in replay_table.MEASURES for name in (measure, f"{measure}_se")}
    assert all(row.keys() == {"name", "stratum", "prune_rate", *measures} for row in comparison["policies"])
    assert comparison["policies"][0]["compute"] == 1.0
    assert comparison["policies"][0]["prune_rate"].keys() == {"learning_rate", "min_lr_ratio", "warmup_fraction"}
    assert comparison["paired"] == []
    assert comparison["targets"].keys() == {"all", "best30"}
    assert comparison["targets"]["all"]["oracle_compute"] < comparison["targets"]["all"]["safe_peer_compute"]


def test_the_number_of_processes_changes_nothing() -> None:
    bank = walks(0, trials=12, evaluations=8)
    policies = {name: PEER_POLICIES[name] for name in ("sha", "oracle")}
    by_two, by_one = (replay.compare_policies(bank, policies, orders=5, jobs=jobs) for jobs in (2, 1))
    assert by_two == by_one


def test_paired_differences_are_of_plateau_and_each_peer() -> None:
    bank = walks(0, trials=20, evaluations=8)
    policies = {name: PEER_POLICIES[name] for name in ("none", "median", "oracle")}
    policies["plateau"] = PEER_POLICIES["median-50"]
    comparison = replay.compare_policies(bank, policies, strata=["all"], orders=10)
    assert [(pair["peer"], pair["measure"]) for pair in comparison["paired"]] == [
        ("median", "top_tenth_pruned"),
        ("median", "regret"),
    ]
    by_name = {row["name"]: row for row in comparison["policies"]}
    plateau, median = by_name["plateau"], by_name["median"]
    pair = comparison["paired"][0]
    unpruned = (plateau["compute"] - median["compute"]) / (1 - median["compute"])
    mixed = (1 - unpruned) * median["top_tenth_pruned"]
    assert pair["mixed"] == "peer"
    assert pair["unpruned"] == pytest.approx(unpruned)
    assert pair["compute"] == plateau["compute"]
    assert pair["difference"] == pytest.approx(plateau["top_tenth_pruned"] - mixed)
    assert pair["high"] - pair["low"] == pytest.approx(2 * 2.262157 * pair["se"])
    assert "plateau - median in regret at compute" in replay_table.table(comparison)


def test_an_unknown_policy_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(monkeypatch, "--simulated", "cross-late", "--policies", "medain,none")
    assert "medain: not among none, median" in capsys.readouterr().err
