"""Pruning in the loop: the surrogate gives back what it was fitted to, compute is counted and compared as by hand."""

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

from benchmarks import progress
from benchmarks.pruning import curve_banks, in_the_loop, simulated_studies
from benchmarks.pruning.curve_banks import Bank
from benchmarks.pruning.in_the_loop import MARGIN, interval, paired, verdict
from benchmarks.pruning.simulated_studies import Cell, Trial, incumbent, outcome, within
from benchmarks.pruning.surrogate import Surrogate, quality
from sweeps.study import space
from sweeps.study.load import load
from trainer.config import TrainConfig
from trainer.schedule import lr_at

ROOT = Path(__file__).parents[3]
BANK_YAML = Path(in_the_loop.__file__).with_name("record_bank.yaml")
SETTINGS = load(BANK_YAML, devices_have_cuda=False)
SPACE = {"a": FloatDistribution(0, 1), "b": FloatDistribution(1e-3, 1, log=True)}


def truth(a: Any, b: Any) -> Any:
    """(N, 11) smooth curves over two knobs."""
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
        name="made", losses=losses, ends=ends, settings=settings, knobs=curve_banks.scaled(settings), rates=None
    )


# The surrogate


def test_a_known_function_is_reproduced() -> None:
    """At knobs that the bank lacks; b counts by its logarithm."""
    surrogate = Surrogate.fit(bank_of(), SPACE)
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.05, 0.95, 50), 10 ** rng.uniform(-2.9, -0.1, 50)
    found = [surrogate.expected({"a": x, "b": y}) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert np.abs(np.array(found) - truth(a, b)).max() < 0.03
    assert np.abs(surrogate.residuals).max() < 0.1


def test_noise_is_as_the_bank_has_it() -> None:
    surrogate = Surrogate.fit(bank_of(trials=80, noise=0.1), SPACE)
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0.1, 0.9, 200), 10 ** rng.uniform(-2.8, -0.2, 200)
    drawn = np.array(
        [surrogate.curve({"a": x, "b": y}, seed=3) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    ) - truth(a, b)
    assert 0.08 < drawn[:, -1].std() < 0.15
    assert np.corrcoef(drawn[:, 5], drawn[:, -1])[0, 1] > 0.9  # one trial's luck lasts


def test_a_left_out_trial_is_predicted_from_the_others() -> None:
    bank = bank_of(trials=20, noise=0.1)
    surrogate = Surrogate.fit(bank, SPACE)
    for left_out in (0, 7, 19):
        others = np.arange(20) != left_out
        process = GaussianProcessRegressor(surrogate.kernel, optimizer=None)
        process.fit(surrogate.knobs[others], (bank.losses - bank.losses.mean(axis=0))[others])
        found = process.predict(surrogate.knobs[[left_out]])[0] + bank.losses.mean(axis=0)
        np.testing.assert_allclose(surrogate.predicted[left_out], found, atol=1e-8)


def test_a_curve_is_the_expected_one_and_a_residual_of_the_bank() -> None:
    """The same at every call; of a trial that is predicted to end near; over seeds, of all of these."""
    surrogate = Surrogate.fit(bank_of(trials=20, noise=0.1), SPACE)
    params = {"a": 0.3, "b": 1e-3}
    expected = surrogate.expected(params)
    drawn = set()
    for seed in range(60):
        curve = surrogate.curve(params, seed=seed)
        np.testing.assert_array_equal(curve, surrogate.curve(dict(params), seed=seed))
        (which,) = np.flatnonzero(np.isclose(surrogate.residuals, curve - expected).all(axis=1))
        drawn.add(int(which))
    ends = surrogate.bank.losses[:, -1] - surrogate.residuals[:, -1]
    assert drawn == set(np.argsort(np.abs(ends - expected[-1]))[:5].tolist())
    other = {"a": 0.3001, "b": 1e-3}
    seeds = range(60)
    moved = [surrogate.curve(other, seed=seed) - surrogate.expected(other) for seed in seeds]
    assert any(not np.allclose(a, surrogate.curve(params, seed=seed) - expected) for seed, a in enumerate(moved))


def test_a_choice_is_a_knob() -> None:
    bank = bank_of()
    bank.settings["a"][:] = np.arange(40) % 2
    bank.losses[:] = truth(bank.settings["a"], bank.settings["b"])
    surrogate = Surrogate.fit(bank, {"a": CategoricalDistribution([0, 1]), "b": SPACE["b"]})
    for a in (0, 1):
        found = surrogate.expected({"a": a, "b": 0.03})
        np.testing.assert_allclose(found, truth(np.array([a]), np.array([0.03]))[0], atol=0.02)


def test_only_whole_curves_count() -> None:
    bank = bank_of()
    bank.losses[3, 7:] = math.nan
    surrogate = Surrogate.fit(bank, SPACE)
    assert len(surrogate.bank) == len(surrogate.knobs) == 39
    assert np.isfinite(surrogate.residuals).all()


def test_a_bank_of_another_space_is_refused() -> None:
    with pytest.raises(ValueError, match="made: has no c, d, so"):
        Surrogate.fit(bank_of(), {**SPACE, "d": SPACE["a"], "c": SPACE["a"]})
    with pytest.raises(ValueError, match="made: a is beyond the study's range, FloatDistribution"):
        Surrogate.fit(bank_of(), {**SPACE, "a": FloatDistribution(0, 0.5)})


@pytest.fixture(scope="module")
def simulated() -> Surrogate:
    """Of the space of benchmarks/pruning/record_bank.yaml."""
    return Surrogate.fit(curve_banks.simulated("settles-early", trials=24), space.distributions(SETTINGS))


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


def test_quality_is_that_of_the_left_out() -> None:
    bank = bank_of(trials=60, noise=0.1)
    surrogate = Surrogate.fit(bank, SPACE)
    found = quality(surrogate, draws=240)
    finals, predicted = bank.losses[:, -1], surrogate.predicted[:, -1]
    assert found["r2"] == pytest.approx(metrics.r2_score(finals, predicted))
    assert found["absolute_error"] == pytest.approx(metrics.mean_absolute_error(finals, predicted))
    assert found["spearman"] == pytest.approx(stats.spearmanr(finals, predicted).statistic)
    assert found["bank"]["best"] == finals.min()
    assert found["bank"]["median"] == np.median(finals)
    best = np.argsort(finals)[:18]
    early = stats.spearmanr(bank.losses[best, 5], finals[best]).statistic
    assert found["bank"]["agreement"]["best30"]["0.5"] == pytest.approx(early)
    assert found["surrogate"]["median"] == pytest.approx(found["bank"]["median"], abs=0.2)
    assert found["surrogate"]["agreement"]["all"]["0.5"] == pytest.approx(
        found["bank"]["agreement"]["all"]["0.5"], abs=0.1
    )


# One study


class Scripted:
    """The n-th trial asked for has the n-th final loss, and a curve that falls to it in a straight line."""

    evaluations = 4

    def __init__(self, finals: Sequence[float]) -> None:
        self.space = {"a": FloatDistribution(0, 1)}
        self.finals, self.asked = finals, []

    def expected(self, params: Mapping[str, Any], /) -> Any:
        return np.full(5, 10 * params["a"])

    def curve(self, params: Mapping[str, Any], /, *, seed: int) -> Any:
        self.asked.append((params["a"], seed))
        return np.linspace(9, self.finals[len(self.asked) - 1], 5)

    def rates(self, params: Mapping[str, Any], /) -> Any:
        return np.arange(5.0)


class Script(optuna.pruners.BasePruner):
    """Prunes a trial, by number, at an evaluation."""

    def __init__(self, stops: Mapping[int, int]) -> None:
        self.stops, self.looks = stops, []
        self.studies: list[optuna.Study] = []

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        self.studies.append(study)
        self.looks.append((trial.number, trial.last_step))
        return self.stops.get(trial.number) == trial.last_step


def scripted(
    monkeypatch: pytest.MonkeyPatch, finals: Sequence[float], stops: Mapping[int, int], *, trials: int
) -> tuple[simulated_studies.Outcome, Scripted, Script]:
    landscape, script = Scripted(finals), Script(stops)
    monkeypatch.setitem(simulated_studies.PRUNERS, "script", lambda _: script)
    return outcome(landscape, SETTINGS, Cell("random", "script", 5), trials=trials), landscape, script


def test_compute_is_counted_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 trials of 4 evaluations are 16. Spent after each trial: 4, 5, 9, 11, 15, 19, and the last is the best."""
    ended, landscape, _ = scripted(monkeypatch, [5, 1, 4, 1, 3, 2], {1: 1, 3: 2}, trials=4)
    assert [each.found for each in ended.at_compute] == [5, 5, 3]
    assert ended.at_trials.found == 4
    assert ended.compute == 11 / 16
    assert ended.trials == 6
    a = [a for a, _ in landscape.asked]
    assert [each.expected for each in ended.at_compute] == [10 * a[0], 10 * a[0], 10 * a[4]]
    assert {seed for _, seed in landscape.asked} == {5}


def test_what_optuna_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """All evaluations, 0 to E, and the rates; no pruner is asked at the first or the last."""
    *_, script = scripted(monkeypatch, [5, 4, 3, 2, 1], {1: 2}, trials=4)
    assert script.looks[:5] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    first, second = script.studies[0].trials[:2]
    assert first.intermediate_values == {0: 9, 1: 8, 2: 7, 3: 6, 4: 5}
    assert first.user_attrs["lr"] == [0, 1, 2, 3, 4]
    assert (first.state, first.value) == (TrialState.COMPLETE, 5)
    assert (second.state, list(second.intermediate_values)) == (TrialState.PRUNED, [0, 1, 2])


def test_a_trial_that_ends_on_the_dot_counts() -> None:
    ran = [Trial(evaluations=4, found=loss, expected=0.0) for loss in (3.0, 2.0, 1.0)]
    assert len(within(ran, 8.0)) == 2
    assert len(within(ran, 7.9)) == 1
    assert incumbent(ran) is ran[2]


def test_unpruned_compute_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, *_ = scripted(monkeypatch, range(9, 0, -1), {}, trials=8)
    assert (ended.compute, ended.trials, ended.at_trials) == (1.0, 8, ended.at_compute[-1])
    assert [each.found for each in ended.at_compute] == [8, 6, 2]


@pytest.mark.parametrize("sampler", simulated_studies.SAMPLERS)
def test_pruners_share_a_seeds_first_trials(monkeypatch: pytest.MonkeyPatch, sampler: str) -> None:
    """And the sampler is the one asked for: random ones stay the same to the end, TPE's differ after its start-up."""
    asked = []
    for stops in ({}, dict.fromkeys(range(2, 20, 2), 1)):
        landscape, script = Scripted(np.random.default_rng(0).uniform(1, 8, 99).tolist()), Script(stops)
        monkeypatch.setitem(simulated_studies.PRUNERS, "script", lambda _, script=script: script)
        outcome(landscape, SETTINGS, Cell(sampler, "script", 3), trials=20)
        asked.append(landscape.asked[:20])
    other = Scripted(range(9, 0, -1))
    outcome(other, SETTINGS, Cell(sampler, "none", 4), trials=4)
    assert other.asked[0][0] != asked[0][0][0]
    assert asked[0][:10] == asked[1][:10]
    assert (asked[0] == asked[1]) == (sampler == "random")


@pytest.mark.parametrize("pruner", ["median", "hyperband", "sha", "plateau"])
def test_pruners_save_compute(simulated: Surrogate, pruner: str) -> None:
    ended = outcome(simulated, SETTINGS, Cell("random", pruner, 0), trials=12)
    assert ended.compute < 0.9
    assert ended.trials > 12


def test_our_pruner_is_told_the_trials_and_spares_none() -> None:
    made = simulated_studies.PRUNERS["plateau"](37)
    assert (made.rule.trials, made.sentinel) == (37, 0)  # type: ignore[attr-defined]


# The comparison


def test_intervals_are_scipys() -> None:
    rng = np.random.default_rng(0)
    ours, none = rng.normal(4, 0.1, 12), rng.normal(4, 0.1, 12)
    expected = stats.ttest_rel(ours, none).confidence_interval(0.95)
    found = paired(ours, none)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["mean"] == pytest.approx((ours - none).mean())
    assert found["loss"] == pytest.approx(ours.mean())
    assert interval([1.0, 1.0]) == {"mean": 1.0, "low": 1.0, "high": 1.0}


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.1, MARGIN, "yes"),
        (-0.1, 0.0051, "not shown"),
        (MARGIN, 0.1, "not shown"),
        (0.0051, 0.1, "no"),
        (-0.2, -0.1, "yes"),
    ],
)
def test_verdicts(low: float, high: float, said: str) -> None:
    assert verdict({"low": low, "high": high}) == said


