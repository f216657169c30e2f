"""Do the best trials crowd an edge of a knob's range? Then better values may lie beyond it.

Three things have to agree. Of the sampler's trials, the best tenth lies in the outer tenth of the range (on the knob's
own scale) more often than values drawn evenly would (binomial; the other trials have their values from elsewhere, and
the star sits at edges by design). The best trial of the whole search is among those at the edge. And no trial of the
far half of the range comes within `min_effect` of it: a sampler that imitates what was good so far also crowds where
nothing is to be had.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binom

from sweeps.chosen import best_run
from sweeps.finals import Final, finals
from sweeps.knobs import PARAM, Number, RangeKnob
from sweeps.prospects import BEST_SHARE
from sweeps.results import Results, Run
from sweeps.settings import WHOLE
from sweeps.study import Study, tidy
from sweeps.words import count, show
from trainer.config import TrainConfig

OUTER = 0.1
"""of a range, on the knob's own scale: its edge"""
LEVEL = 0.05
"""largest probability that even draws crowd either edge of a knob as much"""
_LEAST_BEST, _LEAST_TRIALS = 3, 10
_FACTOR, _SHARE = 3, 0.5
"""how far to widen: by a factor on a log scale, else by a share of the range"""

Side = Literal["low", "high"]


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
    """an end that is further out, in the same units"""


def boundaries(results: Results) -> tuple[BoundaryVerdict, ...]:
    """The crowded edges that can be moved, in the order of the study's knobs."""
    known, best = finals(results), best_run(results)
    sampled = sorted((final for final in known if final.run.origin == "sampler"), key=lambda final: final.loss)
    if best is None or len(sampled) < _LEAST_TRIALS:
        return ()
    top = [final.run for final in sampled[: max(_LEAST_BEST, math.ceil(BEST_SHARE * len(sampled)))]]
    sides: tuple[Side, Side] = ("low", "high")
    verdicts = (
        _verdict(name, knob, side, top, best, known, results.study)
        for name, knob in results.study.sampled.items()
        if isinstance(knob, RangeKnob)
        for side in sides
    )
    return tuple(verdict for verdict in verdicts if verdict is not None)


def _verdict(
    name: str, knob: RangeKnob, side: Side, top: Sequence[Run], best: Run, known: Sequence[Final], study: Study
) -> BoundaryVerdict | None:
    param = PARAM.get(name, name)

    def depth(run: Run) -> float:
        """How far inside a trial lies: 0 at this edge, 1 at the other."""
        return float(_depths(knob, side, np.array([run.params[param]], dtype=float))[0])

    suggestion = beyond(name, knob, side, study)
    at_edge = sum(depth(run) <= OUTER for run in top)
    p = min(1.0, 2 * float(binom.sf(at_edge - 1, len(top), _evenly(name, knob, side))))
    far = [final.loss for final in known if param in final.run.params and depth(final.run) > 0.5]
    falls = best.val_loss is not None and best.val_loss + study.confirm.min_effect < min(far, default=-math.inf)
    if suggestion is None or p >= LEVEL or depth(best) > OUTER or not falls:
        return None
    edge = knob.ends()[side]
    share = at_edge / len(top)
    return BoundaryVerdict(knob=name, side=side, share=share, n=len(top), p=p, edge=edge, suggestion=suggestion)


def _depths(knob: RangeKnob, side: Side, values: Floats) -> Floats:
    """(n,) each value's distance from an edge, as a share of the range on the knob's own scale."""
    low, high = float(knob.low), float(knob.high)
    if knob.log:
        low, high, values = math.log(low), math.log(high), np.log(values)
    places = (values - low) / (high - low)
    return np.round(places if side == "low" else 1 - places, 12)


def _evenly(name: str, knob: RangeKnob, side: Side) -> float:
    """The probability of a value at the edge when they are drawn evenly: of whole or stepped values there are few."""
    whole = name in WHOLE and name not in PARAM
    if not whole and knob.step is None:
        return OUTER
    step = float(knob.step or 1)
    values = np.arange(float(knob.low), float(knob.high) + step / 2, step)
    weights = np.log((values + 0.5) / (values - 0.5)) if knob.log else np.ones(len(values))
    return float(weights[_depths(knob, side, values) <= OUTER].sum() / weights.sum())


def beyond(name: str, knob: RangeKnob, side: Side, study: Study) -> Number | None:
    """A wider end of the range in the study's units: 3 times as far on a log scale, else by half of the range.

    Not beyond what the setting may be: at most half of the way there. None: it is there already.
    """
    way = 1 if side == "high" else -1
    edge, limit = float(knob.ends()[side]), _limit(name, side, study)
    wider = edge * _FACTOR**way if knob.log else edge + way * _SHARE * (float(knob.high) - float(knob.low))
    if way * (limit - wider) <= 0:
        wider = (edge + limit) / 2
    if name in WHOLE and name not in PARAM:
        grain = int(knob.step or (study.head_unit if name == "n_embd" else 1))
        wider = edge + way * grain * max(1, int(abs(wider - edge) / grain))
        return int(wider) if way * (limit - wider) >= 0 else None
    short = float(f"{wider:.2g}")
    wider = short if way * (short - edge) > 0 and way * (limit - short) > 0 else tidy(wider)
    return wider if way * (wider - edge) > 0 else None
