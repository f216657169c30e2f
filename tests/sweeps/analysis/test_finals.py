"""Final losses of stopped trials: what is imputed for them, and how uncertain it is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.analysis.finals import drawn, finals, without_final
from sweeps.store.records import Run
from tests.helpers import synthetic

CURVE = synthetic.points(synthetic.BASELINE, 3.5)


def stopped(number: int, predicted: float | None = 4.0, **changes: Any) -> Run:
    """Return a trial stopped at evaluation 12 of 30."""
    pruning = synthetic.pruning(CURVE[12], synthetic.BASELINE, predicted=predicted, best=3.5, **changes)
    return synthetic.run(number, outcome="pruned", val_loss=None, points=CURVE[:13], pruning=pruning)


def sentinel(number: int, *, final: float, predicted: float, scale: float) -> Run:
    """Return a trial that went on although it would have been stopped at evaluation 12."""
    pruning = synthetic.pruning(CURVE[12], synthetic.BASELINE, predicted=predicted, best=3.5, sentinel=True)
    return synthetic.run(number, val_loss=final, pruning=dataclasses.replace(pruning, scale=scale))


@pytest.mark.parametrize(
    ("run", "loss", "imputed"),
    [
        (synthetic.run(0, val_loss=3.4), 3.4, False),
        (synthetic.run(0, val_loss=math.nan), math.inf, False),
        (stopped(0, 4.1), 4.1, True),
        (stopped(0, None, reason="diverged"), math.inf, False),
        (synthetic.run(0, val_loss=None, outcome="diverged"), math.inf, False),
        (sentinel(0, final=3.9, predicted=4.1, scale=0.1), 3.9, False),
    ],
    ids=["complete", "no number", "stopped", "stopped as diverged", "diverged", "sentinel"],
)
def test_the_loss_that_a_trial_counts_with(run: Run, loss: float, imputed: bool) -> None:
    (final,) = finals(synthetic.results([run]))
    assert (final.loss, final.imputed, final.diverged) == (loss, imputed, math.isinf(loss))


@pytest.mark.parametrize("outcome", ["running", "infeasible", "failed", "truncated", "pruned"])
def test_trials_without_a_loss_or_a_curve_have_none(outcome: str) -> None:
    results = synthetic.results([synthetic.run(0, val_loss=None, outcome=outcome, points=())])
    assert finals(results) == ()
    assert len(without_final(results, ())) == (outcome not in ("running", "truncated"))


def test_runs_on_other_seeds_are_not_in_the_search() -> None:
    results = synthetic.results([synthetic.run(0, val_loss=3.4, optuna_study="plateau-confirm")])
    assert finals(results) == without_final(results, ()) == ()


def test_without_a_prediction_of_the_rule_the_curve_is_predicted() -> None:
    """Curves of one shape end 0.1 nats apart. A trial stopped half-way is predicted between its neighbours."""
    losses = [3.3, 3.4, 3.5, 3.7, 3.8, 3.9]
    whole = [
        synthetic.run(i, val_loss=loss, points=synthetic.points(synthetic.BASELINE, loss, noise=0.0))
        for i, loss in enumerate(losses)
    ]
    points = synthetic.points(synthetic.BASELINE, 3.6, noise=0.0)[:16]
    pruning = synthetic.pruning(points[-1], synthetic.BASELINE, predicted=None, best=3.3, rule="median")
    cut = synthetic.run(9, val_loss=None, outcome="pruned", points=points, pruning=pruning)
    *_, last = finals(synthetic.results([*whole, cut]))
    assert last.run is cut
    assert last.imputed
    assert last.loss == pytest.approx(3.6, abs=0.03)
    few = synthetic.results([*whole[:4], cut])
    assert [final.run for final in finals(few)] == whole[:4]
    assert without_final(few, finals(few)) == (cut,)


def test_the_order_is_the_studys() -> None:
    runs = [stopped(0), synthetic.run(1), synthetic.run(2, val_loss=None, outcome="diverged"), synthetic.run(3)]
    assert [final.run.id for final in finals(synthetic.results(runs))] == [0, 1, 2, 3]


def test_draws_scatter_as_predicted_and_measured_losses_stay() -> None:
    runs = [synthetic.run(0, val_loss=3.4), stopped(1), synthetic.run(2, val_loss=None, outcome="diverged")]
    known = finals(synthetic.results(runs))
    rng = np.random.default_rng(1)
    losses = np.array([drawn(known, rng) for _ in range(4000)])
    prediction = known[1].prediction
    assert prediction is not None
    spread = prediction.scale * math.sqrt(prediction.degrees / (prediction.degrees - 2))  # variance of Student's t
    assert (losses[:, 0] == 3.4).all()
    assert losses[:, 1].mean() == pytest.approx(4.0, abs=4 * spread / math.sqrt(4000))
    assert losses[:, 1].std() == pytest.approx(spread, rel=0.1)
    assert (losses[:, 2] == losses[:, :2].max(axis=1)).all()


def test_errors_of_sentinels_are_drawn_in_proportion_to_their_number() -> None:
    """Five sentinels count as much as the predicted distribution. All of them ended half a scale lower."""
    sentinels = [sentinel(i, final=4.1, predicted=4.2, scale=0.2) for i in range(5)]
    known = finals(synthetic.results([*sentinels, stopped(9)]))
    prediction = known[-1].prediction
    assert prediction is not None
    rng = np.random.default_rng(2)
    draws = np.array([drawn(known, rng)[-1] for _ in range(2000)])
    share = np.isclose(draws, 4.0 - 0.5 * prediction.scale).mean()
    assert share == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 2000))


@settings(max_examples=25, deadline=None)
@given(shift=st.integers(-8, 8), seed=st.integers(0, 99), losses=st.lists(st.integers(16, 80), min_size=1, max_size=5))
def test_a_constant_moves_every_draw_by_itself(shift: int, seed: int, losses: list[int]) -> None:
    def losses_plus(constant: float) -> Any:
        runs = [synthetic.run(i, val_loss=loss / 16 + constant) for i, loss in enumerate(losses)]
        cut = stopped(90)
        assert cut.pruning is not None
        moved = dataclasses.replace(cut.pruning, predicted=4.0 + constant)
        known = finals(synthetic.results([*runs, dataclasses.replace(cut, pruning=moved)]))
        return drawn(known, np.random.default_rng(seed))

    assert losses_plus(shift) == pytest.approx(losses_plus(0.0) + shift)
