"""The plan: what a sweep will run and about how long it takes, from the study and the device alone.

It is an upper bound. Nothing is subtracted for pruned trials, or for a verdict that needs fewer confirming runs than
the study allows. Worker time is the sum over runs; wall time passes while all workers run side by side.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.engine.planning import minutes, warnings
from sweeps.engine.planning.speed import Shape, Speed, makespan, share_of
from sweeps.engine.planning.widths import Width, widths
from sweeps.engine.planning.workload import Workload, workload
from sweeps.store.records import DataFacts
from sweeps.study import pilot_runs
from sweeps.study.model import as_yaml
from sweeps.study.pilot import SEEDS
from sweeps.study.proposals import ONE_AT_A_TIME
from sweeps.study.start import CheckpointStart, TrainStart
from sweeps.study.study import Study
from sweeps.text import count, duration, joined, si
from trainer.machine import microbatch
from trainer.machine.device import Device
from trainer.model.size import parameters

BYTES_PER_PARAMETER = 12
"""of a checkpoint: float32 weights and AdamW's two moments"""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The trials of one origin."""

    name: str
    """origin, races, baseline, candidates, one-at-a-time, sampler (combinations included) or confirm (at most)"""
    trials: int
    """its runs"""
    seconds: float | None
    """worker time: of all its runs, one after the other; None: not known"""
    wall_seconds: float | None
    """wall time on all workers, from the end of the phase before"""


@dataclass(frozen=True, kw_only=True)
class PilotPlan:
    """What the pilot may do before the first trial."""

    lengths: tuple[int, ...]
    """iterations, the shortest first; at each, the baseline runs on all of the pilot's seeds"""
    largest_sd: float
    """nats; it ends where the seeds' final losses have at most this standard deviation"""
    seconds: float | None
    """duration of the whole sweep if the longest is chosen"""

    def lines(self) -> Iterator[str]:
        """Yield the pilot as lines for a terminal."""
        first, *more = self.lengths
        then = "".join(f", then of {iters:,}" for iters in more[:1]) + (", ..." if len(more) > 1 else "")
        yield (
            f"pilot: {count(SEEDS, 'run')} of {first:,} iterations{then} until seeds differ by at most "
            f"{as_yaml(self.largest_sd)} nats (sd), at most {self.lengths[-1]:,}; the last {SEEDS} are the baseline's"
        )
        if self.seconds is not None and more:
            yield (
                f"this plan is for {first:,} iterations; if the pilot chooses {self.lengths[-1]:,}, the sweep takes "
                f"about {duration(self.seconds)}"
            )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study will run. Times are estimates; None means that the device's speed is not known."""

    study: str
    """its name"""
    device: Device
    """what each worker trains on"""
    workers: int
    """runs at a time"""
    phases: tuple[Phase, ...]
    """in the order in which they run"""
    widths: tuple[Width, ...]
    """cost of a trial by width; the baseline's width is among them"""
    iters: int
    """iterations of a trial with the baseline's batch"""
    tokens_per_trial: int
    """tokens that a trial trains on"""
    epochs: float
    """epochs of the training data per trial"""
    epochs_on_part: Mapping[str, float]
    """epochs of the runs on part of the data, by data_fraction"""
    seconds: float | None
    """wall time of the whole sweep on all workers, nothing pruned"""
    busy: float
    """other processes that want one of the cores, as the load of the last minute has it"""
    disk_bytes: int
    """checkpoints of the baseline, the best trial and the trials in flight"""
    warnings: tuple[str, ...]
    """what to know before running it, in sentences"""
    dtype: str = "float32"
    """that the study asks for"""
    tokens_before: int = 0
    """tokens of the origin and the races"""
    start: tuple[str, ...] = ()
    """where trials start and what runs before them, in sentences; empty: from scratch"""
    pilot: PilotPlan | None = None
    """None: the study has no pilot. The rest of the plan is for the pilot's first length"""

    @property
    def trials(self) -> int:
        """Number of runs, the baseline's seeds included."""
        return sum(phase.trials for phase in self.phases)

    @property
    def tokens(self) -> int:
        """Tokens trained on in all runs, nothing pruned."""
        before = sum(phase.trials for phase in self.phases if phase.name in ("origin", "races"))
        return (self.trials - before) * self.tokens_per_trial + self.tokens_before

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON: numbers, text, lists, null."""
        return {**dataclasses.asdict(self), "trials": self.trials, "tokens": self.tokens}

    def lines(self) -> Iterator[str]:
        """Yield the plan as lines for a terminal."""
        unit = "core" if self.device.kind == "cpu" else "card"
        used = f" in {self.device.used(self.dtype)}" if unit == "card" else ""
        known = self.device.peak_in(self.dtype)
        peak = f"{si(known, 'FLOP/s')} per {unit}{used}" if known else "peak not known"
        workers = count(self.workers, "worker")
        yield f"{self.study}: {count(self.trials, 'run')} on {workers}, {self.device.name} ({peak})"
        yield from self.start
        what = "per branch" if self.start else "per run"
        yield (
            f"{what}: {self.iters:,} iterations, {si(self.tokens_per_trial)} tokens, {self.epochs:.2g} epochs of the "
            f"data; {si(self.tokens)} tokens in all"
        )
        if self.epochs_on_part:
            parts = joined(f"{epochs:.2g} with {part}" for part, epochs in self.epochs_on_part.items())
            yield f"epochs by data_fraction: {parts}"
        yield f"  {'phase':<12}{'':>10}{'worker time':>14}{f'on {workers}':>14}"
        every = Phase(
            name="together",
            trials=self.trials,
            seconds=_sum(phase.seconds for phase in self.phases),
            wall_seconds=self.seconds,
        )
        for phase in (*self.phases, every):
            name = _PHASES_IN_WORDS.get(phase.name, phase.name)
            times = f"{_time(phase.seconds):>14}{_time(phase.wall_seconds):>14}"
            yield f"  {name:<12}{count(phase.trials, 'run'):>10}{times}"
        yield (
            f"  {'n_embd':>6}{'parameters':>12}{'memory':>12}{'micro-batch':>14}{'tokens/s':>12}{'':<10}{'per run':>12}"
        )
        yield from map(_width_line, self.widths)
        if self.seconds is not None:
            others = f", beside {self.busy:.1f} other busy processes," if self.busy >= _NOTED else ""
            shared = f" of {count(self.device.count, 'core')}{others}" if unit == "core" else ""
            yield (
                f"about {duration(self.seconds)} on {workers}{shared} if nothing is pruned and all confirming runs are "
                f"needed, estimated from {self._basis(unit)}"
            )
        yield from () if self.pilot is None else self.pilot.lines()
        yield f"disk for checkpoints: {si(self.disk_bytes, 'B')}"
        yield from (f"note: {note}" for note in self.notes)
        yield from (f"warning: {warning}" for warning in self.warnings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the device does otherwise than asked, or has that is not used."""
        used = self.device.used(self.dtype)
        other = f"{self.device.name} has no {self.dtype}: runs train in {used}, with a scaled loss"
        return tuple(filter(None, (self.device.note, "" if used == self.dtype else other)))

    def _basis(self, unit: str) -> str:
        """Return what the times were estimated from."""
        shares = sorted(width.efficiency for width in self.widths if width.efficiency is not None)
        sources = ["measured speeds"] if any(width.measured for width in self.widths) else []
        if shares:
            span = " to ".join(dict.fromkeys(f"{share:.0%}" for share in (shares[0], shares[-1])))
            peak = "the card's dense peak" if unit == "card" else "the peak of a core"
            sources.append(f"{span} of {peak} (assumed; less for narrow models)")
        return " and ".join(sources)


