"""Pruning in the loop: the surrogate reproduces its bank, and compute and comparisons are those worked out by hand."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from scipy import stats
from sklearn import metrics
from sklearn.gaussian_process import GaussianProcessRegressor

from benchmarks.pruning import curve_banks, in_the_loop, simulated_studies
from benchmarks.pruning.curve_banks import Bank
from benchmarks.pruning.in_the_loop import MARGIN, paired, student_interval, verdict
from benchmarks.pruning.simulated_studies import Cell, SimulatedTrial, StudyOutcome, incumbent, study_outcome, within
from benchmarks.pruning.surrogate import Surrogate, quality
from sweeps.study import space
from sweeps.study.load import load
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.schedule import lr_at

ROOT = Path(__file__).parents[3]
BANK_YAML = Path(in_the_loop.__file__).with_name("record_bank.yaml")
SETTINGS = load(BANK_YAML, devices_have_cuda=False)
SPACE = {"a": FloatDistribution(0, 1), "b": FloatDistribution(1e-3, 1, log=True)}


def truth(a: Any, b: Any) -> Any:
    """Return smooth curves (N, 11) over two knobs."""
    place = np.log10(b) / 3 + 1
    final, height = 3 + 2 * (a - 0.3) ** 2 + 0.5 * place, 1 + a
    return final[:, None] + height[:, None] * np.exp(-3 * np.linspace(0, 1, 11))


def bank_of(*, trials: int = 40, noise: float = 0.0, seed: int = 0) -> Bank:
    rng = np.random.default_rng(seed)
    settings = {"a": rng.random(trials), "b": 10 ** (3 * rng.random(trials) - 3), "idle": np.zeros(trials)}
    losses = truth(settings["a"], settings["b"])
    losses += noise * (rng.normal(size=(trials, 1)) + 0.1 * rng.normal(size=losses.shape))
    ends = np.full(trials, 10)
    return Bank(
        name="bank", losses=losses, ends=ends, settings=settings, knobs=curve_banks.scaled(settings), rates=None
    )


# The surrogate


def test_a_known_function_is_reproduced() -> None:
    """At settings that are not in the bank. The knob b counts by its logarithm."""
    surrogate = Surrogate.fit(bank_of(), SPACE)
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.05, 0.95, 50), 10 ** rng.uniform(-2.9, -0.1, 50)
    curves = [surrogate.expected({"a": x, "b": y}) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert np.abs(np.array(curves) - truth(a, b)).max() < 0.03
    assert np.abs(surrogate.residuals).max() < 0.1


def test_the_noise_is_that_of_the_bank() -> None:
    surrogate = Surrogate.fit(bank_of(trials=80, noise=0.1), SPACE)
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0.1, 0.9, 200), 10 ** rng.uniform(-2.8, -0.2, 200)
    curves = [surrogate.curve({"a": x, "b": y}, seed=3) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    noise = np.array(curves) - truth(a, b)
    assert 0.08 < noise[:, -1].std() < 0.15
    assert np.corrcoef(noise[:, 5], noise[:, -1])[0, 1] > 0.9  # a trial's luck lasts


def test_a_left_out_trial_is_predicted_from_the_others() -> None:
    bank = bank_of(trials=20, noise=0.1)
    surrogate = Surrogate.fit(bank, SPACE)
    for left_out in (0, 7, 19):
        others = np.arange(20) != left_out
        process = GaussianProcessRegressor(surrogate.kernel, optimizer=None)
        process.fit(surrogate.knobs[others], (bank.losses - bank.losses.mean(axis=0))[others])
        prediction = process.predict(surrogate.knobs[[left_out]])[0] + bank.losses.mean(axis=0)
        np.testing.assert_allclose(surrogate.predicted[left_out], prediction, atol=1e-8)


def test_a_curve_is_the_expected_one_and_a_residual_of_the_bank() -> None:
    """It is the same at every call. Over seeds it takes the residual of each trial predicted to end nearest."""
    surrogate = Surrogate.fit(bank_of(trials=20, noise=0.1), SPACE)
    params = {"a": 0.3, "b": 1e-3}
    expected = surrogate.expected(params)
    drawn = set()
    for seed in range(60):
        curve = surrogate.curve(params, seed=seed)
        np.testing.assert_array_equal(curve, surrogate.curve(dict(params), seed=seed))
        (trial,) = np.flatnonzero(np.isclose(surrogate.residuals, curve - expected).all(axis=1))
        drawn.add(int(trial))
    ends = surrogate.bank.losses[:, -1] - surrogate.residuals[:, -1]
    assert drawn == set(np.argsort(np.abs(ends - expected[-1]))[:5].tolist())
    changed = {"a": 0.3001, "b": 1e-3}
    residuals = [surrogate.curve(changed, seed=seed) - surrogate.expected(changed) for seed in range(60)]
    assert any(
        not np.allclose(residual, surrogate.curve(params, seed=seed) - expected)
        for seed, residual in enumerate(residuals)
    )


def test_a_categorical_knob_is_fitted() -> None:
    bank = bank_of()
    bank.settings["a"][:] = np.arange(40) % 2
    bank.losses[:] = truth(bank.settings["a"], bank.settings["b"])
    surrogate = Surrogate.fit(bank, {"a": CategoricalDistribution([0, 1]), "b": SPACE["b"]})
    for a in (0, 1):
        curve = surrogate.expected({"a": a, "b": 0.03})
        np.testing.assert_allclose(curve, truth(np.array([a]), np.array([0.03]))[0], atol=0.02)


def test_only_whole_curves_count() -> None:
    bank = bank_of()
    bank.losses[3, 7:] = math.nan
    surrogate = Surrogate.fit(bank, SPACE)
    assert len(surrogate.bank) == len(surrogate.knobs) == 39
    assert np.isfinite(surrogate.residuals).all()


def test_a_bank_of_another_space_is_refused() -> None:
    with pytest.raises(UserError, match="bank has no c, d, so"):
        Surrogate.fit(bank_of(), {**SPACE, "d": SPACE["a"], "c": SPACE["a"]})
    with pytest.raises(UserError, match="bank: a is beyond the study's range, FloatDistribution"):
        Surrogate.fit(bank_of(), {**SPACE, "a": FloatDistribution(0, 0.5)})


@pytest.fixture(scope="module")
def simulated() -> Surrogate:
    """A surrogate of the space of benchmarks/pruning/record_bank.yaml."""
    return Surrogate.fit(curve_banks.simulated_bank("settles-early", trials=24), space.distributions(SETTINGS))


@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.3])
def test_learning_rates_are_the_trainers(simulated: Surrogate, warmup: float) -> None:
    params = {"learning_rate": 3e-3, "min_lr_ratio": 0.2, "warmup_fraction": warmup, "n_embd": 64}
    iters = 100 * simulated.evaluations
    config = TrainConfig(
        max_iters=iters,
        lr_decay_iters=iters,
        warmup_iters=round(warmup * iters),
        learning_rate=3e-3,
        min_lr=6e-4,
        vocab_size=64,
    )
    np.testing.assert_allclose(simulated.rates(params), [lr_at(step, config) for step in range(0, iters + 1, 100)])


def test_a_space_without_schedules_has_no_rates() -> None:
    assert Surrogate.fit(bank_of(trials=10), SPACE).rates({"a": 1.0, "b": 1.0}) is None


def test_quality_is_measured_on_left_out_trials() -> None:
    bank = bank_of(trials=60, noise=0.1)
    surrogate = Surrogate.fit(bank, SPACE)
    fit = quality(surrogate, draws=240)
    finals, predicted = bank.losses[:, -1], surrogate.predicted[:, -1]
    assert fit["r2"] == pytest.approx(metrics.r2_score(finals, predicted))
    assert fit["absolute_error"] == pytest.approx(metrics.mean_absolute_error(finals, predicted))
    assert fit["spearman"] == pytest.approx(stats.spearmanr(finals, predicted).statistic)
    assert fit["bank"]["best"] == finals.min()
    assert fit["bank"]["median"] == np.median(finals)
    best = np.argsort(finals)[:18]
    early = stats.spearmanr(bank.losses[best, 5], finals[best]).statistic
    assert fit["bank"]["agreement"]["best30"]["0.5"] == pytest.approx(early)
    assert fit["surrogate"]["median"] == pytest.approx(fit["bank"]["median"], abs=0.2)
    assert fit["surrogate"]["agreement"]["all"]["0.5"] == pytest.approx(fit["bank"]["agreement"]["all"]["0.5"], abs=0.1)


# One study


class Scripted:
    """The n-th trial has the n-th final loss, and a curve that falls to it in a straight line."""

    evaluations = 4

    def __init__(self, finals: Sequence[float]) -> None:
        self.space = {"a": FloatDistribution(0, 1)}
        self.finals = finals
        self.asked: list[tuple[float, int]] = []

    def expected(self, params: Mapping[str, Any], /) -> Any:
        return np.full(5, 10 * params["a"])

    def curve(self, params: Mapping[str, Any], /, *, seed: int) -> Any:
        self.asked.append((params["a"], seed))
        return np.linspace(9, self.finals[len(self.asked) - 1], 5)

    def rates(self, params: Mapping[str, Any], /) -> Any:
        return np.arange(5.0)


class Script(optuna.pruners.BasePruner):
    """Prunes trials, by number, at given evaluations."""

    def __init__(self, stops: Mapping[int, int]) -> None:
        self.stops = stops
        self.looks: list[tuple[int, int | None]] = []
        self.studies: list[optuna.Study] = []

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        self.studies.append(study)
        self.looks.append((trial.number, trial.last_step))
        return self.stops.get(trial.number) == trial.last_step


def scripted(
    monkeypatch: pytest.MonkeyPatch, finals: Sequence[float], stops: Mapping[int, int], *, trials: int
) -> tuple[StudyOutcome, Scripted, Script]:
    landscape, script = Scripted(finals), Script(stops)
    monkeypatch.setitem(simulated_studies.PRUNERS, "script", lambda _: script)
    return study_outcome(landscape, SETTINGS, Cell("random", "script", 5), trials=trials), landscape, script


def test_compute_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 trials of 4 evaluations are 16. Spent after each trial: 4, 5, 9, 11, 15, 19. The last trial is the best."""
    ended, landscape, _ = scripted(monkeypatch, [5, 1, 4, 1, 3, 2], {1: 1, 3: 2}, trials=4)
    assert [trial.found for trial in ended.at_compute] == [5, 5, 3]
    assert ended.at_trials.found == 4
    assert ended.compute == 11 / 16
    assert ended.trials == 6
    a = [a for a, _ in landscape.asked]
    assert [trial.expected for trial in ended.at_compute] == [10 * a[0], 10 * a[0], 10 * a[4]]
    assert {seed for _, seed in landscape.asked} == {5}


