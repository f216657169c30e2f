"""Warnings of a plan: settings that make a study say less than its runs cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sweeps.engine.planning.speed import Speed, windows
from sweeps.engine.planning.workload import Workload
from sweeps.store.records import MANY_EPOCHS, DataFacts
from sweeps.study import horizon
from sweeps.study.sections import BinData
from sweeps.study.study import Study
from sweeps.text import count, duration, joined, si
from trainer.config import TrainConfig
from trainer.machine.device import Device

LONG = 24 * 3600
"""seconds; a sweep that takes longer is worth a word"""
HALF_LIFE = 15.39
"""R* of Muennighoff et al. 2023: repetitions after which one more is worth 1/e of fresh data"""


def of_length(study: Study) -> Iterator[str]:
    """Warn that the length of a horizon in minutes rests on an estimate."""
    length, _ = horizon.fit_in_words(study)
    yield f"horizon: {length}; an estimate, which `sweep run` replaces by a measurement before the first trial"


def of_memory(too_wide: Sequence[int], device: Device) -> Iterator[str]:
    """Warn of widths that don't fit into memory."""
    if too_wide:
        yield (
            f"{device.name}: not even one sequence fits into memory at n_embd {joined(map(str, too_wide))}; such "
            "trials end as infeasible and the sampler learns to avoid them; lower knobs.n_embd.high or block_size"
        )


def of_design(study: Study, designed: int) -> Iterator[str]:
    """Warn if the designed trials leave none to the sampler, and if one seed can't measure noise."""
    if not study.knobs:
        pass  # candidates alone: there is nothing to sample
    elif designed > study.trials:
        yield (
            f"candidates and single-knob trials are {count(designed, 'run')}, but trials={study.trials}: the last "
            f"{designed - study.trials} are left out and the sampler gets none; raise trials"
        )
    elif designed == study.trials:
        yield (
            f"candidates and single-knob trials take all {study.trials} trials, so the sampler gets none; raise trials"
        )
    if study.baseline_seeds == 1:
        yield "baseline_seeds=1 can't show how much a loss differs between seeds; use 3 or more"


def of_evaluation(study: Study, config: TrainConfig, data: DataFacts) -> Iterator[str]:
    """Warn of evaluations that want more windows than the validation split holds."""
    held = windows(data.val_tokens, config)
    remedy = "use a longer val.bin" if isinstance(study.data, BinData) else "raise data.val_fraction or use more text"
    for name, wanted in (("an evaluation", config.windows), ("the final loss", config.windows_at_the_end)):
        if wanted > held:
            yield (
                f"the validation split holds {held} windows of {config.block_size} tokens, fewer than the {wanted} of "
                f"{name}, which uses all of them; {remedy}"
            )


def of_epochs(tokens: int, unique: int) -> Iterator[str]:
    """Warn of repeated data.

    D tokens on U unique ones are worth D' = U*(1 + R* * (1 - exp(-R/R*))) fresh tokens, with R = D/U - 1 repetitions
    (Muennighoff et al. 2023, eq. 5).
    """
    repetitions = tokens / unique - 1
    if repetitions + 1 <= MANY_EPOCHS:
        return
    worth = unique * (1 + HALF_LIFE * (1 - math.exp(-repetitions / HALF_LIFE)))
    yield (
        f"a trial makes {repetitions + 1:.3g} epochs of its data; beyond {MANY_EPOCHS:.0f}, repeated tokens are worth "
        f"less (Muennighoff et al. 2023: {si(tokens)} tokens are worth {si(worth)} fresh ones). The winner is then the "
        "trial that overfits least, which favours dropout, weight decay and narrow models and says little about "
        "training on fresh data; use more text or a shorter horizon"
    )


def of_cluster(study: Study, device: Device, *, workers: int) -> Iterator[str]:
    """Yield that a plan doesn't ask the Ray cluster what it has."""
    if study.workers.ray is not None:
        yield (
            f"workers.ray: the times are of {count(workers, 'worker')} like {device.name}; the cluster isn't asked "
            "before `sweep run`. --device names its cards, workers.gpus or workers.cpus sets how many work"
        )


def of_time(study: Study, work: Workload, speed: Speed, *, seconds: float | None, workers: int) -> Iterator[str]:
    """Warn if the sweep's `seconds` are unknown or exceed the deadline, with what would keep to it."""
    expected = work.expected(speed)
    if seconds is None or expected is None:
        where = f"{speed.device.name}: no estimate of time, because its peak in {speed.dtype} is not known"
        yield where if speed.dtype == "float32" else f"{where}; give it in TFLOP/s, as in `sweep plan --peak 58`"
        return
    if study.hours is None and seconds > LONG:
        where = "a card (`--device NAME` plans for one)" if speed.device.kind == "cpu" else "a faster card"
        smaller = ("n_layer=4", "n_head=4", "n_embd=64", "block_size=64", "batch_size=12")
        yield (
            f"the sweep needs about {duration(seconds)} here: run it on {where}, give it a deadline (hours: 12), or "
            f"try a smaller model of the kind first ({' '.join(f'--set baseline.{change}' for change in smaller)})"
        )
    if study.hours is None or seconds <= study.hours * 3600:
        return
    excess = seconds - study.hours * 3600
    fewer = math.ceil(excess * workers / expected)
    remedy = f"lower the horizon to about {math.floor(study.iters * (1 - excess / seconds))} iterations"
    if fewer < work.sampled:
        remedy += f" or trials to about {study.trials - fewer}"
    if fewer < study.confirm.max_trials:
        remedy += f" or confirm.max_trials to about {study.confirm.max_trials - fewer}"
    yield (
        f"the sweep needs about {duration(seconds)}, more than hours={study.hours:g}, and would end with the trials it "
        f"has by then; raise hours, {remedy}"
    )


def of_pilot(study: Study, seconds: float | None) -> Iterator[str]:
    """Warn if the sweep exceeds its deadline once the pilot has chosen its longest trials, which takes `seconds`."""
    if study.pilot is None or study.hours is None or seconds is None or seconds <= study.hours * 3600:
        return
    yield (
        f"if the pilot chooses its longest trials, the sweep needs about {duration(seconds)}, more than "
        f"hours={study.hours:g}; lower pilot.max_iters={study.pilot.max_iters}, or raise hours"
    )
