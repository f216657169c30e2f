"""Boundaries that the best trials crowd: beyond such an edge of a knob's range, better values may lie.

Three conditions must hold.

1. The best tenth of the sampler's trials lies in the outer tenth of the range (on the knob's own scale) more often than
   evenly drawn values would (binomial test). Other trials don't count: single-knob trials sit at edges by design.
2. The best trial of the whole search is at that edge too.
3. Its loss is lower than that of every trial in the far half of the range, by `min_effect` and by more than seeds
   differ. A sampler imitates good trials, so it also crowds edges where nothing is gained.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import bdtrc

from sweeps.analysis.finals import Final
from sweeps.analysis.noise import noise_of
from sweeps.pruning.pruner import places
from sweeps.pruning.rule import BEST_SHARE
from sweeps.store.records import Results, Run
from sweeps.study import space
from sweeps.study.baseline import WHOLE
from sweeps.study.knobs import PARAM, RangeKnob
from sweeps.study.model import Number
from sweeps.study.study import Study, tidy
from trainer.config import TrainConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


OUTER = 0.1
"""share of a range, on the knob's own scale, that counts as its edge"""
_AT_THE_END = 0.02
"""share of a range, on the knob's own scale, up to which a value lies at its end"""
_CROWDED_P = 0.05
"""an edge is crowded if even draws would crowd either edge of the knob as much with a probability below this"""
_LEAST_BEST, _LEAST_TRIALS = 3, 10
_FACTOR, _SHARE = 3, 0.5
"""how far to widen a range: by a factor on a log scale, else by a share of the range"""

Side = Literal["low", "high"]
SIDES: tuple[Side, Side] = ("low", "high")
_LIMITS = {spec.name: spec.metadata for spec in dataclasses.fields(TrainConfig)}


@dataclass(frozen=True, kw_only=True)
class BoundaryVerdict:
    """An edge of a knob's range that the best trials crowd."""

    knob: str
    """nanoGPT's name"""
    side: Side
    share: float
    """share of the best tenth of the sampler's trials that lies at the edge"""
    n: int
    """number of trials in that best tenth"""
    p: float
    """probability that even draws would crowd either edge as much"""
    edge: Number
    """the end of the range, in the study's units (for min_lr and warmup_iters a share)"""
    suggestion: Number
    """a wider end, in the same units"""


@dataclass(frozen=True, kw_only=True)
class RangeEnd:
    """An end of a knob's range that a run lies at."""

    knob: str
    """nanoGPT's name"""
    side: Side
    end: Number
    """the end of the range, in the study's units"""
    wider: Number | None
    """a wider end, in the same units; None: the setting can't go further"""


def ends_reached(study: Study, run: Run) -> tuple[RangeEnd, ...]:
    """Return the ends of ranges that a run's parameters lie at, in the order of the study's knobs."""
    return tuple(
        RangeEnd(knob=edge.name, side=edge.side, end=edge.knob.ends()[edge.side], wider=edge.wider(study))
        for edge in _edges(study)
        if edge.distance(run) <= _AT_THE_END
    )


def boundaries(results: Results, finals: Sequence[Final]) -> tuple[BoundaryVerdict, ...]:
    """Return the crowded edges that can be moved, in the order of the study's knobs."""
    best = results.best
    sampled = sorted((final for final in finals if final.run.origin == "sampler"), key=lambda final: final.loss)
    if best is None or best.val_loss is None or len(sampled) < _LEAST_TRIALS:
        return ()
    top = [final.run for final in sampled[: max(_LEAST_BEST, math.ceil(BEST_SHARE * len(sampled)))]]
    least_difference = _least_difference(results)
    verdicts = []
    for edge in _edges(results.study):
        at_edge = sum(edge.distance(run) <= OUTER for run in top)
        p = min(1.0, 2 * float(bdtrc(at_edge - 1, len(top), edge.even_share())))
        crowded = is_crowded(
            p=p,
            distance_of_best=edge.distance(best),
            best=best.val_loss,
            best_far_away=min((final.loss for final in finals if 0.5 < edge.distance(final.run) <= 1), default=None),
            least_difference=least_difference,
        )
        suggestion = edge.wider(results.study)
        if not crowded or suggestion is None:
            continue
        verdicts.append(
            BoundaryVerdict(
                knob=edge.name,
                side=edge.side,
                share=at_edge / len(top),
                n=len(top),
                p=p,
                edge=edge.knob.ends()[edge.side],
                suggestion=suggestion,
            )
        )
    return tuple(verdicts)