def test_reports_to_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna gets all evaluations, 0 to E, and the rates. No pruner is asked at the first or the last."""
    *_, script = scripted(monkeypatch, [5, 4, 3, 2, 1], {1: 2}, trials=4)
    assert script.looks[:5] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    first, second = script.studies[0].trials[:2]
    assert first.intermediate_values == {0: 9, 1: 8, 2: 7, 3: 6, 4: 5}
    assert first.user_attrs["plateau:lr"] == [0, 1, 2, 3, 4]
    assert (first.state, first.value) == (TrialState.COMPLETE, 5)
    assert (second.state, list(second.intermediate_values)) == (TrialState.PRUNED, [0, 1, 2])


def test_a_trial_that_ends_exactly_within_the_compute_counts() -> None:
    ran = [SimulatedTrial(evaluations=4, found=loss, expected=0.0) for loss in (3.0, 2.0, 1.0)]
    assert len(within(ran, 8.0)) == 2
    assert len(within(ran, 7.9)) == 1
    assert incumbent(ran) is ran[2]


def test_unpruned_compute_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, *_ = scripted(monkeypatch, range(9, 0, -1), {}, trials=8)
    assert (ended.compute, ended.trials, ended.at_trials) == (1.0, 8, ended.at_compute[-1])
    assert [trial.found for trial in ended.at_compute] == [8, 6, 2]


@pytest.mark.parametrize("sampler", simulated_studies.SAMPLERS)
def test_pruners_share_a_seeds_first_trials(monkeypatch: pytest.MonkeyPatch, sampler: str) -> None:
    """Random trials stay the same to the end. TPE's differ after its start-up, so the sampler is the one asked for."""
    asked = []
    for stops in ({}, dict.fromkeys(range(2, 20, 2), 1)):
        landscape, script = Scripted(np.random.default_rng(0).uniform(1, 8, 99).tolist()), Script(stops)
        monkeypatch.setitem(simulated_studies.PRUNERS, "script", lambda _, script=script: script)
        study_outcome(landscape, SETTINGS, Cell(sampler, "script", 3), trials=20)
        asked.append(landscape.asked[:20])
    other_seed = Scripted(range(9, 0, -1))
    study_outcome(other_seed, SETTINGS, Cell(sampler, "none", 4), trials=4)
    assert other_seed.asked[0][0] != asked[0][0][0]
    assert asked[0][:10] == asked[1][:10]
    assert (asked[0] == asked[1]) == (sampler == "random")


