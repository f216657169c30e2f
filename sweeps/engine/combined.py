"""Combined trials: all knobs at once, each at the value that did best alone.

The single-knob trials compare the ends of each knob's range with the baseline. Where knobs act mostly independently,
their combination is far better than any single change, and a sampler needs dozens of trials to find it. So the
combination is tried right after the single changes. Box and Wilson (1951) continue from such a point by steepest
descent; here the sampler continues. Only the choice of these one or two trials assumes that knobs act independently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from sweeps.store.records import Outcome, Run
from sweeps.study.baseline import WHOLE
from sweeps.study.knobs import PARAM, ChoicesKnob, RangeKnob
from sweeps.study.proposals import ONE_AT_A_TIME, ParamValue, Proposal, config_of
from sweeps.study.study import Study
from trainer.errors import ConfigError

ORIGIN = "combined"
_INFORMATIVE = {Outcome.COMPLETE, Outcome.DIVERGED, Outcome.INFEASIBLE}
"""outcomes that say something about a config; a crash doesn't"""

Losses = Mapping[ParamValue, float]
"""final losses in nats by the value of one knob, all else as in the baseline; infinite: diverged or did not fit"""


def combined_proposals(study: Study, runs: Iterable[Run], *, vocab_size: int) -> list[Proposal]:
    """Return at most two untried combinations that the ended single-knob runs suggest."""
    runs = [run for run in runs if run.optuna_study == study.name and run.seed == study.seed]
    tried = {run.config for run in runs}
    if not any(run.origin == "baseline" and run.outcome in _INFORMATIVE for run in runs):
        return []
    proposals = []
    for way, between, label in (
        ("parabolas", True, "every knob at the lowest point of a parabola through its own trials"),
        ("best", False, "every knob at the best of the values tried alone"),
    ):
        params = {
            PARAM.get(name, name): _choice(name, knob, _losses(name, runs), between=between)
            for name, knob in study.sampled.items()
        }
        try:
            config = config_of(study, params, seed=study.seed, vocab_size=vocab_size)
        except ConfigError:
            continue  # each value can be run alone, not all of them together
        if config not in tried:
            tried.add(config)
            proposals.append(
                Proposal(
                    key=f"{ORIGIN}:{way}",
                    phase="search",
                    origin=ORIGIN,
                    label=label,
                    knob=None,
                    seed=study.seed,
                    params=params,
                    config=config,
                )
            )
    return proposals


def lowest_point(losses: Mapping[float, float]) -> float:
    """Return the place in a range, 0 to 1, where a parabola through the losses at three places is lowest.

    Returns the place with the lowest loss if fewer than three losses are finite or the parabola opens downwards.
    """
    finite = sorted((place, loss) for place, loss in losses.items() if math.isfinite(loss))
    best = min(losses, key=lambda place: losses[place])
    if len(finite) != 3:
        return best
    (a, at_a), (b, at_b), (c, at_c) = finite
    before, after = (at_b - at_a) / (b - a), (at_c - at_b) / (c - b)
    bend = (after - before) / (c - a)
    if bend <= 0:
        return best
    return min(max((a + b) / 2 - before / (2 * bend), 0.0), 1.0)


def _losses(name: str, runs: Iterable[Run]) -> Losses:
    """Return the losses by the values at which one knob was tried alone, the baseline's value first."""
    param = PARAM.get(name, name)
    return {
        run.params[param]: math.inf if run.val_loss is None else run.val_loss
        for run in runs
        if run.outcome in _INFORMATIVE
        and (run.origin == "baseline" or (run.origin == ONE_AT_A_TIME and run.knob == name))
    }


def _choice(name: str, knob: RangeKnob | ChoicesKnob, losses: Losses, *, between: bool) -> ParamValue:
    """Choose the value with the lowest loss, the baseline's in a tie. `between` allows values between those tried."""
    if isinstance(knob, ChoicesKnob) or not between:
        return min(losses, key=lambda value: losses[value])
    value = knob.at(lowest_point({knob.place(float(value)): loss for value, loss in losses.items()}))
    return round(value) if name in WHOLE and name not in PARAM else float(value)
