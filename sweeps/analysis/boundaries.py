"""Do the best trials crowd an edge of a knob's range? Then better values may lie beyond it.

Three things have to agree. Of the sampler's trials, the best tenth lies in the outer tenth of the range (on the knob's
own scale) more often than values drawn evenly would (binomial; the other trials have their values from elsewhere, and
the star sits at edges by design). The best trial of the whole search is at that edge too. And it is lower than every
trial in the far half of the range, by `min_effect` and by more than seeds differ: a sampler that imitates what was good
so far also crowds where nothing is to be had.
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
"""of a range, on the knob's own scale: its edge"""
LEVEL = 0.05
"""largest probability that even draws crowd either edge of a knob as much"""
_LEAST_BEST, _LEAST_TRIALS = 3, 10
_FACTOR, _SHARE = 3, 0.5
"""how far to widen: by a factor on a log scale, else by a share of the range"""

Side = Literal["low", "high"]
SIDES: tuple[Side, Side] = ("low", "high")
_LIMITS = {spec.name: spec.metadata for spec in dataclasses.fields(TrainConfig)}


@dataclass(frozen=True, kw_only=True)
class BoundaryVerdict:
    """An edge that the best trials crowd."""

    knob: str
    """nanoGPT's name"""
    side: Side
    share: float
    """of the best tenth of the sampler's trials, those at the edge"""
    n: int
    """trials in that best tenth"""
    p: float
    """probability that even draws crowd either edge as much"""
    edge: Number
    """the end of the range, in the study's units (of min_lr and warmup_iters a share)"""
    suggestion: Number
    """an end further out, in the same units"""


def boundaries(results: Results, finals: Sequence[Final]) -> tuple[BoundaryVerdict, ...]:
    """The crowded edges that can be moved, in the order of the study's knobs."""
    best = results.best
    sampled = sorted((final for final in finals if final.run.origin == "sampler"), key=lambda final: final.loss)
    if best is None or best.val_loss is None or len(sampled) < _LEAST_TRIALS:
        return ()
    top = [final.run for final in sampled[: max(_LEAST_BEST, math.ceil(BEST_SHARE * len(sampled)))]]
    needed = best.val_loss + _clear_of_luck(results)
    made = []
    for edge in _edges(results.study):
        at_edge = sum(edge.distance(run) <= OUTER for run in top)
        p = min(1.0, 2 * float(bdtrc(at_edge - 1, len(top), edge.even_share())))
        far = min((final.loss for final in finals if 0.5 < edge.distance(final.run) <= 1), default=-math.inf)
        suggestion = edge.wider(results.study)
        if suggestion is None or p >= LEVEL or edge.distance(best) > OUTER or far < needed:
            continue
        made.append(
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
    return tuple(made)


def _clear_of_luck(results: Results) -> float:
    """The difference, nats, that is no luck of seeds, nor too small to count."""
    losses = [run.val_loss for run in results.baseline_runs if run.val_loss is not None]
    half_width = noise_of(losses).half_width() if losses else None
    return max(results.study.confirm.min_effect, half_width or 0.0)


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
    """the knob's, in Optuna's terms"""
    side: Side

    @property
    def way(self) -> int:
        """1: outwards is up, -1: down."""
        return 1 if self.side == "high" else -1

    def distance(self, run: Run) -> float:
        """How far inside a trial lies, as a share of the range on the knob's own scale; infinite without the knob."""
        value = run.params.get(PARAM.get(self.name, self.name))
        return math.inf if value is None else self._inside(float(value))

    def _inside(self, value: float) -> float:
        (place,) = places(value, self.distribution)
        return round(place if self.side == "low" else 1 - place, 9)

    def even_share(self) -> float:
        """Probability of a value at this edge when they are drawn evenly: of steps and whole numbers there are few."""
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
        """An end further out, in the study's units; None: the setting can't go further.

        3 times as far on a log scale, else by half of the range, or half of the way to what the setting may be.
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
        """What the setting may be at most, or at least."""
        if self.name in PARAM:
            decay_ends = float(study.baseline["lr_decay_iters"]) / float(study.baseline["max_iters"])
            highest = decay_ends if self.name == "warmup_iters" else 1.0
            return highest if self.side == "high" else 0.0
        allowed = _LIMITS[self.name]
        names = ("high", "below") if self.side == "high" else ("low", "above")
        return next((float(allowed[name]) for name in names if name in allowed), self.way * math.inf)