@pytest.mark.parametrize("pruner", ["median", "hyperband", "sha", "plateau"])
def test_pruners_save_compute(simulated: Surrogate, pruner: str) -> None:
    ended = study_outcome(simulated, SETTINGS, Cell("random", pruner, 0), trials=12)
    assert ended.compute < 0.9
    assert ended.trials > 12


def test_the_plateau_pruner_knows_the_trials_and_has_no_sentinels() -> None:
    pruner = simulated_studies.PRUNERS["plateau"](37)
    assert (pruner.rule.trials, pruner.sentinel) == (37, 0)  # type: ignore[attr-defined]


# The comparison


def test_intervals_are_scipys() -> None:
    rng = np.random.default_rng(0)
    pruned, unpruned = rng.normal(4, 0.1, 12), rng.normal(4, 0.1, 12)
    expected = stats.ttest_rel(pruned, unpruned).confidence_interval(0.95)
    difference = paired(pruned, unpruned)
    assert (difference["low"], difference["high"]) == pytest.approx((expected.low, expected.high))
    assert difference["mean"] == pytest.approx((pruned - unpruned).mean())
    assert difference["loss"] == pytest.approx(pruned.mean())
    assert student_interval([1.0, 1.0]) == {"mean": 1.0, "low": 1.0, "high": 1.0}


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.1, MARGIN, "yes"),
        (-0.1, 0.0051, "not shown"),
        (MARGIN, 0.1, "not shown"),
        (0.0051, 0.1, "no"),
        (-0.2, -0.1, "yes"),
    ],
)
def test_verdicts(low: float, high: float, word: str) -> None:
    assert verdict({"low": low, "high": high}) == word


