"""Final losses of the search's trials, imputed for trials that were stopped early.

Stopped trials are no fair sample of all trials. Without them, the knobs that made them bad would seem to have no
effect. So a stopped trial counts with its predicted final loss. Where uncertainty is measured, an error is drawn for
the prediction each time (multiple imputation; Rubin 1987).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.analysis.curves import histories
from sweeps.pruning.forecast import forecast
from sweeps.pruning.gaussian_process import Prediction
from sweeps.pruning.law import Floats
from sweeps.pruning.rule import Rule
from sweeps.store.records import Outcome, Results, Run

_SENTINELS_PER_T = 5
"""The predicted distribution of an error weighs as much as the errors of this many sentinels."""


@dataclass(frozen=True, kw_only=True)
class Final:
    """The final loss of a trial, measured or predicted."""

    run: Run
    loss: float
    """nats per token: measured, or the mean of the prediction; infinite if the trial diverged"""
    prediction: Prediction | None = None
    """of the loss of a trial that was stopped early"""

    @property
    def diverged(self) -> bool:
        """Whether the trial diverged."""
        return math.isinf(self.loss)

    @property
    def imputed(self) -> bool:
        """Whether the trial was stopped early, so that its loss is a prediction."""
        return self.prediction is not None


def finals(results: Results) -> tuple[Final, ...]:
    """Return the final losses of the search's trials, in the order of the trials.

    Trials that are running, did not fit or failed have none, nor have stopped trials whose loss can't be predicted. A
    prediction of the pruner is kept. Optuna's pruners predict nothing, so the trials they stopped are predicted now.
    """
    runs = results.search_runs
    known = {run.id: final for run in runs if (final := _recorded(run)) is not None}
    stopped = [run for run in runs if run.outcome == Outcome.PRUNED and run.id not in known and len(run.points) > 1]
    known |= {final.run.id: final for final in _predicted(stopped, runs, results)}
    return tuple(known[run.id] for run in runs if run.id in known)


def without_final(results: Results, known: Sequence[Final]) -> tuple[Run, ...]:
    """Return the search's trials that ended without a final loss: infeasible, failed, or impossible to predict."""
    with_final = {final.run.id for final in known}
    ended = (run for run in results.search_runs if not run.unfinished)
    return tuple(run for run in ended if run.id not in with_final)


def _recorded(run: Run) -> Final | None:
    """Return the final loss that the run's record gives: measured, infinite, or predicted when it was stopped."""
    pruning = run.pruning if run.outcome == Outcome.PRUNED else None
    if run.outcome == Outcome.DIVERGED or (pruning is not None and pruning.reason == "diverged"):
        return Final(run=run, loss=math.inf)
    if run.val_loss is not None:
        return Final(run=run, loss=run.val_loss if math.isfinite(run.val_loss) else math.inf)
    if pruning is None or pruning.predicted is None or pruning.scale is None or pruning.degrees is None:
        return None
    prediction = Prediction(mean=pruning.predicted, scale=pruning.scale, degrees=pruning.degrees)
    return Final(run=run, loss=prediction.mean, prediction=prediction)


def _predicted(stopped: Sequence[Run], runs: Sequence[Run], results: Results) -> Iterable[Final]:
    if not stopped:
        return
    complete = [run for run in runs if run.val_loss is not None and run.points]
    curves = histories([*complete, *stopped], results.study)
    for run, curve in zip(stopped, curves[len(complete) :], strict=True):
        if not math.isfinite(curve.losses[-1]):
            continue
        prediction = forecast(curve, curves, min_completed=Rule.min_completed)
        if prediction is not None:
            yield Final(run=run, loss=prediction.mean, prediction=prediction)


def drawn(known: Sequence[Final], rng: np.random.Generator) -> Floats:
    """Return (n,) final losses, nats per token. Diverged trials get the worst loss of the others.

    Imputed losses get an error, in units of the prediction's scale. It is drawn from the prediction's Student's t, or
    from the errors of sentinels' predictions, the more often the more sentinels there are. At least one trial must have
    a finite loss.
    """
    losses = np.array([final.loss for final in known])
    errors = _sentinel_errors(known)
    for index, final in enumerate(known):
        if final.prediction is not None:
            lot = int(rng.integers(_SENTINELS_PER_T + len(errors)))
            error = errors[lot] if lot < len(errors) else float(rng.standard_t(final.prediction.degrees))
            losses[index] += final.prediction.scale * error
    losses[np.isinf(losses)] = losses[np.isfinite(losses)].max()
    return losses


def _sentinel_errors(known: Iterable[Final]) -> list[float]:
    """Return by how much sentinels ended above their predictions, in units of the predictions' scales."""
    return [
        (final.loss - pruning.predicted) / pruning.scale
        for final in known
        if (pruning := final.run.pruning) is not None
        and pruning.sentinel
        and not final.diverged
        and pruning.predicted is not None
        and pruning.scale
    ]
