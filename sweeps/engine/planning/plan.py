"""What a sweep will run, and about how long it takes: computed from the study and the device, before anything runs.

Nothing is taken off for pruning, nor for a verdict that needs fewer confirming runs than it may have: a sweep may end
earlier.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.engine.planning import fit, warnings
from sweeps.engine.planning.speed import CUDA_EFFICIENCY, Shape, Speed, makespan, share_of
from sweeps.store.records import DataFacts
from sweeps.study.knobs import ChoicesKnob, RangeKnob
from sweeps.study.model import Number, as_yaml
from sweeps.study.proposals import (
    baseline_config,
    baseline_params,
    baseline_proposals,
    candidate_proposals,
    config_of,
    star_proposals,
)
from sweeps.study.study import Study
from sweeps.text import count, duration, joined, si
from trainer.config import TrainConfig
from trainer.machine import microbatch
from trainer.machine.device import Device
from trainer.machine.memory import needed
from trainer.model.size import parameters

MOST_VALUES = 13
"""values of a knob that stand for its range"""
BYTES_A_PARAMETER = 12
"""of a checkpoint: float32 weights and AdamW's two moments"""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Trials of one origin."""

    name: str
    """baseline, candidates, star, sampler (what the star suggests among them) or confirm, whose runs are the most there
    may be"""
    trials: int
    seconds: float | None
    """of computing, if one worker did them all; None: not known"""


@dataclass(frozen=True, kw_only=True)
class Width:
    """The baseline at one width, on one worker."""

    n_embd: int
    n_params: int
    """position embeddings included"""
    peak_bytes: int
    """of its micro-batch, or of one sequence where none fits: the estimate of trainer.machine.memory"""
    micro_batch: int | None
    """sequences: on a card the largest that fits (a trial tries out three), on a CPU the one asked for; None: none"""
    accumulation: int | None
    """micro-batches an iteration"""
    tokens_per_s: float | None
    """of training"""
    measured: bool
    """these tokens/s, by earlier runs of this study; else they are estimated"""
    seconds_per_trial: float | None
    """evaluations included"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study will run. Times are estimates, None where the device's speed isn't known."""

    study: str
    device: Device
    workers: int
    phases: tuple[Phase, ...]
    widths: tuple[Width, ...]
    """what a trial takes by width, the baseline's among them"""
    iters: int
    """a trial of the baseline's batch"""
    tokens_per_trial: int
    epochs: float
    """of its training data that a trial makes"""
    epochs_on_part: Mapping[str, float]
    """those of the runs on part of the data, by data_fraction"""
    seconds: float | None
    """of the whole sweep over its workers, nothing pruned"""
    disk_bytes: int
    """for checkpoints: the baseline's, the best trial's, those in flight"""
    warnings: tuple[str, ...]

    @property
    def trials(self) -> int:
        """Runs in all, the baseline's seeds included."""
        return sum(phase.trials for phase in self.phases)

    @property
    def tokens(self) -> int:
        """Trained on in all, nothing pruned."""
        return self.trials * self.tokens_per_trial

    def as_json(self) -> dict[str, Any]:
        """The plan as JSON has it: numbers, text, lists, null."""
        return {**dataclasses.asdict(self), "trials": self.trials, "tokens": self.tokens}

    def lines(self) -> Iterator[str]:
        """The plan for a terminal."""
        unit = "core" if self.device.kind == "cpu" else "card"
        peak = f"{si(self.device.peak, 'FLOP/s')} a {unit}" if self.device.peak else "peak not known"
        workers = count(self.workers, "worker")
        yield f"{self.study}: {count(self.trials, 'run')} on {workers}, {self.device.name} ({peak})"
        yield (
            f"a run: {self.iters} iterations, {si(self.tokens_per_trial)} tokens, {self.epochs:.2g} epochs of its "
            f"data; {si(self.tokens)} tokens in all"
        )
        if self.epochs_on_part:
            made = joined(f"{epochs:.2g} with {part}" for part, epochs in self.epochs_on_part.items())
            yield f"epochs by data_fraction: {made}"
        for phase in self.phases:
            yield f"  {phase.name:<12}{count(phase.trials, 'run'):>10}{_time(phase.seconds):>14}"
        yield (
            f"  {'n_embd':>6}{'parameters':>12}{'memory':>12}{'micro-batch':>14}{'tokens/s':>12}{'':<10}{'a run':>10}"
        )
        for width in self.widths:
            speed = "?" if width.tokens_per_s is None else si(width.tokens_per_s)
            how = "" if width.tokens_per_s is None else " measured" if width.measured else " estimated"
            split = f"{width.micro_batch} x {width.accumulation}" if width.micro_batch else "none fits"
            memory = f"{width.peak_bytes / microbatch.MIB:,.0f} MiB"
            yield (
                f"  {width.n_embd:>6}{si(width.n_params):>12}{memory:>12}{split:>14}"
                f"{speed:>12}{how:<10}{_time(width.seconds_per_trial):>10}"
            )
        if self.seconds is not None:
            assumed = (
                f"{CUDA_EFFICIENCY:.0%} of the card's dense peak" if unit == "card" else "a share of the measured peak"
            )
            but = " where nothing was measured" if any(width.measured for width in self.widths) else ""
            yield (
                f"about {duration(self.seconds)} if nothing is pruned and all confirming runs are needed; an estimate "
                f"that assumes {assumed}{but}"
            )
        yield f"disk for checkpoints: {si(self.disk_bytes, 'B')}"
        yield from (f"warning: {warning}" for warning in self.warnings)