def outcome_of(
    found: Sequence[float], expected: Sequence[float], *, compute: float, trials: int
) -> simulated_studies.Outcome:
    made = [Trial(evaluations=4, found=a, expected=b) for a, b in zip(found, expected, strict=True)]
    return simulated_studies.Outcome(at_compute=tuple(made[:3]), at_trials=made[3], compute=compute, trials=trials)


def test_a_row_by_hand() -> None:
    none = [
        outcome_of([5, 4, 3, 3], [5, 5, 4, 4], compute=1.0, trials=8),
        outcome_of([6, 5, 4, 4], [6, 6, 5, 5], compute=1.0, trials=8),
    ]
    ours = [
        outcome_of([5, 4, 2.5, 3.5], [5, 5, 4.5, 4], compute=0.4, trials=20),
        outcome_of([6, 4, 3.5, 4], [6, 6, 5.5, 5.5], compute=0.6, trials=10),
    ]
    found = in_the_loop.row("tpe", "median", ours, none)
    assert found["at_compute"]["0.25"]["found"] == {"loss": 5.5, "mean": 0.0, "low": 0.0, "high": 0.0}
    half = found["at_compute"]["0.5"]["found"]
    assert (half["loss"], half["mean"]) == (4.0, -0.5)
    assert half["high"] - half["mean"] == pytest.approx(12.7062 * 0.5, rel=1e-5)
    assert found["at_compute"]["1"]["expected"]["mean"] == 0.5
    assert found["at_trials"]["found"]["mean"] == 0.25
    assert found["at_trials"]["expected"]["mean"] == 0.25
    assert found["at_trials"]["compute"]["mean"] == 0.5
    assert found["trials_run"] == 15
    assert found["verdict"] == {"found": "yes", "expected": "no"}