def is_crowded(
    *, p: float, distance_of_best: float, best: float, best_far_away: float | None, least_difference: float
) -> bool:
    """Whether an edge is crowded by the three conditions above.

    `p`: of the binomial test. `distance_of_best`: of the best trial from the edge, as a share of the range. `best` and
    `best_far_away`: lowest losses of the search and of the far half of the range, nats. Without a trial in the far half
    there is nothing to compare with, so the edge is not crowded.
    """
    if p >= _CROWDED_P or distance_of_best > OUTER or best_far_away is None:
        return False
    return best_far_away >= best + least_difference


def _least_difference(results: Results) -> float:
    """Return the difference, nats, beyond `min_effect` and the noise of seeds."""
    losses = [run.val_loss for run in results.baseline_runs if run.val_loss is not None]
    half_width = noise_of(losses).half_width() if losses else None
    return max(results.study.min_effect, half_width or 0.0)


def _edges(study: Study) -> list[_Edge]:
    distributions = space.distributions(study)
    ranges = [(name, knob) for name, knob in study.sampled.items() if isinstance(knob, RangeKnob)]
    return [_Edge(name, knob, distributions[PARAM.get(name, name)], side) for name, knob in ranges for side in SIDES]


@dataclass(frozen=True)
class _Edge:
    """One end of a knob's range."""

    name: str
    knob: RangeKnob
    distribution: BaseDistribution
    """the knob's distribution in Optuna"""
    side: Side

    @property
    def way(self) -> int:
        """1 if outward is up, -1 if it is down."""
        return 1 if self.side == "high" else -1

    def distance(self, run: Run) -> float:
        """Return a trial's distance from the edge, as a share of the range. Infinite if the trial lacks the knob."""
        value = run.params.get(PARAM.get(self.name, self.name))
        return math.inf if value is None else self._inside(float(value))

    def _inside(self, value: float) -> float:
        (place,) = places(value, self.distribution)
        return round(place if self.side == "low" else 1 - place, 9)

    def even_share(self) -> float:
        """Return the probability of an evenly drawn value at this edge. It depends on steps and whole numbers."""
        if self.knob.step is None and not self._whole():
            return OUTER
        step = float(self.knob.step or 1)
        values = np.arange(float(self.knob.low), float(self.knob.high) + step / 2, step)
        weights = np.log((values + 0.5) / (values - 0.5)) if self.knob.log else np.ones(len(values))
        at_edge = np.array([self._inside(value) <= OUTER for value in values.tolist()])
        return float(weights[at_edge].sum() / weights.sum())

    def _whole(self) -> bool:
        return self.name in WHOLE and self.name not in PARAM

    def wider(self, study: Study) -> Number | None:
        """Return a wider end, in the study's units. None: the setting can't go further.

        The end moves by a factor of 3 on a log scale, else by half of the range. If that exceeds the setting's limit,
        it moves half of the way to the limit.
        """
        end, limit = float(self.knob.ends()[self.side]), self._limit(study)
        span = float(self.knob.high) - float(self.knob.low)
        wider = end * _FACTOR**self.way if self.knob.log else end + self.way * _SHARE * span
        if self.way * (limit - wider) <= 0:
            wider = (end + limit) / 2
        if self._whole():
            grain = int(self.knob.step or (study.head_unit if self.name == "n_embd" else 1))
            whole = int(end) + self.way * grain * max(1, int(abs(wider - end) / grain))
            return whole if self.way * (limit - whole) >= 0 else None
        short = float(f"{wider:.2g}")
        between = self.way * (short - end) > 0 and self.way * (limit - short) > 0
        return None if wider == end else short if between else tidy(wider)

    def _limit(self, study: Study) -> float:
        """Return the highest or lowest value that the setting allows."""
        if self.name in PARAM:
            decay_ends = float(study.baseline["lr_decay_iters"]) / float(study.baseline["max_iters"])
            highest = decay_ends if self.name == "warmup_iters" else 1.0
            return highest if self.side == "high" else 0.0
        allowed = _LIMITS[self.name]
        names = ("high", "below") if self.side == "high" else ("low", "above")
        return next((float(allowed[name]) for name in names if name in allowed), self.way * math.inf)
