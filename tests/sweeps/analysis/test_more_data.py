"""Amounts of data: what runs on part of it show about more data, and no more than that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from sweeps.analysis import screening
from sweeps.analysis.arms import Arms
from sweeps.analysis.findings import Findings
from sweeps.analysis.more_data import amounts
from sweeps.report.publish import page_of
from sweeps.store.records import Results
from sweeps.study import proposals, space
from sweeps.study.study import Study
from sweeps.verdict import verdict
from sweeps.verdict.more_data import sentences
from tests.helpers import fake_training, small_sweep, synthetic

TOKENS = 600 * 16 * 256
"""tokens of a trial"""
KNOB = {"data_fraction": {"choices": [0.25, 0.5, 1.0]}}


def results(
    losses: Mapping[float, Sequence[float]],
    *,
    baseline: float = 1.0,
    knob: Mapping[str, Any] = KNOB,
    longer: int = 1,
    epochs: float = 1.0,
) -> Results:
    """Return runs of the baseline config by fraction of the data, with a loss per seed.

    The baseline's fraction is `baseline`, and its full length is `longer` times a trial. A trial makes `epochs` epochs
    of all the data.
    """
    runs = []
    for fraction, by_seed in losses.items():
        for index, loss in enumerate(by_seed):
            seed, apart = 1337 + index, fraction != baseline
            runs.append(
                synthetic.run(
                    len(runs),
                    "one-at-a-time" if apart else "baseline",
                    seed=seed,
                    config=synthetic.BASELINE.replace(data_fraction=fraction, seed=seed),
                    knob="data_fraction" if apart else None,
                    params={} if apart else synthetic.params_of(synthetic.BASELINE),
                    optuna_study="plateau-confirm" if apart or index else "plateau",
                    val_loss=loss,
                    points=(),
                )
            )
    study = synthetic.study(knobs={**synthetic.KNOBS, **knob})
    settings = {**study.baseline, "max_iters": 600 * longer, "data_fraction": baseline}
    whole = synthetic.results(runs, study=study.model_copy(update={"baseline": settings}))
    return dataclasses.replace(whole, data=dataclasses.replace(whole.data, train_tokens=round(TOKENS / epochs)))


LOSSES = st.lists(st.integers(3000, 4000), min_size=2, max_size=6, unique=True).map(
    lambda losses: [loss / 1000 for loss in losses]
)


@given(LOSSES, LOSSES)
@settings(deadline=None)
def test_the_cost_is_welchs_difference(whole: list[float], half: list[float]) -> None:
    of_quarter, of_half = sorted(amounts(results({1.0: whole, 0.5: half})), key=lambda amount: amount.fraction)
    assert (of_quarter.gain, of_quarter.seeds) == (None, 0)
    assert of_half.gain is not None
    assume(not of_half.gain.bimodal)  # not if some seeds have broken through and others haven't
    expected = stats.ttest_ind(half, whole, equal_var=False)
    interval = expected.confidence_interval()
    assert of_half.gain.mean == pytest.approx(np.mean(half) - np.mean(whole))
    assert (of_half.gain.low, of_half.gain.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    assert (of_half.fraction, of_half.epochs, of_half.seeds) == (0.5, pytest.approx(2.0), len(half))


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (
            {1.0: [3.40, 3.41, 3.39], 0.5: [3.50, 3.51, 3.49], 0.25: [3.70, 3.71, 3.69]},
            [
                "On half of the training data (epochs: 2 instead of 1) the baseline ends 0.100 nats higher "
                "(95 % interval +0.077 to +0.123, 3 seeds against 3).",
                "On a quarter of the training data (epochs: 4 instead of 1) the baseline ends 0.300 nats higher "
                "(95 % interval +0.277 to +0.323, 3 seeds against 3).",
                "So more data would likely help: with half of it runs end more than 0.02 nats higher, beyond the noise "
                "of seeds. More data than there is would lower the loss if this trend goes on; that was not measured.",
            ],
        ),
        (
            {1.0: [3.400, 3.401, 3.402], 0.5: [3.401, 3.399, 3.400], 0.25: [3.50, 3.52, 3.48]},
            [
                "On half of the training data (epochs: 2 instead of 1) the baseline ends 0.001 nats lower "
                "(95 % interval −0.003 to +0.001, 3 seeds against 3).",
                "On a quarter of the training data (epochs: 4 instead of 1) the baseline ends 0.099 nats higher "
                "(95 % interval +0.049 to +0.149, 3 seeds against 3).",
                "So more data would matter little here: with half of it the loss changes by less than 0.02 nats.",
            ],
        ),
        (
            {1.0: [3.40, 3.44, 3.36], 0.5: [3.45, 3.49, 3.41]},
            [
                "On half of the training data (epochs: 2 instead of 1) the baseline ends 0.050 nats higher "
                "(95 % interval −0.041 to +0.141, 3 seeds against 3).",
                "On a quarter of the training data (epochs: 4 instead of 1) the baseline has no final loss to compare "
                "yet.",
                "So more data isn't shown to help by more than 0.02 nats; 8 more seeds would decide it, if mean and "
                "noise stay as they are (raise baseline_seeds by that number, and trials by that number per value).",
            ],
        ),
        (
            {1.0: [3.40], 0.5: [3.90]},
            [
                "On half of the training data (epochs: 2 instead of 1) the baseline ends 0.500 nats higher (1 seed "
                "against 1, too few for an interval).",
                "On a quarter of the training data (epochs: 4 instead of 1) the baseline has no final loss to compare "
                "yet.",
                "So more data isn't shown to help by more than 0.02 nats.",
            ],
        ),
        (
            {1.0: [3.50, 3.51, 3.49], 0.5: [3.40, 3.41, 3.39]},
            [
                "On half of the training data (epochs: 2 instead of 1) the baseline ends 0.100 nats lower "
                "(95 % interval −0.123 to −0.077, 3 seeds against 3).",
                "On a quarter of the training data (epochs: 4 instead of 1) the baseline has no final loss to compare "
                "yet.",
                "So more data isn't shown to help by more than 0.02 nats.",
            ],
        ),
        (
            {1.0: [3.4, 3.41]},
            [
                f"On {part} the training data (epochs: {epochs} instead of 1) the baseline has no final loss to "
                "compare yet."
                for part, epochs in (("half of", 2), ("a quarter of", 4))
            ],
        ),
    ],
    ids=["helps", "matters little", "undecided", "one seed", "hurts", "nothing yet"],
)
def test_the_sentences(losses: Mapping[float, Sequence[float]], words: list[str]) -> None:
    assert sentences(Findings(results(losses))) == words


def test_more_of_the_data_than_the_baseline_has_is_measured() -> None:
    losses = {0.5: [3.50, 3.51, 3.49], 0.25: [3.7, 3.69, 3.71], 1.0: [3.40, 3.41, 3.39]}
    assert sentences(Findings(results(losses, baseline=0.5))) == [
        "On all of the training data (epochs: 1 instead of 2) the baseline ends 0.100 nats lower "
        "(95 % interval −0.123 to −0.077, 3 seeds against 3).",
        "On a quarter of the training data (epochs: 4 instead of 2) the baseline ends 0.200 nats higher "
        "(95 % interval +0.177 to +0.223, 3 seeds against 3).",
        "So more data helps: with all of it runs end more than 0.02 nats lower, beyond the noise of seeds.",
    ]


@pytest.mark.parametrize(
    ("longer", "epochs", "text"),
    [(1, 3.0, ""), (10, 0.05, ""), (20, 0.4, "runs of 0.4 epochs. The baseline's own 12,000 iterations make 8,")],
)
def test_a_longer_run_may_need_more_data(longer: int, epochs: float, text: str) -> None:
    last = sentences(Findings(results({1.0: [3.4, 3.41], 0.5: [3.5, 3.51]}, longer=longer, epochs=epochs)))[-1]
    assert text in last if text else last.startswith("So more data")


def test_nothing_is_said_unless_the_study_asks() -> None:
    assert sentences(Findings(results({1.0: [3.4, 3.41], 0.5: [3.5, 3.51]}, knob={}))) == []
    assert sentences(Findings(synthetic.results([], study=synthetic.study(knobs={**synthetic.KNOBS, **KNOB})))) == []


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_epochs_are_of_the_data_that_a_run_sees(fraction: float) -> None:
    whole = results({}, epochs=2.0)
    assert whole.data.epochs(synthetic.BASELINE.replace(data_fraction=fraction)) == pytest.approx(2 / fraction)


def test_less_data_is_neither_a_change_to_make_nor_a_reason_to_warn() -> None:
    """Two epochs, or eight on a quarter of the data. The runs on part of the data end lowest."""
    study = results({1.0: [3.40, 3.41, 3.39], 0.5: [3.3, 3.31, 3.29], 0.25: [3.2, 3.21, 3.19]}, epochs=2.0)
    screened = screening.screen(study)
    assert (screened.family, screened.knobs) == (0, ())
    best = study.best
    assert best is not None
    assert best.origin == "baseline"
    words = verdict.verdict(Findings(study))
    assert words.data == tuple(sentences(Findings(study)))
    assert words.groups["Would more data help?"] == words.data
    assert not any("goes over its training data" in text or "data_fraction" in text for text in words.cautions)


# --- in a sweep ---------------------------------------------------------------------------------------------


def small(**changes: Any) -> Study:
    knobs = {"dropout": {"low": 0.0, "high": 0.4}, **KNOB}
    return small_sweep.study(**{"knobs": knobs, "trials": 7, **changes})


def test_a_sweep_tries_amounts_on_the_baselines_seeds_apart_from_the_search(tmp_path: Path) -> None:
    assert small_sweep.sweep(tmp_path, small()).finished
    swept = small_sweep.results_in(tmp_path)
    assert small_sweep.origin_counts(swept) == {"baseline": 2, "one-at-a-time": 5, "sampler": 2}
    part = [run for run in swept.runs if run.knob == "data_fraction"]
    assert {(run.config.data_fraction, run.seed) for run in part} == {(f, s) for f in (0.25, 0.5) for s in (1337, 1338)}
    assert {(run.optuna_study, run.phase, tuple(run.params)) for run in part} == {("small-confirm", "search", ())}
    assert {run.config.data_fraction for run in swept.runs if run not in part} == {1.0}
    reference = swept.reference
    assert reference is not None
    for run in part:
        assert run.config == reference.replace(seed=run.seed, data_fraction=run.config.data_fraction)
        assert run.val_loss == fake_training.final_loss(run.config)
    assert [amount.seeds for amount in amounts(swept)] == [2, 2]


def test_a_sweep_killed_in_between_goes_on(tmp_path: Path) -> None:
    small_sweep.sweep(tmp_path / "whole", small())
    small_sweep.sweep(tmp_path / "parts", small(trials=2))
    small_sweep.sweep(tmp_path / "parts", small())
    whole, parts = (
        small_sweep.reproducible_part(small_sweep.results_in(tmp_path / name)) for name in ("whole", "parts")
    )
    assert parts == whole


def test_amounts_are_not_in_the_space_or_the_arms(tmp_path: Path) -> None:
    study = small()
    assert list(space.distributions(study)) == list(proposals.baseline_params(study)) == ["dropout"]
    small_sweep.sweep(tmp_path, study)
    swept = small_sweep.results_in(tmp_path)
    arms = Arms(study, swept.best, vocab_size=swept.data.vocab_size)
    assert set(arms.changed) <= {"dropout"}


def test_there_must_be_something_else_to_sweep() -> None:
    with pytest.raises(ValidationError, match="nothing to sweep"):
        small(knobs=KNOB)


def test_the_report_tells_about_amounts(tmp_path: Path) -> None:
    small_sweep.sweep(tmp_path, small())
    page = page_of(Findings(small_sweep.results_in(tmp_path)))
    assert "Would more data help?" in page
    assert "half of the training data" in page