def test_workers_change_nothing() -> None:
    surrogate = Surrogate.fit(bank_of(noise=0.1), SPACE)
    found = [
        in_the_loop.compare(surrogate, SETTINGS, pruners=["median"], studies=2, trials=8, jobs=jobs) for jobs in (1, 2)
    ]
    assert found[0] == found[1]
    assert [(row["sampler"], row["pruner"]) for row in found[0]] == [
        (sampler, pruner) for sampler in ("tpe", "random") for pruner in ("none", "median")
    ]
    none, median = found[0][:2]
    assert none["at_compute"]["1"]["found"]["mean"] == 0
    at_quarter, nones = (row["at_compute"]["0.25"]["found"] for row in (median, none))
    assert median["at_trials"]["compute"]["mean"] < 1
    assert at_quarter["mean"] == pytest.approx(at_quarter["loss"] - nones["loss"])
    at_end, nones = (row["at_trials"]["found"] for row in (median, none))
    assert at_end["mean"] == pytest.approx(at_end["loss"] - nones["loss"])
    assert none["at_trials"]["compute"] == {"mean": 1, "low": 1, "high": 1}


# The command


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pruning_in_the_loop", *arguments])
    return in_the_loop.main()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parquet such as benchmarks.pruning.record_bank writes."""
    bank = curve_banks.simulated("settles-early", trials=32)
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
    found = json.loads(out)
    assert found["surrogate"]["r2"] > 0.8
    assert found["surrogate"]["trials"] == 32
    assert [row["pruner"] for row in found["rows"]] == ["none", "sha", "plateau"]
    assert (found["studies"], found["trials"], found["evaluations"]) == (2, 8, 40)
    assert "fitting a surrogate" in err
    text = in_the_loop.table(found)
    assert "random: expected loss of the incumbent less none's" in text
    assert "random, sha: no worse than none by more than 0.005 at equal compute: " in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--studies", "1"], "1: not a whole number from 2 on"),
        (["--studies", "0"], "0: not a whole number from 2 on"),
        (["--trials", "3"], "3: not a whole number from 4 on"),
        (["--pruners", "medain,none"], "medain: not among none, median"),
        (["--samplers", "gp"], "gp: not among tpe, random"),
        (["--bank", "nowhere.parquet"], "nowhere.parquet: no such file"),
        (["--study", "studies/smoke.yaml"], "beyond the study's range"),
    ],
)
def test_wrong_options_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, *arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("live", [False, True])
def test_progress_is_told_after_two_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], live: bool
) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0, 22.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: live)
    assert list(progress.watched("abcd", 4, noun="sweeps")) == list("abcd")
    second, third, last = (
        "2 of 4 sweeps, about 11 s left",
        "3 of 4 sweeps, about 4 s left",
        "4 of 4 sweeps, about 0 s left",
    )
    said = capsys.readouterr().err
    assert said == (f"{second}\r{third}\r{last}\r\033[K" if live else f"{second}\n{last}\n")
