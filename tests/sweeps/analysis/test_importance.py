"""Importances: known shares are recovered, idle knobs stay below the line, and stopped trials count."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from sweeps.analysis.findings import Findings
from sweeps.analysis.importance import FANOVA_TRIALS, MOST_MEASURED, Importance, Importances, Share
from sweeps.report.figures.importance import importance_picture, why_missing
from sweeps.report.figures.style import BLUE, GREY
from sweeps.store.records import Outcome, Results, Run
from tests.helpers import synthetic

KNOBS = {name: synthetic.KNOBS[name] for name in ("dropout", "weight_decay", "n_embd")}
STUDY = synthetic.study(knobs=KNOBS)


def _trials(count: int, loss: Callable[[Mapping[str, Any]], float], *, seed: int = 3) -> list[Run]:
    """Return trials drawn evenly over the space. `loss` takes the knobs' places in their ranges, 0 to 1."""
    rng = np.random.default_rng(seed)
    runs = []
    for index in range(count):
        place = dict(zip(KNOBS, rng.random(3).tolist(), strict=True))
        params = {
            "dropout": 0.3 * place["dropout"],
            "weight_decay": 1e-3 * 500 ** place["weight_decay"],
            "n_embd": 192 + 64 * round(9 * place["n_embd"]),
        }
        runs.append(synthetic.run(index, val_loss=loss(place), params=params, points=()))
    return runs


def _importances(runs: list[Run]) -> Importances:
    return Findings(synthetic.results(runs, study=STUDY)).importances


@functools.cache
def _additive() -> Importances:
    """The loss is linear in two knobs, and twice as steep in the first: 4/5 and 1/5 of the variance."""
    return _importances(_trials(60, lambda place: 3.5 + 0.4 * place["dropout"] + 0.2 * place["weight_decay"]))


def test_fanova_finds_the_shares_of_an_additive_loss() -> None:
    fanova = _additive().methods[0]
    assert list(fanova.shares)[:2] == ["dropout", "weight_decay"]
    assert fanova.shares["dropout"].middle == pytest.approx(0.8, abs=0.12)
    assert fanova.shares["weight_decay"].middle == pytest.approx(0.2, abs=0.12)
    assert fanova.clear[0] == "dropout"
    assert "n_embd" not in (*fanova.clear, *fanova.above)


def test_both_methods_give_ordered_intervals_above_a_line_of_no_effect() -> None:
    importances = _additive()
    assert [method.method for method in importances.methods] == ["fANOVA", "PED-ANOVA"]
    counts = (importances.complete, importances.imputed, importances.diverged, importances.left_out)
    assert counts == (60, 0, 0, 0)
    for method in importances.methods:
        middles = [share.middle for share in method.shares.values()]
        assert middles == sorted(middles, reverse=True)
        assert all(0 <= share.low <= share.middle <= share.high <= 1 for share in method.shares.values())
        assert 0 < method.zero_line < 1
        assert next(iter(method.shares)) == "dropout"


def test_of_too_many_trials_a_random_part_is_measured() -> None:
    """The part has the same shares, and is the same each time."""
    runs = _trials(4 * MOST_MEASURED, lambda place: 3.5 + 0.4 * place["dropout"] + 0.2 * place["weight_decay"])
    found = _importances(runs)
    assert (found.complete, found.trials, found.measured_on) == (4 * MOST_MEASURED, 4 * MOST_MEASURED, MOST_MEASURED)
    assert found == _importances(runs)
    assert found.methods[0].shares["dropout"].middle == pytest.approx(0.8, abs=0.08)
    assert found.methods[0].shares["weight_decay"].middle == pytest.approx(0.2, abs=0.08)
    findings = Findings(synthetic.results([]))
    vars(findings)["importances"] = found
    said = importance_picture(findings).summary
    assert said.endswith(f"complete trials. Measured on {MOST_MEASURED} of them, drawn at random.")


@pytest.mark.filterwarnings("ignore:Target and region quantiles")  # all but a few trials have the same loss
def test_a_part_of_trials_that_nearly_all_diverged_has_what_fanova_needs() -> None:
    good = _trials(FANOVA_TRIALS, lambda place: 3.5 + place["dropout"])
    bad = [
        dataclasses.replace(run, id=100 + run.id, outcome=Outcome.DIVERGED, val_loss=None)
        for run in _trials(20 * MOST_MEASURED, lambda _: 9.0)
    ]
    found = _importances([*good, *bad])
    assert (found.complete, found.measured_on) == (FANOVA_TRIALS, MOST_MEASURED)
    assert found.methods


def test_no_knob_is_clear_if_none_matters() -> None:
    luck = np.random.default_rng(5)
    methods = _importances(_trials(50, lambda _: 3.5 + 0.02 * luck.normal())).methods
    assert len(methods) == 2
    assert [method.clear for method in methods] == [(), ()]


