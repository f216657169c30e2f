"""Warnings of a plan: settings that make a study say less than its runs cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sweeps.engine.planning.speed import Speed, windows
from sweeps.store.records import MANY_EPOCHS, DataFacts
from sweeps.study import horizon
from sweeps.study.study import Study
from sweeps.text import count, duration, joined, si
from trainer.config import TrainConfig
from trainer.machine.device import Device

HALF_LIFE = 15.39
"""R* of their law: repetitions after which another is worth 1/e of fresh data."""


def of_length(study: Study) -> Iterator[str]:
    length, _ = horizon.fit_in_words(study)
    yield f"horizon: {length}: estimated, as `sweep run` measures it before the first trial"


def of_memory(too_wide: Sequence[int], device: Device) -> Iterator[str]:
    if too_wide:
        yield (
            f"{device.name}: not even one sequence at a time fits at {joined(str(width) for width in too_wide)} wide; "
            "such trials end as infeasible, and the sampler learns to leave them; lower knobs.n_embd.high or block_size"
        )


def of_design(study: Study, designed: int) -> Iterator[str]:
    if designed > study.trials:
        yield (
            f"candidates and star are {count(designed, 'run')}, trials is {study.trials}: the last "
            f"{designed - study.trials} are left out and the sampler gets none; raise trials"
        )
    elif designed == study.trials:
        yield f"candidates and star are all {study.trials} trials: the sampler gets none; raise trials"
    if study.baseline_seeds == 1:
        yield "baseline_seeds is 1, so how much a loss differs by the seed alone stays unknown; 3 or more tell"


def of_evaluation(config: TrainConfig, data: DataFacts) -> Iterator[str]:
    held = windows(data.val_tokens, config)
    for what, wanted in (("an evaluation", config.windows), ("the final loss", config.windows_at_the_end)):
        if wanted > held:
            yield (
                f"the validation split holds {held} windows of {config.block_size} tokens, fewer than the {wanted} of "
                f"{what}, which takes all there are; raise val_fraction or use more text"
            )


def of_epochs(tokens: int, unique: int) -> Iterator[str]:
    """Muennighoff et al. 2023, eq. 5: D' = U*(1 + R* * (1 - exp(-R/R*))) with R = D/U - 1 repetitions."""
    repetitions = tokens / unique - 1
    if repetitions + 1 <= MANY_EPOCHS:
        return
    worth = unique * (1 + HALF_LIFE * (1 - math.exp(-repetitions / HALF_LIFE)))
    yield (
        f"a trial makes {repetitions + 1:.3g} epochs of its data; beyond {MANY_EPOCHS:.0f} repeated tokens are worth "
        f"less (Muennighoff et al. 2023: {si(tokens)} here count like {si(worth)} fresh ones). Which trial "
        "wins is then decided by how little it overfits, which favours dropout, weight decay and narrow models, and "
        "says little about training on fresh data; use more text or a shorter horizon"
    )


def of_time(
    study: Study, speed: Speed, *, total: float | None, expected: float | None, sampled: int, workers: int
) -> Iterator[str]:
    if total is None or expected is None:
        why = "float32 on a card isn't in the table of peaks" if speed.dtype == "float32" else "its peak isn't known"
        yield f"{speed.device.name}: no estimate of time, {why}"
        return
    if study.hours is None or total <= study.hours * 3600:
        return
    over = total - study.hours * 3600
    fewer = math.ceil(over * workers / expected)
    remedy = f"lower the horizon to about {math.floor(study.iters * (1 - over / total))} iterations"
    if fewer < sampled:
        remedy += f" or trials to about {study.trials - fewer}"
    if fewer < study.confirm.max_trials:
        remedy += f" or confirm.max_trials to about {study.confirm.max_trials - fewer}"
    yield (
        f"about {duration(total)} are needed and hours is {study.hours:g}: the sweep would end with what it has by "
        f"then; raise hours, {remedy}"
    )
