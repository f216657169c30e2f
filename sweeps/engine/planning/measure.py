"""Measured speed of the workers, from short runs of the real trainer on all of them at once.

All workers run together, because neighbours slow each other down and an idle machine would promise too much. Each shape
is trained for 16 steps with evaluations at 0, 8 and 16. The first 8 steps warm up compiler, caches and allocator; the
speed of the other 8 is taken.
"""

from __future__ import annotations

import shutil
import signal
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeps import signals
from sweeps.engine.planning.minutes import fitted, shapes
from sweeps.store.records import DataFacts
from sweeps.study.horizon import fit_in_words, provisional
from sweeps.study.sections import ShapeSpeed
from sweeps.study.study import Study
from sweeps.text import count
from sweeps.workers.pool import Crashed, Died, Finished, Job, PointMessage, Pool, Pulse
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.errors import UserError
from trainer.machine.microbatch import Limits
from trainer.points import Answer, Result

STEPS = 16
_TICK_SECONDS = 0.5


class MeasuringError(Exception):
    """No worker can train even a short run, so the fault is not in a trial."""


@dataclass
class _Reports:
    """The workers' reports about one shape."""

    speeds: list[float] = field(default_factory=list)
    """tokens per second"""
    troubles: list[str] = field(default_factory=list)
    infeasible: list[str] = field(default_factory=list)


def fit_horizon(
    study: Study,
    *,
    pool: Pool,
    dataset: Dataset,
    folder: Path,
    say: Callable[[str], None],
    interrupts: Sequence[signal.Signals],
) -> Study:
    """Return the study with its horizon in minutes fitted to these workers; other studies as they are.

    Raises what `measure` raises, and SpecError where the minutes are too few.
    """
    if provisional(study) is study:
        return study
    configs = shapes(study, vocab_size=dataset.vocab_size)
    speeds = measure(configs, pool, data=dataset.path, folder=folder, say=say, interrupts=interrupts)
    study = fitted(study, speeds, DataFacts.of(dataset))
    say(f"horizon: {next(fit_in_words(study))}")
    return study


def measure(
    configs: Sequence[TrainConfig],
    pool: Pool,
    *,
    data: Path,
    folder: Path,
    say: Callable[[str], None],
    interrupts: Sequence[signal.Signals],
) -> list[ShapeSpeed]:
    """Return the tokens/s of each config, the median over the workers. Configs that don't fit into memory are left out.

    The pool must be idle. `folder` is created and removed. Raises what signals.end raises once there are `interrupts`;
    UserError for a worker's UserError, and if no config fits into memory; MeasuringError if no worker can train a
    config.
    """
    say(f"measuring the speed of trials for the horizon: {count(len(configs), 'shape')}, {STEPS} steps each")
    shutil.rmtree(folder, ignore_errors=True)
    speeds, limits = [], Limits()
    try:
        for number, config in enumerate(configs, start=1):
            name = f"width {config.n_embd}, depth {config.n_layer}"
            run_folder = folder / str(number)
            reports = _race(_short(config), pool, limits, data=data, folder=run_folder, interrupts=interrupts)
            if reports.speeds:
                speed = statistics.median(reports.speeds)
                speeds.append(ShapeSpeed(n_embd=config.n_embd, n_layer=config.n_layer, tokens_per_s=speed))
                say(f"{number} of {len(configs)}: {name}: {speed:,.0f} tokens/s per worker")
            elif reports.infeasible:
                say(f"{number} of {len(configs)}: {name}: {reports.infeasible[0]}")
            else:
                raise MeasuringError(f"no worker could train {name} for {STEPS} steps\n{reports.troubles[0]}")
    except (KeyboardInterrupt, SystemExit):
        say("stopped while measuring; nothing is stored yet, so the same command starts again from the beginning")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not speeds:
        raise UserError("horizon.minutes: none of the study's trials fits into memory; lower n_embd or block_size")
    return speeds


def _short(config: TrainConfig) -> TrainConfig:
    """Return the config for a short run, whose losses are not used."""
    return config.replace(
        max_iters=STEPS,
        lr_decay_iters=STEPS,
        warmup_iters=1,
        eval_interval=STEPS // 2,
        eval_windows=2,
        final_windows=2,
    )


def _race(
    config: TrainConfig, pool: Pool, limits: Limits, *, data: Path, folder: Path, interrupts: Sequence[signal.Signals]
) -> _Reports:
    """Run the same config on every worker at once and collect their reports."""
    reports = _Reports()
    waiting: dict[int, Job] = {}

    def start(run: int, device: str) -> None:
        waiting[run] = Job(
            run=run,
            attempt=0,  # a study's runs count from 1
            config=config,
            data=data,
            out=folder / str(run),
            device=device,
            largest=limits.of(config, device),
            sharers=pool.devices.count(device),
        )
        pool.start(waiting[run])

    for run, device in enumerate(pool.idle(), start=1):
        start(run, device)
    while waiting:
        for message in pool.wait(_TICK_SECONDS):
            job = waiting.get(message.run)
            if job is None or message.attempt != job.attempt:
                continue
            match message:
                case PointMessage(point=point):
                    if point.step == STEPS and point.tokens_per_s is not None:
                        reports.speeds.append(point.tokens_per_s)
                    pool.answer(message.run, Answer.STOP if point.step >= STEPS else Answer.GO)
                    continue
                case Pulse():
                    continue
                case Crashed(text=text, user_error=True):
                    raise UserError(text)
                case Crashed(text=text) | Died(text=text):
                    reports.troubles.append(text)
                case Finished(result=Result(outcome="oom") as result):
                    assert result.batch_size is not None
                    if limits.ran_out(config, job.device, batch_size=result.batch_size):
                        start(message.run, job.device)
                        continue
                    reports.infeasible.append(result.reason)
                case Finished(result=result):
                    if result.outcome == "infeasible":
                        reports.infeasible.append(result.reason)
                    elif result.outcome == "diverged":
                        reports.troubles.append(result.reason)
            del waiting[message.run]
        if interrupts:
            for run in waiting:
                pool.kill(run)
            signals.end(interrupts[0])
    return reports
