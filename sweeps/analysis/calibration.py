"""Do the pruning rule's predictions keep what they promise? Each trial that ended, predicted again from all the others.

At a look, the rule gives the final loss a distribution. If it is right, the final loss falls below its p-bound in a
share p of cases, for every p (the probability integral transform; Gneiting, Balabdaoui and Raftery 2007, "Probabilistic
forecasts, calibration and sharpness", JRSS B 69). Every complete trial, sentinels too, is predicted from the other
complete ones at evaluations throughout the looks. Of trials that were stopped nothing is known, so this says how
predictions fare where the rule let trials go on, and the sentinels alone how they fare where it did not.
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
"""evaluations of a third that are replayed, at most: neighbours tell the same"""
_REPLAYS = 300
"""predictions that are made, about: they take 2 to 8 ms each"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Predictions made in one third of the looks."""

    word: str
    """early, middle or late"""
    evaluations: tuple[int, int]
    """the first and the last that predictions were made at"""
    levels: tuple[tuple[float, ...], ...]
    """a trial each: the probability that each of its predictions gave to ending lower than it did"""
    error: float
    """median distance between prediction and final loss, nats"""

    def below(self, probabilities: Floats) -> Floats:
        """Share of final losses below the bounds of these probabilities, each trial counting once."""
        return _below(self.levels, probabilities)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What became of predictions of a study's complete trials."""

    stages: tuple[Stage, ...]
    """empty where too few trials are complete to predict any"""
    complete: int
    """complete trials of the search"""
    trials: int
    """those of them that were predicted"""
    needed: int
    """complete trials that it takes"""
    promised: float
    """share of final losses that should lie above their lower bound: 1 - epsilon"""
    kept: float
    """share of them that does, each trial counting once"""
    interval: tuple[float, float]
    """95 % interval of what the bound would keep among many trials"""

    def band(self, probabilities: Floats) -> tuple[Floats, Floats]:
        """The shares between which those of right predictions lie with 95 %, for as many trials (binomial)."""
        from scipy import stats  # takes 0.2 s to load, and only the figure needs it

        tail = (1 - CONFIDENCE) / 2
        low, high = (stats.binom.ppf(level, self.trials, probabilities) / self.trials for level in (tail, 1 - tail))
        return low, high


def calibration(results: Results, rule: Rule) -> Calibration:
    """Predict the complete trials of the search from each other, as `rule` does at its looks."""
    runs = [run for run in results.search_runs if run.val_loss is not None and run.points]
    curves = histories(runs, results.study)
    most = _REPLAYS // len(STAGES)
    tested = np.linspace(0, len(curves) - 1, min(len(curves), most)).round().astype(int).tolist()
    looks = min(_LOOKS, most // max(1, len(tested)))
    found = [
        [_replay(curves, index, evaluations, rule) for evaluations in _looks(curves[index], rule, looks)]
        for index in tested
    ]
    trials = [row for row in found if any(row)]
    kept = 1 - float(_below([_levels(*row) for row in trials], np.array([rule.epsilon]))[0]) if trials else math.nan
    return Calibration(
        stages=tuple(
            _stage(word, column) for word, column in zip(STAGES, zip(*trials, strict=True), strict=False) if any(column)
        ),
        complete=len(runs),
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
    """Evaluations of each third of the rule's looks at which a trial is predicted: `most` of them, spread evenly."""
    end = curve.schedule.end
    first, last = (share * end for share in rule.looks)
    all_looks = np.array(rule.looks_at(curve.schedule), dtype=int)
    third = np.clip((all_looks - first) // ((last - first) / len(STAGES) or 1), 0, len(STAGES) - 1)
    made = []
    for stage in range(len(STAGES)):
        those = all_looks[third == stage]
        at = ((np.arange(most) + 0.5) / most * len(those)).astype(int)  # the middles of as many equal parts
        made.append(np.unique(those[at]).tolist() if len(those) else [])
    return made


def _replay(curves: Sequence[Curve], index: int, evaluations: Sequence[int], rule: Rule) -> tuple[_Look, ...]:
    """Predictions of one trial from all the others; evaluations that are missing are no looks."""
    curve, others = curves[index], [*curves[:index], *curves[index + 1 :]]
    assert curve.final is not None
    found = []
    for k in evaluations:
        if k >= len(curve.losses) or not math.isfinite(curve.losses[k]):
            continue
        seen = dataclasses.replace(curve, losses=curve.losses[: k + 1], final=None)
        prediction = forecast(seen, others, min_completed=rule.min_completed)
        if prediction is not None:
            level = float(prediction.below(np.array(curve.final)))
            found.append(_Look(k, level, abs(prediction.mean - curve.final)))
    return tuple(found)


def _stage(word: str, column: Sequence[tuple[_Look, ...]]) -> Stage:
    looks = [look for each in column for look in each]
    at = [look.evaluation for look in looks]
    return Stage(
        word=word,
        evaluations=(min(at), max(at)),
        levels=tuple(_levels(each) for each in column if each),
        error=float(np.median([look.error for look in looks])),
    )


def _levels(*stages: Sequence[_Look]) -> tuple[float, ...]:
    return tuple(look.level for stage in stages for look in stage)


def _below(levels: Sequence[Sequence[float]], probabilities: Floats) -> Floats:
    shares: Floats = np.mean([(np.array(each)[:, None] < probabilities).mean(axis=0) for each in levels], axis=0)
    return shares