_NOTED = 0.1
"""fewest busy processes of others that the plan mentions"""
_PHASES_IN_WORDS = {ONE_AT_A_TIME: "single-knob"}


def _width_line(width: Width) -> str:
    speed, source = "?", ""
    if width.tokens_per_s is not None:
        speed, source = si(width.tokens_per_s), " measured" if width.measured else " estimated"
    split = f"{width.micro_batch} x {width.accumulation}" if width.micro_batch else "none fits"
    memory = f"{width.peak_bytes / microbatch.MIB:,.0f} MiB"
    return (
        f"  {width.n_embd:>6}{si(width.n_params):>12}{memory:>12}{split:>14}"
        f"{speed:>12}{source:<10}{_time(width.seconds_per_trial):>12}"
    )


def plan(
    study: Study, data: DataFacts, device: Device, *, seen: Mapping[Shape, float] | None = None, busy: float = 0.0
) -> Plan:
    """Return the plan of `study` on `data`; every worker has a `device`, which need not be in this machine.

    `seen` are the tokens/s per worker by shape, measured in earlier runs of this study on this device (`speed.seen`).
    `busy` are the other processes that want a core, which slow down workers on a CPU.
    A sampled trial costs the mean over all values of n_embd and n_layer, with dropout where that is a knob. Raises
    ConfigError for a trial that can't be run, and SpecError for a horizon in minutes on a device of unknown speed.
    """
    asked = study.workers
    listed = device.count if asked.devices == "auto" else len(asked.devices)
    workers = asked.gpus or asked.cpus or listed
    busy = busy if device.kind == "cpu" else 0.0
    speed = Speed(
        device=device,
        share=share_of(study, device, workers, busy=busy),
        data=data,
        dtype=str(study.baseline["dtype"]),
        fit=study.fit,
        seen=seen or {},
    )
    written, study = study, minutes.estimated(study, data, speed.tokens_per_s)
    work = workload(study, vocab_size=data.vocab_size)
    baseline = work.baseline[0]
    costs = work.costs(speed)
    phases = tuple(_phases(costs, workers=workers))
    seconds = makespan(list(itertools.chain(*costs.values())), workers=workers)
    pilot = _pilot(study, data, speed, workers=workers)
    rows = widths(study, baseline, speed, device, workers=workers)
    tokens_per_trial = baseline.max_iters * baseline.tokens_per_iter
    return Plan(
        study=study.name,
        device=device,
        workers=workers,
        phases=phases,
        widths=rows,
        iters=baseline.max_iters,
        tokens_per_trial=tokens_per_trial,
        epochs=data.epochs(baseline),
        epochs_on_part={
            as_yaml(config.data_fraction): data.epochs(config)
            for config in work.one_at_a_time
            if config.data_fraction != baseline.data_fraction
        },
        seconds=seconds,
        dtype=speed.dtype,
        busy=busy,
        disk_bytes=_checkpoint_bytes(work, workers=workers),
        tokens_before=sum(config.max_iters * config.tokens_per_iter for config in (*work.origin, *work.races)),
        start=tuple(_start_lines(study)),
        warnings=(
            *data.warnings,
            *warnings.of_cluster(study, device, workers=workers),
            *(warnings.of_length(study) if study is not written else ()),
            *warnings.of_design(study, work.designed),
            *warnings.of_evaluation(study, baseline, data),
            *warnings.of_memory([row.n_embd for row in rows if row.micro_batch is None], device),
            *warnings.of_epochs(tokens_per_trial, round(baseline.data_fraction * data.train_tokens)),
            *warnings.of_time(study, work, speed, seconds=seconds, workers=workers),
            *warnings.of_pilot(study, seconds if pilot is None else pilot.seconds),
        ),
        pilot=pilot,
    )