def outcome_of(found: Sequence[float], expected: Sequence[float], *, compute: float, trials: int) -> StudyOutcome:
    incumbents = [SimulatedTrial(evaluations=4, found=a, expected=b) for a, b in zip(found, expected, strict=True)]
    return StudyOutcome(at_compute=tuple(incumbents[:3]), at_trials=incumbents[3], compute=compute, trials=trials)


def test_a_row_by_hand() -> None:
    unpruned = [
        outcome_of([5, 4, 3, 3], [5, 5, 4, 4], compute=1.0, trials=8),
        outcome_of([6, 5, 4, 4], [6, 6, 5, 5], compute=1.0, trials=8),
    ]
    pruned = [
        outcome_of([5, 4, 2.5, 3.5], [5, 5, 4.5, 4], compute=0.4, trials=20),
        outcome_of([6, 4, 3.5, 4], [6, 6, 5.5, 5.5], compute=0.6, trials=10),
    ]
    row = in_the_loop.pruner_row("tpe", "median", pruned, unpruned)
    assert row["at_compute"]["0.25"]["found"] == {"loss": 5.5, "mean": 0.0, "low": 0.0, "high": 0.0}
    half = row["at_compute"]["0.5"]["found"]
    assert (half["loss"], half["mean"]) == (4.0, -0.5)
    assert half["high"] - half["mean"] == pytest.approx(12.7062 * 0.5, rel=1e-5)
    assert row["at_compute"]["1"]["expected"]["mean"] == 0.5
    assert row["at_trials"]["found"]["mean"] == 0.25
    assert row["at_trials"]["expected"]["mean"] == 0.25
    assert row["at_trials"]["compute"]["mean"] == 0.5
    assert row["trials_run"] == 15
    assert row["verdict"] == {"found": "yes", "expected": "no"}


