"""The workload of a study: the runs that it will have at most, and what they cost on one worker."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweeps.engine.planning.speed import Speed
from sweeps.study import origin_runs
from sweeps.study.knobs import ChoicesKnob, RangeKnob
from sweeps.study.model import Number
from sweeps.study.proposals import ONE_AT_A_TIME, baseline_params, config_of, designed
from sweeps.study.study import Study
from trainer.config import TrainConfig

MOST_VALUES = 13
"""values of a knob that represent a wide range"""
CONFIRM_SHARE = 7 / 8
"""mean length of the confirm phase's runs: a quarter of them, in the studies that were recorded, has half the length"""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The runs of a study. The designed ones are cut to the number of trials."""

    origin: Sequence[TrainConfig]
    """the origin's run, if the sweep trains it, and going on; empty where trials start from scratch"""
    races: Sequence[TrainConfig]
    """as long as `race.iters`; a promising one takes up to twice as long"""
    baseline: Sequence[TrainConfig]
    candidates: Sequence[TrainConfig]
    one_at_a_time: Sequence[TrainConfig]
    designed: int
    """candidates and one-at-a-time trials, including those that `trials` has no room for"""
    sampled: int
    """trials left for the sampler, combinations included"""
    space: Sequence[TrainConfig]
    """shapes that a sampled trial has with equal probability: all values of n_embd and n_layer, the most dropout"""
    confirming: int
    """runs of the confirm phase, at most"""

    def costs(self, speed: Speed) -> dict[str, list[float | None]]:
        """Return the seconds of every run by origin; None where a speed is unknown."""
        expected = self.expected(speed)
        return {
            **({"origin": [speed.seconds(config) for config in self.origin]} if self.origin else {}),
            **({"races": [speed.seconds(config) for config in self.races]} if self.races else {}),
            "baseline": [speed.seconds(config) for config in self.baseline],
            "candidates": [speed.seconds(config) for config in self.candidates],
            ONE_AT_A_TIME: [speed.seconds(config) for config in self.one_at_a_time],
            "sampler": [expected] * self.sampled,
            "confirm": [None if expected is None else CONFIRM_SHARE * expected] * self.confirming,
        }

    def expected(self, speed: Speed) -> float | None:
        """Return the mean seconds of a sampled trial; None where a speed is unknown."""
        seconds = [speed.seconds(config) for config in self.space]
        return None if None in seconds else statistics.fmean(cost for cost in seconds if cost is not None)


def workload(study: Study, *, vocab_size: int) -> Workload:
    """Return the workload of `study`. Raises ConfigError for a trial that can't be run."""
    known = designed(study, vocab_size=vocab_size)
    candidates = [proposal.config for proposal in known.candidates][: study.trials]
    one_at_a_time = [proposal.config for proposal in known.one_at_a_time][: study.trials - len(candidates)]
    dropout = {"dropout": max(study.knobs["dropout"].ends().values())} if "dropout" in study.knobs else {}
    groundwork = list(_groundwork(study, vocab_size=vocab_size))
    return Workload(
        origin=[config for phase, config in groundwork if phase == origin_runs.ORIGIN],
        races=[config for phase, config in groundwork if phase == origin_runs.RACE],
        baseline=[proposal.config for proposal in known.baseline],
        candidates=candidates,
        one_at_a_time=one_at_a_time,
        designed=len(known.candidates) + len(known.one_at_a_time),
        sampled=study.trials - len(candidates) - len(one_at_a_time),
        space=spread(study, ("n_embd", "n_layer"), vocab_size=vocab_size, changes=dropout),
        confirming=study.confirm.max_trials,
    )


def _groundwork(study: Study, *, vocab_size: int) -> Iterator[tuple[str, TrainConfig]]:
    """Yield the phases and configs of the runs before the first trial, each as long as it trains."""
    if not study.branches:
        return
    known = {proposal.key: proposal for proposal in origin_runs.designed(study, vocab_size=vocab_size)}
    if not any(proposal.phase == origin_runs.RACE for proposal in known.values()):  # the checkpoint isn't open yet
        known |= {proposal.key: proposal for proposal in origin_runs.races(study, vocab_size=vocab_size)}
    for proposal in known.values():
        config = proposal.config
        if proposal.phase == origin_runs.RACE:
            assert study.race is not None
            config = as_long_as(config, min(study.race.iters, config.max_iters))
        yield proposal.phase, config if proposal.origin != origin_runs.GOING_ON else as_long_as(config, study.iters)
    if origin_runs.GOING_ON_KEY not in known:
        base = origin_runs.origin_config(study, seed=study.seed, vocab_size=vocab_size)
        yield origin_runs.ORIGIN, as_long_as(base, study.iters)


def as_long_as(config: TrainConfig, iters: int) -> TrainConfig:
    """Return the config of a run that is halted at `iters`, as far as its cost is concerned."""
    return config.replace(max_iters=iters)


def spread(study: Study, names: Iterable[str], *, vocab_size: int, changes: Mapping[str, Number]) -> list[TrainConfig]:
    """Return the baseline with `changes`, at every combination of the values of these knobs."""
    swept = {name: values(study.knobs[name]) for name in names if name in study.knobs}
    params = {**baseline_params(study), **changes}
    return [
        config_of(
            study, {**params, **dict(zip(swept, combination, strict=True))}, seed=study.seed, vocab_size=vocab_size
        )
        for combination in itertools.product(*swept.values())
    ]


def values(knob: RangeKnob | ChoicesKnob) -> list[Number]:
    """Return all values of a knob of whole numbers, or MOST_VALUES of a wide range, evenly spaced on its scale."""
    return list(knob.choices) if isinstance(knob, ChoicesKnob) else list(knob.spread(MOST_VALUES))
