"""Calibration: predictions replayed on the right trials, at the right looks, and counted once per trial."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from sweeps.analysis import calibration as module
from sweeps.analysis.calibration import Calibration, Stage, calibration
from sweeps.analysis.curves import histories, schedule_of
from sweeps.analysis.pruning import exact_interval
from sweeps.pruning.forecast import Curve, forecast
from sweeps.pruning.gaussian_process import Prediction
from sweeps.pruning.rule import Rule
from sweeps.report.figures.calibration import calibration_picture
from sweeps.store.records import Run
from tests.helpers import synthetic

CURVE = synthetic.points(synthetic.BASELINE, 3.5)
RULE = Rule()
AT = np.linspace(0.005, 0.995, 100)


def flat(number: int, final: float, **changes: Any) -> Run:
    """Return a trial with 4 nats at every evaluation."""
    return synthetic.run(
        number, val_loss=final, points=tuple(dataclasses.replace(point, val_loss=4.0) for point in CURVE), **changes
    )


class Oracle:
    """A forecast of the curve's last loss, with standard error `scale`, that records its calls."""

    def __init__(self, scale: float) -> None:
        self.scale, self.asked = scale, []  # type: ignore[var-annotated]

    def __call__(self, curve: Curve, others: Sequence[Curve], *, min_completed: int) -> Prediction | None:
        self.asked.append((curve, others, min_completed))
        if len(others) < min_completed:
            return None
        return Prediction(mean=float(curve.losses[-1]), scale=self.scale, degrees=1e9)


def study_of(n: int, oracle: Oracle, monkeypatch: pytest.MonkeyPatch, *, sd: float = 0.1) -> Calibration:
    """Calibrate on n trials whose final losses are the quantiles of a normal distribution about their curves."""
    monkeypatch.setattr(module, "forecast", oracle)
    finals = 4.0 + sd * norm.ppf((np.arange(n) + 0.5) / n)
    return calibration(synthetic.results([flat(index, float(final)) for index, final in enumerate(finals)]), RULE)


# --- shares --------------------------------------------------------------------------------------------------------


def test_right_predictions_follow_the_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = study_of(40, Oracle(0.1), monkeypatch)
    assert [stage.word for stage in replayed.stages] == ["early", "middle", "late"]
    low, high = replayed.band(AT)
    for stage in replayed.stages:
        assert stage.below(AT) == pytest.approx(AT, abs=0.5 / 40 + 1e-9)
        assert (low <= stage.below(AT)).all()
        assert (stage.below(AT) <= high).all()
        assert stage.error == pytest.approx(0.1 * norm.ppf(0.75), abs=0.005)
    assert replayed.kept == pytest.approx(39 / 40)  # the lowest is the 1.25 % quantile, and the bound the 2 % quantile
    assert replayed.interval == pytest.approx(exact_interval(39, 40))
    assert (replayed.trials, replayed.complete, replayed.promised) == (40, 40, 0.98)


def test_predictions_that_are_too_sure_are_flat_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = study_of(40, Oracle(0.02), monkeypatch)
    expected = norm.cdf(0.02 * norm.ppf(AT) / 0.1)
    for stage in replayed.stages:
        assert stage.below(AT) == pytest.approx(expected, abs=0.5 / 40 + 1e-9)
    assert replayed.kept == pytest.approx(1 - norm.cdf(0.02 * norm.ppf(0.02) / 0.1), abs=0.5 / 40)
    low, high = replayed.band(np.array([0.05, 0.95]))
    below = replayed.stages[0].below(np.array([0.05, 0.95]))
    assert below[0] > high[0]
    assert below[1] < low[1]


def test_trials_count_equally_however_often_they_were_predicted() -> None:
    stage = Stage(word="early", evaluations=(3, 9), levels=((0.1, 0.1, 0.1, 0.9), (0.6,)), error=0.1)
    assert stage.below(np.array([0.05, 0.5, 0.7, 1.0])) == pytest.approx([0, 0.375, 0.875, 1])


@given(st.integers(1, 200), st.floats(0.001, 0.999))
def test_the_band_holds_95_per_cent_of_right_predictions(n: int, probability: float) -> None:
    replayed = Calibration(
        stages=(), complete=n, among=n, trials=n, needed=6, promised=0.98, kept=1.0, interval=exact_interval(n, n)
    )
    low, high = (float(shares[0]) for shares in replayed.band(np.array([probability])))
    assert binom.cdf(round(high * n), n, probability) - binom.cdf(round(low * n) - 1, n, probability) >= 0.95


# --- looks ---------------------------------------------------------------------------------------------------------


def test_a_trial_is_predicted_from_all_other_complete_ones_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(0.1)
    monkeypatch.setattr(module, "forecast", oracle)
    pruned = synthetic.pruning(CURVE[10], synthetic.BASELINE, predicted=4.0, best=3.5)
    runs = [
        *(flat(index, 4.0 + index) for index in range(7)),
        flat(7, 4.7, pruning=dataclasses.replace(pruned, sentinel=True)),
        flat(8, 4.8, optuna_study="plateau-confirm"),
        synthetic.run(9, outcome="pruned", val_loss=None, points=CURVE[:11], pruning=pruned),
        synthetic.run(10, outcome="diverged", val_loss=None),
    ]
    replayed = calibration(synthetic.results(runs), RULE)
    assert (replayed.trials, replayed.complete) == (8, 8)
    finals = {4.0, 4.7, *(4.0 + index for index in range(7))}
    for curve, others, needed in oracle.asked:
        assert curve.final is None
        assert needed == RULE.min_completed
        assert len(others) == 7
        assert {peer.final for peer in others} < finals
        assert all(len(peer.losses) == 31 for peer in others)


