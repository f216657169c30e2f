"""How fast the workers train, measured by a short run of the real trainer on all of them at once.

Neighbours slow each other, so an idle machine would promise too much. Each shape is trained for 16 steps with
evaluations at 0, 8 and 16: the first 8 warm up (compile, caches, allocator), the speed of the others is the figure.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.engine.planning.fit import fitted, shapes
from sweeps.store.records import DataFacts
from sweeps.study.horizon import fit_in_words, provisional
from sweeps.study.sections import ShapeSpeed
from sweeps.study.study import Study
from sweeps.text import count
from sweeps.workers.pool import Crashed, Died, Finished, Job, PointMessage, Pool
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.errors import UserError
from trainer.machine.microbatch import Limits
from trainer.points import Answer, Result

STEPS = 16
_TICK_SECONDS = 0.5


class MeasuringError(Exception):
    """Workers fail at the shortest of runs: it isn't the trials."""


@dataclass
class _Round:
    """What the workers have said of one shape."""

    speeds: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    infeasible: list[str] = field(default_factory=list)


def fit_horizon(
    study: Study,
    *,
    pool: Pool,
    dataset: Dataset,
    folder: Path,
    say: Callable[[str], None],
    interrupted: Callable[[], int],
) -> Study:
    """The study with its horizon in minutes fitted to these workers; any other study as it is.

    Raises what `measure` does, and SpecError where the minutes are too few.
    """
    if provisional(study) is study:
        return study
    configs = shapes(study, vocab_size=dataset.vocab_size)
    speeds = measure(configs, pool, data=dataset.path, folder=folder, say=say, interrupted=interrupted)
    made = fitted(study, speeds, DataFacts.of(dataset))
    say(f"horizon: {next(fit_in_words(made))}")
    return made


def measure(
    configs: Sequence[TrainConfig],
    pool: Pool,
    *,
    data: Path,
    folder: Path,
    say: Callable[[str], None],
    interrupted: Callable[[], int],
) -> list[ShapeSpeed]:
    """Tokens/s of each config, the median over the workers; one that there is no memory for is left out.

    `folder` is made for this and removed; no run of the pool may be under way. Raises KeyboardInterrupt when
    `interrupted`, UserError for a worker's, and where there is memory for none, MeasuringError.
    """
    say(f"measuring how fast trials are, for the horizon: {count(len(configs), 'shape')} for {STEPS} steps each")
    shutil.rmtree(folder, ignore_errors=True)
    found, limits = [], Limits()
    try:
        for number, config in enumerate(configs, start=1):
            name = f"width {config.n_embd}, depth {config.n_layer}"
            heard = _race(_short(config), pool, limits, data=data, folder=folder / str(number), interrupted=interrupted)
            if heard.speeds:
                speed = statistics.median(heard.speeds)
                found.append(ShapeSpeed(n_embd=config.n_embd, n_layer=config.n_layer, tokens_per_s=speed))
                say(f"{number} of {len(configs)}: {name}: {speed:,.0f} tokens/s a worker")
            elif heard.infeasible:
                say(f"{number} of {len(configs)}: {name}: {heard.infeasible[0]}")
            else:
                raise MeasuringError(f"no worker could train {name} for {STEPS} steps\n{heard.troubles[0]}")
    except KeyboardInterrupt:
        say("stopped while measuring: nothing is stored yet, the same command starts anew")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not found:
        raise UserError("horizon.minutes: there is memory for none of the study's trials; lower n_embd or block_size")
    return found


def _short(config: TrainConfig) -> TrainConfig:
    """The config for a few steps, whose losses nobody reads."""
    return config.replace(
        max_iters=STEPS,
        lr_decay_iters=STEPS,
        warmup_iters=1,
        eval_interval=STEPS // 2,
        eval_windows=2,
        final_windows=2,
    )


def _race(
    config: TrainConfig, pool: Pool, limits: Limits, *, data: Path, folder: Path, interrupted: Callable[[], int]
) -> _Round:
    """The same run on every worker at once."""
    heard = _Round()
    waiting: dict[int, Job] = {}

    def start(run: int, device: str) -> None:
        waiting[run] = Job(
            run=run,
            attempt=0,  # the study's own count from 1
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
                        heard.speeds.append(point.tokens_per_s)
                    pool.answer(message.run, Answer.STOP if point.step >= STEPS else Answer.GO)
                    continue
                case Crashed(text=text, user_error=True):
                    raise UserError(text)
                case Crashed(text=text) | Died(text=text):
                    heard.troubles.append(text)
                case Finished(result=Result(outcome="oom") as result):
                    assert result.batch_size is not None
                    if limits.ran_out(config, job.device, batch_size=result.batch_size):
                        start(message.run, job.device)
                        continue
                    heard.infeasible.append(result.reason)
                case Finished(result=result):
                    if result.outcome == "infeasible":
                        heard.infeasible.append(result.reason)
                    elif result.outcome == "diverged":
                        heard.troubles.append(result.reason)
            del waiting[message.run]
        if interrupted():
            for run in waiting:
                pool.kill(run)
            raise KeyboardInterrupt
    return heard