def test_stopped_trials_count_with_their_predicted_losses() -> None:
    """All trials with much dropout were stopped. Without them the loss would hardly depend on dropout."""
    luck = np.random.default_rng(6)
    runs = _trials(50, lambda _: 3.5 + 0.01 * luck.normal())
    mixed = []
    for run in runs:
        if float(run.params["dropout"]) < 0.15:
            mixed.append(run)
            continue
        seen = synthetic.points(synthetic.BASELINE, 4.2)[10]
        pruning = synthetic.pruning(seen, synthetic.BASELINE, predicted=4.2, best=3.5)
        fields = {"id": run.id, "params": run.params, "outcome": "pruned", "val_loss": None, "pruning": pruning}
        mixed.append(synthetic.run(run.trial, points=(), **fields))
    importances = _importances(mixed)
    assert importances.complete >= 20
    assert importances.complete + importances.imputed == 50
    assert importances.methods[0].clear == ("dropout",)
    without_stopped = _importances([run for run in mixed if run.outcome == "complete"])
    assert "dropout" not in without_stopped.methods[0].clear


@pytest.mark.parametrize(
    ("complete", "stopped", "methods", "reason"),
    [
        (19, 40, [], "at least 20 complete trials of the search are needed, and there are 19"),
        (20, 0, ["fANOVA"], "PED-ANOVA needs at least 50 trials of the search, and there are 20"),
        (20, 29, ["fANOVA"], "PED-ANOVA needs at least 50 trials of the search, and there are 49"),
        (20, 30, ["fANOVA", "PED-ANOVA"], ""),
    ],
)
def test_each_method_asks_for_its_number_of_trials(
    complete: int, stopped: int, methods: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.analysis.importance._RESAMPLES", 2)
    runs = _trials(complete, lambda place: 3.5 + place["dropout"])
    seen = synthetic.points(synthetic.BASELINE, 4.2)[10]
    pruning = synthetic.pruning(seen, synthetic.BASELINE, predicted=4.2, best=3.5)
    runs += [
        synthetic.run(100 + i, outcome="pruned", val_loss=None, points=(), pruning=pruning) for i in range(stopped)
    ]
    importances = _importances(runs)
    assert [method.method for method in importances.methods] == methods
    assert _importances(runs) == importances
    assert why_missing(importances) == reason


def test_losses_that_are_all_alike_explain_nothing() -> None:
    importances = _importances(_trials(30, lambda _: 3.5))
    assert not importances.methods
    assert why_missing(importances) == "all 30 trials ended alike"


def test_hardly_any_difference_is_no_error() -> None:
    """Most resamples, and most trees, see no difference at all."""
    runs = _trials(30, lambda _: 3.5)
    runs[0] = synthetic.run(0, val_loss=3.6, params=runs[0].params, points=())
    assert _importances(runs).methods[0].clear == ()


def test_a_whole_study_names_its_planted_knob_and_counts_its_trials() -> None:
    results = synthetic.full()
    importances = Findings(results).importances
    counts = (importances.complete, importances.imputed, importances.diverged, importances.left_out)
    assert counts == (35, 8, 1, 1)
    assert next(iter(importances.methods[0].shares)) == "learning_rate"
    assert importances.methods[0].clear == ("learning_rate",)


# --- the picture ---------------------------------------------------------------------------------------------------


def _drawn(monkeypatch: pytest.MonkeyPatch, shares: Mapping[str, tuple[float, float, float]]) -> Any:
    fanova = Importance(
        method="fANOVA",
        shares={name: Share(low=low, middle=middle, high=high) for name, (low, middle, high) in shares.items()},
        zero_line=0.2,
    )
    findings = Findings(synthetic.results([]))
    counts = {"complete": 30, "imputed": 4, "diverged": 1, "left_out": 2, "measured_on": 35}
    vars(findings)["importances"] = Importances(methods=(fanova,), **counts)
    return importance_picture(findings)


def test_points_are_filled_open_or_grey_by_where_their_interval_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"learning_rate": (0.3, 0.5, 0.7), "min_lr_ratio": (0.1, 0.3, 0.6), "dropout": (0.0, 0.1, 0.4)}
    picture = _drawn(monkeypatch, shares)
    (figure,) = picture.figures
    marks = [(trace.marker.color, trace.marker.symbol) for trace in figure.data]
    assert marks == [(BLUE, "circle"), (BLUE, "circle-open"), (GREY, "circle-open")]
    assert [trace.x[0] for trace in figure.data] == [0.5, 0.3, 0.1]
    lows = [trace.x[0] - trace.error_x.arrayminus[0] for trace in figure.data]
    highs = [trace.x[0] + trace.error_x.array[0] for trace in figure.data]
    assert lows == pytest.approx([low for low, _, _ in shares.values()])
    assert highs == pytest.approx([high for _, _, high in shares.values()])
    assert figure.layout.shapes[-1].x0 == 0.2
    assert picture.summary == (
        "By fANOVA, learning_rate stands clear of a knob without effect; min_lr ÷ learning_rate stands above it, "
        "though not surely. Trials: 30 complete trials, 4 stopped early and 1 diverged; 2 without a loss left out. "
        "PED-ANOVA needs at least 50 trials of the search, and there are 35."
    )


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        ((0.0, 0.1, 0.4), "By fANOVA, no knob stands above one without effect."),
        ((0.1, 0.3, 0.6), "By fANOVA, dropout stands above a knob without effect, though not surely."),
    ],
)
def test_summary_claims_no_more_than_is_shown(
    share: tuple[float, float, float], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _drawn(monkeypatch, {"dropout": share}).summary.startswith(sentence)


def test_without_enough_trials_there_is_a_reason() -> None:
    results: Results = synthetic.results([])
    picture = importance_picture(Findings(results))
    assert not picture.figures
    assert picture.summary.startswith(
        "Not shown: at least 20 complete trials of the search are needed, and there are 0."
    )