def test_the_number_of_processes_changes_nothing() -> None:
    surrogate = Surrogate.fit(bank_of(noise=0.1), SPACE)
    rows, rows_by_two = (
        in_the_loop.compare_pruners(surrogate, SETTINGS, pruners=["median"], studies=2, trials=8, jobs=jobs)
        for jobs in (1, 2)
    )
    assert rows == rows_by_two
    assert [(row["sampler"], row["pruner"]) for row in rows] == [
        (sampler, pruner) for sampler in ("tpe", "random") for pruner in ("none", "median")
    ]
    none, median = rows[:2]
    assert none["at_compute"]["1"]["found"]["mean"] == 0
    at_quarter, unpruned = (row["at_compute"]["0.25"]["found"] for row in (median, none))
    assert median["at_trials"]["compute"]["mean"] < 1
    assert at_quarter["mean"] == pytest.approx(at_quarter["loss"] - unpruned["loss"])
    at_end, unpruned = (row["at_trials"]["found"] for row in (median, none))
    assert at_end["mean"] == pytest.approx(at_end["loss"] - unpruned["loss"])
    assert none["at_trials"]["compute"] == {"mean": 1, "low": 1, "high": 1}


# The command


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["in_the_loop", *arguments])
    return in_the_loop.main()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parquet as benchmarks.pruning.record_bank writes it."""
    bank = curve_banks.simulated_bank("settles-early", trials=32)
    rows = [
        {"trial": trial, "seed": 0, "step": 10 * k, "train_loss": 1.0, "val_loss": loss, "val_se": 0.1}
        | {name: float(values[trial]) for name, values in bank.settings.items()}
        for trial in range(32)
        for k, loss in enumerate(bank.losses[trial].tolist())
    ]
    path = tmp_path_factory.mktemp("bank") / "bank.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


SMALL = ("--studies", "2", "--trials", "8", "--jobs", "1", "--samplers", "random", "--pruners", "sha,plateau")


def test_the_command_prints_one_json_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recorded: Path
) -> None:
    assert command(monkeypatch, "--bank", str(recorded), *SMALL, "--json") == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert figures["surrogate"]["r2"] > 0.8
    assert figures["surrogate"]["trials"] == 32
    assert [row["pruner"] for row in figures["rows"]] == ["none", "sha", "plateau"]
    assert (figures["studies"], figures["trials"], figures["evaluations"]) == (2, 8, 40)
    assert "fitting a surrogate" in err
    text = in_the_loop.table(figures)
    assert "random: expected loss of the incumbent less that without pruning" in text
    assert "random, sha: no worse than none by more than 0.005 at equal compute: " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--studies", "1"], "1 is not a whole number of at least 2"),
        (["--studies", "0"], "0 is not a whole number of at least 2"),
        (["--trials", "3"], "3 is not a whole number of at least 4"),
        (["--pruners", "medain,none"], "medain: not among none, median"),
        (["--samplers", "gp"], "gp: not among tpe, random"),
        (["--bank", "nowhere.parquet"], "nowhere.parquet: no such file"),
        (["--study", "studies/smoke.yaml"], "beyond the study's range"),
    ],
)
def test_wrong_options_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, *arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
