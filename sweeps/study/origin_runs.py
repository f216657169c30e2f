"""The runs before the first trial of a study of branches: the origin, going on, and the races."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.study.baseline import Value, head_unit, with_heads
from sweeps.study.horizon import stretched, windows_of
from sweeps.study.model import as_yaml
from sweeps.study.proposals import Proposal, baseline_config
from sweeps.study.start import CheckpointStart, TrainStart
from sweeps.study.study import Study
from trainer.config import TrainConfig

ORIGIN, GOING_ON, RACE = "origin", "going on", "race"
"""origins of these runs; ORIGIN and RACE are also their phases, and going on belongs to the phase ORIGIN"""
GOING_ON_KEY = "going-on"
_RACE_EVALUATIONS = 20
_FEWEST = 4
"""evaluations of going on, if they are to be where the origin's own were"""
_OF_ORIGIN = 40
"""evaluations of the origin's run: as many as the plateau test is made for"""


def designed(study: Study, *, vocab_size: int) -> Iterator[Proposal]:
    """Yield the runs in their order, as far as they are known. Raises ConfigError for one that can't be run."""
    if isinstance(study.start, TrainStart):
        config = origin_config(study, seed=study.seed, vocab_size=vocab_size)
        yield _proposal(f"{ORIGIN}:{study.seed}", ORIGIN, ORIGIN, f"origin, seed {study.seed}", config)
    if study.origin is not None:
        yield _proposal(GOING_ON_KEY, ORIGIN, GOING_ON, "going on as before", going_on_config(study))
    if study.origin is not None or not isinstance(study.start, CheckpointStart):  # else the checkpoint isn't open yet
        yield from races(study, vocab_size=vocab_size)


def origin_config(study: Study, *, seed: int, vocab_size: int) -> TrainConfig:
    """Return the origin's own run: the baseline at the length of `start.train`, or what the checkpoint says."""
    if study.origin is not None:
        return study.origin.config.replace(seed=seed)
    config = TrainConfig.from_mapping({**with_heads(study.baseline), "seed": seed, "vocab_size": vocab_size})
    if isinstance(study.start, TrainStart):
        config = stretched(config, iters=study.start.train.max_iters)
    return _evaluated(study, config, iters=config.max_iters, interval=max(1, config.max_iters // _OF_ORIGIN))


def going_on_config(study: Study) -> TrainConfig:
    """Return the origin going on under its own schedule, as long as a branch and evaluated on the same windows."""
    origin = study.origin
    assert origin is not None
    own = origin.config
    branch = baseline_config(study, seed=study.seed, vocab_size=own.vocab_size)
    shared = isinstance(study.start, TrainStart) and own.eval_interval * _FEWEST <= study.iters
    return own.replace(
        max_iters=origin.step + study.iters,
        seed=study.seed,
        init_from="resume",
        origin=origin.sha256,
        eval_interval=own.eval_interval if shared else branch.eval_interval,  # where the races are evaluated
        eval_windows=branch.eval_windows,
        final_windows=branch.final_windows,
    )


def races(study: Study, *, vocab_size: int) -> Iterator[Proposal]:
    """Yield the races: the origin's own curve where it has no run on a seed, then every change on every seed."""
    race = study.race
    if race is None:
        return
    seeds = [study.seed + index for index in range(race.seeds)]
    changes: list[tuple[str, Value] | None] = [None, *race.changes()]
    has_log = isinstance(study.start, CheckpointStart) and study.start.log is not None
    for change in changes:
        for seed in seeds:
            if change is None and (has_log or (isinstance(study.start, TrainStart) and seed == study.seed)):
                continue
            config = race_config(study, change, seed=seed, vocab_size=vocab_size)
            if change is not None and config == race_config(study, None, seed=seed, vocab_size=vocab_size):
                continue  # the baseline, perhaps one from the command line, has this value already
            what = ORIGIN if change is None else f"{change[0]}={as_yaml(change[1])}"
            name = "the origin again" if change is None else f"{change[0]} {as_yaml(change[1])} from scratch"
            yield _proposal(
                f"{RACE}:{what}:{seed}",
                RACE,
                RACE,
                f"race: {name}, seed {seed}",
                config,
                knob=None if change is None else change[0],
            )


def race_config(study: Study, change: tuple[str, Value] | None, *, seed: int, vocab_size: int) -> TrainConfig:
    """Return the origin's own run with one change, evaluated where the origin's was. Raises ConfigError."""
    config = origin_config(study, seed=seed, vocab_size=vocab_size)
    if isinstance(study.start, CheckpointStart):
        assert study.race is not None
        windows = baseline_config(study, seed=seed, vocab_size=vocab_size)  # the log's offset is known on a branch's
        config = config.replace(
            eval_interval=max(1, study.race.iters // _RACE_EVALUATIONS),
            eval_windows=windows.eval_windows,
            final_windows=windows.final_windows,
        )
    if change is None:
        return config
    name, value = change
    changes: dict[str, Value] = {name: value}
    if name == "n_embd" and "head_size" in study.baseline:
        changes = {"n_embd": value, "n_head": int(value) // head_unit(study.baseline)}
        with_heads({**study.baseline, "n_embd": value})  # raises for a width that the heads don't divide
    return config.replace(**changes)


def _evaluated(study: Study, config: TrainConfig, *, iters: int, interval: int) -> TrainConfig:
    """Return the config with evaluations that cost at most a tenth of `iters` iterations."""
    windows = windows_of(iters * config.sequences_per_iter, max(1, iters // interval))
    return config.replace(
        eval_interval=interval,
        eval_windows=windows,
        final_windows=max(study.final_windows, windows),
    )


def _proposal(
    key: str, phase: str, origin: str, label: str, config: TrainConfig, *, knob: str | None = None
) -> Proposal:
    return Proposal(
        key=key, phase=phase, origin=origin, label=label, knob=knob, seed=config.seed, params=None, config=config
    )
