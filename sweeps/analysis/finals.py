"""The final losses of the search's trials: as told, or imputed where a trial was stopped early.

Those that were stopped are no fair sample of all trials: left out, the knobs that made them bad would look idle. So a
stopped trial counts with its predicted final loss, and wherever luck is counted, with an error drawn anew for it
(multiple imputation; Rubin 1987).
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

_T_COUNTS = 5
"""sentinels' errors that the predicted distribution of an error counts as much as"""


@dataclass(frozen=True, kw_only=True)
class Final:
    """What a trial ended with, or would have."""

    run: Run
    loss: float
    """nats: as told, the mean of the prediction, or infinite where it diverged"""
    prediction: Prediction | None = None
    """of a trial that was stopped early"""

    @property
    def diverged(self) -> bool:
        """Whether it ended without a number."""
        return math.isinf(self.loss)

    @property
    def imputed(self) -> bool:
        """Whether it was stopped early, and the loss is a prediction."""
        return self.prediction is not None


def finals(results: Results) -> tuple[Final, ...]:
    """Those of the search's trials that have one, in their order.

    Trials under way have none, nor those that did not fit or failed, nor stopped ones that nothing can be predicted
    of. What the pruner predicted stands; of trials stopped by Optuna's rules, which predict nothing, it is done here.
    """
    runs = results.search_runs
    told = {run.id: final for run in runs if (final := _told(run)) is not None}
    stopped = [run for run in runs if run.outcome == Outcome.PRUNED and run.id not in told and len(run.points) > 1]
    found = told | {final.run.id: final for final in _predicted(stopped, runs, results)}
    return tuple(found[run.id] for run in runs if run.id in found)


def without_final(results: Results, known: Sequence[Final]) -> tuple[Run, ...]:
    """The search's trials that have ended and are not among the `known`: infeasible, failed, or not to be predicted."""
    having = {final.run.id for final in known}
    over = (run for run in results.search_runs if not run.unfinished)
    return tuple(run for run in over if run.id not in having)


def _told(run: Run) -> Final | None:
    noted = run.pruning if run.outcome == Outcome.PRUNED else None
    if run.outcome == Outcome.DIVERGED or (noted is not None and noted.reason == "diverged"):
        return Final(run=run, loss=math.inf)
    if run.val_loss is not None:
        return Final(run=run, loss=run.val_loss if math.isfinite(run.val_loss) else math.inf)
    if noted is None or noted.predicted is None or noted.scale is None or noted.degrees is None:
        return None
    prediction = Prediction(mean=noted.predicted, scale=noted.scale, degrees=noted.degrees)
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
    """(n,) final losses, nats: imputed ones each with an error, diverged ones at the worst of the others.

    An error is drawn from the prediction's Student's t, or is what a sentinel was missed by, in units of its scale: the
    more sentinels there are, the more often it is theirs. At least one trial has a finite loss.
    """
    losses = np.array([final.loss for final in known])
    missed = _missed(known)
    for index, final in enumerate(known):
        if final.prediction is not None:
            lot = int(rng.integers(_T_COUNTS + len(missed)))
            error = missed[lot] if lot < len(missed) else float(rng.standard_t(final.prediction.degrees))
            losses[index] += final.prediction.scale * error
    losses[np.isinf(losses)] = losses[np.isfinite(losses)].max()
    return losses


def _missed(known: Iterable[Final]) -> list[float]:
    """What sentinels ended above their prediction by, in units of its scale."""
    return [
        (final.loss - noted.predicted) / noted.scale
        for final in known
        if (noted := final.run.pruning) is not None
        and noted.sentinel
        and not final.diverged
        and noted.predicted is not None
        and noted.scale
    ]