def plan(study: Study, data: DataFacts, device: Device, *, seen: Mapping[Shape, float] | None = None) -> Plan:
    """The plan of `study` on `data`, each worker on a `device`: one that is here, or one known by name.

    `seen` are tokens/s by shape that a worker reached in earlier runs of this study on this device (`speed.seen`).
    The sampler's trials are taken to cost what the study costs on average over the ranges of n_embd and n_layer,
    as if each value were as likely as another, and with dropout where that is a knob. Raises ConfigError for a
    trial that can't be run, SpecError where a horizon in minutes has no length for want of a speed.
    """
    vocab_size = data.vocab_size
    workers = device.count if study.workers.devices == "auto" else len(study.workers.devices)
    dtype = str(study.baseline["dtype"])
    share = share_of(study, device, workers)
    speed = Speed(device=device, share=share, data=data, dtype=dtype, fit=study.fit, seen=seen or {})
    asked, study = study, fit.estimated(study, data, speed.tokens_per_s)
    baseline = baseline_config(study, seed=study.seed, vocab_size=vocab_size)

    seeds = [proposal.config for proposal in baseline_proposals(study, vocab_size=vocab_size)]
    candidates = [proposal.config for proposal in candidate_proposals(study, vocab_size=vocab_size)]
    star = [proposal.config for proposal in star_proposals(study, vocab_size=vocab_size)]
    designed = len(candidates) + len(star)
    candidates = candidates[: study.trials]
    star = star[: study.trials - len(candidates)]
    sampled = study.trials - len(candidates) - len(star)
    dropped = {"dropout": max(study.knobs["dropout"].ends().values())} if "dropout" in study.knobs else {}
    space = _over(study, ("n_embd", "n_layer"), vocab_size=vocab_size, changes=dropped)

    expected = _mean(speed.seconds(config) for config in space)
    costs = {
        "baseline": [speed.seconds(config) for config in seeds],
        "candidates": [speed.seconds(config) for config in candidates],
        "star": [speed.seconds(config) for config in star],
        "sampler": [expected] * sampled,
        "confirm": [expected] * study.confirm.max_trials,  # at most; some are half as long
    }
    total = makespan([cost for phase in costs.values() for cost in phase], workers=workers)
    widths = {
        config.n_embd: config for config in (*_over(study, ("n_embd",), vocab_size=vocab_size, changes={}), baseline)
    }
    largest = max(parameters(config) for config in (*seeds, *candidates, *star, *space))
    tokens_per_trial = baseline.max_iters * baseline.tokens_per_iter
    sharers = workers if device.kind == "cpu" else 1
    rows = tuple(_width(config, speed, device, sharers=sharers) for _, config in sorted(widths.items()))
    too_wide = [row.n_embd for row in rows if row.micro_batch is None]
    return Plan(
        study=study.name,
        device=device,
        workers=workers,
        phases=tuple(Phase(name=name, trials=len(costs[name]), seconds=_sum(costs[name])) for name in costs),
        widths=rows,
        iters=baseline.max_iters,
        tokens_per_trial=tokens_per_trial,
        epochs=data.epochs(baseline),
        epochs_on_part={
            as_yaml(config.data_fraction): data.epochs(config)
            for config in star
            if config.data_fraction != baseline.data_fraction
        },
        seconds=total,
        # a new checkpoint is whole before the one that it replaces goes
        disk_bytes=BYTES_A_PARAMETER * (len(seeds) * parameters(baseline) + (1 + 2 * workers) * largest),
        warnings=(
            *(warnings.of_length(study) if study is not asked else ()),
            *warnings.of_design(study, designed),
            *warnings.of_evaluation(baseline, data),
            *warnings.of_memory(too_wide, device),
            *warnings.of_epochs(tokens_per_trial, round(baseline.data_fraction * data.train_tokens)),
            *warnings.of_time(study, speed, total=total, expected=expected, sampled=sampled, workers=workers),
        ),
    )


def _width(config: TrainConfig, speed: Speed, device: Device, *, sharers: int) -> Width:
    kind, mixed = device.kind, device.kind == "cuda" and config.dtype != "float32"
    free = math.inf
    if device.free is not None and device.memory is not None:
        free = microbatch.share(device.free, device.memory, sharers)
    try:
        splits = microbatch.fitting(config, kind=kind, mixed=mixed, free=free)
    except microbatch.Infeasible:
        chosen, peak_of = None, microbatch.split(config, 1)
    else:
        chosen = peak_of = microbatch.as_asked(splits, config) if kind == "cpu" or device.free is None else splits[0]
    return Width(
        n_embd=config.n_embd,
        n_params=parameters(config),
        peak_bytes=needed(peak_of, kind=kind, mixed=mixed).total,
        micro_batch=chosen.batch_size if chosen else None,
        accumulation=chosen.gradient_accumulation_steps if chosen else None,
        tokens_per_s=speed.tokens_per_s(config),
        measured=speed.measured(config),
        seconds_per_trial=speed.seconds(config),
    )


def _over(study: Study, names: Iterable[str], *, vocab_size: int, changes: Mapping[str, Number]) -> list[TrainConfig]:
    """The baseline with `changes`, at every combination of these knobs' values."""
    swept = {name: _values(study.knobs[name]) for name in names if name in study.knobs}
    params = {**baseline_params(study), **changes}
    return [
        config_of(study, {**params, **dict(zip(swept, values, strict=True))}, seed=study.seed, vocab_size=vocab_size)
        for values in itertools.product(*swept.values())
    ]


def _values(knob: RangeKnob | ChoicesKnob) -> list[Number]:
    """A knob's whole values, or as many of a wide range as stand for it, evenly spaced on its scale."""
    return list(knob.choices) if isinstance(knob, ChoicesKnob) else list(knob.spread(MOST_VALUES))


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else statistics.fmean(value for value in known if value is not None)


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else math.fsum(value for value in known if value is not None)


def _time(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)
