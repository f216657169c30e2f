"""Calibration of the pruning rule: whether its predictions hold, on complete trials predicted from each other.

At a look, the rule gives the final loss a distribution. If the distribution is right, the final loss falls below its
p-bound in a share p of cases, for every p (the probability integral transform; Gneiting, Balabdaoui and Raftery 2007,
"Probabilistic forecasts, calibration and sharpness", JRSS B 69). Every complete trial, sentinels included, is predicted
from the other complete trials at evaluations throughout the looks.

The final losses of stopped trials are unknown. So calibration describes predictions where the rule let trials go on.
Only the sentinels tell how predictions do where it would not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sweeps.analysis.curves import histories
from sweeps.analysis.noise import CONFIDENCE
from sweeps.analysis.pruning import exact_interval
from sweeps.pruning.forecast import Curve, forecast
from sweeps.pruning.law import Floats
from sweeps.pruning.rule import Rule
from sweeps.store.records import Results

STAGES = ("early", "middle", "late")
"""thirds of the looks"""
_LOOKS = 4
"""evaluations replayed per third, at most; neighbours tell the same"""
_MOST_COMPLETE = 1000
"""complete trials that are predicted and predicted from, at most, at even distances among more"""
_REPLAYS = 300
"""about how many predictions are computed in all, at 2 to 8 ms per prediction"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Predictions made in one third of the looks."""

    word: str
    """early, middle or late"""
    evaluations: tuple[int, int]
    """the first and the last evaluation with a prediction"""
    levels: tuple[tuple[float, ...], ...]
    """per trial: the probability that each of its predictions gave to a lower loss than its final loss"""
    error: float
    """median distance between prediction and final loss, nats"""

    def below(self, probabilities: Floats) -> Floats:
        """Return the share of final losses below the bounds of these probabilities. Every trial counts once."""
        return _below(self.levels, probabilities)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How predictions of a study's complete trials turned out."""

    stages: tuple[Stage, ...]
    """empty: too few trials are complete to predict any"""
    complete: int
    """complete trials of the search"""
    among: int
    """complete trials that the predictions rest on: all, or _MOST_COMPLETE of more"""
    trials: int
    """complete trials that were predicted"""
    needed: int
    """complete trials needed to predict any"""
    promised: float
    """share of final losses that should lie above their lower bound: 1 - epsilon"""
    kept: float
    """share of final losses that do, every trial counting once"""
    interval: tuple[float, float]
    """95 % interval of that share among many trials"""

    def band(self, probabilities: Floats) -> tuple[Floats, Floats]:
        """Return the 95 % band of the shares that right predictions would show on as many trials (binomial)."""
        from scipy import stats  # takes 0.2 s to load, and only the figure needs it

        tail = (1 - CONFIDENCE) / 2
        low, high = (stats.binom.ppf(level, self.trials, probabilities) / self.trials for level in (tail, 1 - tail))
        return low, high


def calibration(results: Results, rule: Rule) -> Calibration:
    """Predict the search's complete trials from each other, as `rule` does at its looks."""
    runs = [run for run in results.search_runs if run.val_loss is not None and run.points]
    spread = [runs[place * len(runs) // _MOST_COMPLETE] for place in range(_MOST_COMPLETE)] if runs else []
    curves = histories(spread if len(runs) > _MOST_COMPLETE else runs, results.study)
    per_stage = _REPLAYS // len(STAGES)
    tested = np.linspace(0, len(curves) - 1, min(len(curves), per_stage)).round().astype(int).tolist()
    looks = min(_LOOKS, per_stage // max(1, len(tested)))
    replays = [
        [_replay(curves, index, evaluations, rule) for evaluations in _looks(curves[index], rule, looks)]
        for index in tested
    ]
    trials = [stages for stages in replays if any(stages)]
    kept = 1 - float(_below([_levels(*row) for row in trials], np.array([rule.epsilon]))[0]) if trials else math.nan
    by_stage = zip(STAGES, zip(*trials, strict=True), strict=False)
    return Calibration(
        stages=tuple(_stage(word, of_trials) for word, of_trials in by_stage if any(of_trials)),
        complete=len(runs),
        among=len(curves),
        trials=len(trials),
        needed=rule.min_completed + 1,
        promised=1 - rule.epsilon,
        kept=kept,
        interval=exact_interval(kept * len(trials), len(trials)) if trials else (0.0, 1.0),
    )


class _Look(NamedTuple):
    evaluation: int
    level: float
    error: float


def _looks(curve: Curve, rule: Rule, most: int) -> list[list[int]]:
    """Return, per third of the rule's looks, the evaluations at which a trial is predicted: `most`, spread evenly."""
    end = curve.schedule.end
    first, last = (share * end for share in rule.looks)
    all_looks = np.array(rule.looks_at(curve.schedule), dtype=int)
    third = np.clip((all_looks - first) // ((last - first) / len(STAGES) or 1), 0, len(STAGES) - 1)
    chosen = []
    for stage in range(len(STAGES)):
        looks = all_looks[third == stage]
        middles = ((np.arange(most) + 0.5) / most * len(looks)).astype(int)  # of `most` equal parts
        chosen.append(np.unique(looks[middles]).tolist() if len(looks) else [])
    return chosen


def _replay(curves: Sequence[Curve], index: int, evaluations: Sequence[int], rule: Rule) -> tuple[_Look, ...]:
    """Predict one trial from all others at these evaluations. Missing evaluations are skipped."""
    curve, others = curves[index], [*curves[:index], *curves[index + 1 :]]
    assert curve.final is not None
    looks = []
    for evaluation in evaluations:
        if evaluation >= len(curve.losses) or not math.isfinite(curve.losses[evaluation]):
            continue
        seen = dataclasses.replace(curve, losses=curve.losses[: evaluation + 1], final=None)
        prediction = forecast(seen, others, min_completed=rule.min_completed)
        if prediction is not None:
            level = float(prediction.below(np.array(curve.final)))
            looks.append(_Look(evaluation, level, abs(prediction.mean - curve.final)))
    return tuple(looks)


def _stage(word: str, trials: Sequence[tuple[_Look, ...]]) -> Stage:
    looks = [look for trial in trials for look in trial]
    evaluations = [look.evaluation for look in looks]
    return Stage(
        word=word,
        evaluations=(min(evaluations), max(evaluations)),
        levels=tuple(_levels(trial) for trial in trials if trial),
        error=float(np.median([look.error for look in looks])),
    )


def _levels(*stages: Sequence[_Look]) -> tuple[float, ...]:
    return tuple(look.level for stage in stages for look in stage)


def _below(levels: Sequence[Sequence[float]], probabilities: Floats) -> Floats:
    shares: Floats = np.mean([(np.array(trial)[:, None] < probabilities).mean(axis=0) for trial in levels], axis=0)
    return shares