@pytest.mark.parametrize("warm", [0, 15, 300, 470])
def test_looks_are_the_rules(monkeypatch: pytest.MonkeyPatch, warm: int) -> None:
    oracle = Oracle(0.1)
    monkeypatch.setattr(module, "forecast", oracle)
    config = synthetic.BASELINE.replace(warmup_iters=warm)
    replayed = calibration(synthetic.results([flat(index, 4.0, config=config) for index in range(8)]), RULE)
    at = [len(curve.losses) - 1 for curve, _, _ in oracle.asked]
    first = max(3, schedule_of(config).warm)
    assert all(first <= k <= 24 for k in at)
    assert len(at) == len({(id(curve.schedule), k) for (curve, _, _), k in zip(oracle.asked, at, strict=True)})
    for stage in replayed.stages:
        low, high = {"early": (3, 9), "middle": (10, 16), "late": (17, 24)}[stage.word]
        assert low <= stage.evaluations[0] <= stage.evaluations[1] <= high
    assert "late" in [stage.word for stage in replayed.stages]


def test_evaluations_that_are_missing_are_no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(0.1)
    monkeypatch.setattr(module, "forecast", oracle)
    points = tuple(dataclasses.replace(point, val_loss=math.nan if i < 20 else 4.0) for i, point in enumerate(CURVE))
    runs = [dataclasses.replace(flat(index, 4.0), points=points) for index in range(7)]
    replayed = calibration(synthetic.results(runs), RULE)
    assert [stage.word for stage in replayed.stages] == ["late"]
    assert {len(curve.losses) - 1 for curve, _, _ in oracle.asked} <= set(range(20, 25))


@pytest.mark.parametrize("n", [0, 1, 5, 6, 40, 99, 101, 450])
def test_the_number_of_predictions_is_bounded(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    oracle = Oracle(0.1)
    monkeypatch.setattr(module, "forecast", oracle)
    run = flat(0, 4.0)
    runs = [dataclasses.replace(run, id=index, trial=index) for index in range(n)]
    replayed = calibration(synthetic.results(runs), RULE)
    assert len(oracle.asked) <= module._REPLAYS
    assert (replayed.complete, replayed.needed) == (n, 6)
    assert bool(replayed.stages) == (n > 5)
    if n > 5:
        assert replayed.trials >= min(n, 100)


def test_of_very_many_trials_some_at_even_distances_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_COMPLETE", 12)
    oracle = Oracle(0.1)
    monkeypatch.setattr(module, "forecast", oracle)
    few, many = (
        calibration(synthetic.results([flat(index, 4.0 + index / 100) for index in range(n)]), RULE) for n in (12, 48)
    )
    assert (few.complete, few.among, many.complete, many.among) == (12, 12, 48, 12)
    assert {len(others) for _, others, _ in oracle.asked} == {11}
    assert "take part" not in calibration_picture(few).reading
    assert calibration_picture(many).reading.endswith("Of 48 complete trials, 12 at even distances take part.")


def test_levels_are_those_of_the_rules_own_forecast() -> None:
    runs = []
    for index in range(9):
        final = 3.4 + index**2 / 100
        points = synthetic.points(synthetic.BASELINE, final, noise=0.03)
        runs.append(synthetic.run(index, val_loss=final, points=points))
    results = synthetic.results(runs)
    replayed = calibration(results, RULE)
    curves = histories(runs, results.study)
    first = curves[0]
    levels = []
    for stage in replayed.stages:
        for k in stage.evaluations:
            seen = dataclasses.replace(first, losses=first.losses[: k + 1], final=None)
            prediction = forecast(seen, curves[1:], min_completed=RULE.min_completed)
            assert prediction is not None
            levels.append(float(prediction.below(np.array(first.final))))
    ends = [level for stage in replayed.stages for level in (stage.levels[0][0], stage.levels[0][-1])]
    assert ends == pytest.approx(levels)


# --- the picture ---------------------------------------------------------------------------------------------------


def test_the_picture_says_what_the_bound_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "forecast", Oracle(0.1))
    picture = calibration_picture(calibration(synthetic.results([flat(index, 4.1) for index in range(8)]), RULE))
    assert picture.summary == (
        "100 % of final losses ended above the lower bound that promises 98 % (95 % interval by 8 trials: 63 % to "
        "100 %). Half of the predictions missed by less than 0.100 nats at early looks, 0.100 nats at middle looks "
        "and 0.100 nats at late looks."
    )
    assert [trace.name for trace in picture.figures[0].data if trace.showlegend is not False] == [
        "right, within the luck of 8 trials",
        "early",
        "middle",
        "late",
    ]


def test_too_few_trials_are_said_to_be() -> None:
    picture = calibration_picture(calibration(synthetic.results([synthetic.run(index) for index in range(5)]), RULE))
    assert picture.summary == "Not enough evidence: any prediction needs 6 complete trials, and there are 5."
    assert not picture.figures