def _phases(costs: Mapping[str, Sequence[float | None]], *, workers: int) -> Iterator[Phase]:
    """Yield the phases. A worker that is idle at the end of a phase begins the next, so their wall times add up."""
    before: list[float | None] = []
    for name, runs in costs.items():
        began, before = makespan(before, workers=workers), [*before, *runs]
        ended = makespan(before, workers=workers)
        wall = None if began is None or ended is None else ended - began
        yield Phase(name=name, trials=len(runs), seconds=_sum(runs), wall_seconds=wall)


def _start_lines(study: Study) -> Iterator[str]:
    """Yield where the branches of a study start, and how long its races are."""
    match study.start:
        case CheckpointStart(checkpoint=checkpoint):
            yield f"start: {checkpoint}; every trial is a branch of it, {study.iters:,} iterations long"
        case TrainStart(train=limits):
            yield (
                f"start: the baseline trains until its curve is a plateau, at most {limits.max_iters:,} iterations; "
                f"every trial is a branch of it, {study.iters:,} iterations long"
            )
    if study.race is not None:
        raced = joined(f"{name} {as_yaml(value)}" for name, value in study.race.changes())
        yield (
            f"races: {raced}, {count(study.race.seeds, 'seed')} each, {study.race.iters:,} iterations from scratch; a "
            "promising one goes on to twice as many"
        )


def _pilot(study: Study, data: DataFacts, speed: Speed, *, workers: int) -> PilotPlan | None:
    """Return what the pilot may do. None: the study has none. The longest trials come after runs at every length."""
    if study.pilot is None or study.largest_sd is None:
        return None
    lengths = pilot_runs.lengths(study)
    longest = workload(pilot_runs.at_length(study, lengths[-1]), vocab_size=data.vocab_size).costs(speed)
    seconds = [makespan(list(itertools.chain(*longest.values())), workers=workers)]
    for iters in lengths[:-1]:
        runs = pilot_runs.proposals(study, iters, vocab_size=data.vocab_size)
        seconds.append(makespan([speed.seconds(run.config) for run in runs], workers=workers))
    return PilotPlan(lengths=lengths, largest_sd=study.largest_sd, seconds=_sum(seconds))


def _checkpoint_bytes(work: Workload, *, workers: int) -> int:
    """Return the disk space for all baseline seeds, the best trial, and three checkpoints per trial in flight.

    A trial in flight keeps the last two, and a new one is complete before the older is deleted.
    """
    configs = (*work.baseline, *work.candidates, *work.one_at_a_time, *work.space)
    largest = max(parameters(config) for config in configs)
    baseline = len(work.baseline) * parameters(work.baseline[0])
    return BYTES_PER_PARAMETER * (baseline + (1 + 3 * workers) * largest)


def _sum(seconds: Iterable[float | None]) -> float | None:
    costs = list(seconds)
    return None if None in costs else math.fsum(cost for cost in costs if cost is not None)


def _time(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)
