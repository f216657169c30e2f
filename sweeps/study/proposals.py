"""Proposals: trials as Optuna's parameters and as configs, and the trials that are known before any sampler is asked.

Optuna's parameters are the knobs, some of them as shares of another setting (PARAM). Configs hold absolute nanoGPT
values. Known beforehand are the baseline on each of its seeds, every candidate as written, and one-at-a-time trials:
the baseline with a single knob at one of its ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sweeps.study.baseline import WHOLE, Value
from sweeps.study.horizon import at_horizon, in_trial
from sweeps.study.knobs import DATA, PARAM, ChoicesKnob, RangeKnob
from sweeps.study.study import Study, knob_value, tidy
from sweeps.text import short
from trainer.config import TrainConfig
from trainer.errors import ConfigError

ParamValue = float | int | str
ONE_AT_A_TIME = "one-at-a-time"
"""origin of the trials that change one knob of the baseline, and prefix of their keys"""
DROPOUT_OFF = "dropout-off"
"""what the key of the control without dropout says, with which grown branches are compared"""
_EARLIER = "star"
"""its name in stores of plateau-sweep 0.1.0"""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial to run."""

    key: str
    """stable and unique within its study: baseline:0, candidate:2, one-at-a-time:dropout:high"""
    phase: str
    """baseline, search or confirm"""
    origin: str
    """baseline, candidate, one-at-a-time, combined or confirm"""
    label: str
    """short description"""
    knob: str | None
    """the one knob that differs from the baseline, for a one-at-a-time trial"""
    seed: int
    params: dict[str, ParamValue] | None
    """Optuna's parameters; None where the knobs can't express the trial"""
    config: TrainConfig


@dataclass(frozen=True, kw_only=True)
class Designed:
    """The trials that are known before any sampler is asked, in the order in which they run."""

    baseline: tuple[Proposal, ...]
    """the baseline on each of its seeds, the search's seed first"""
    candidates: tuple[Proposal, ...]
    """every candidate as written"""
    one_at_a_time: tuple[Proposal, ...]
    """the baseline with one knob at one of its ends"""

    @property
    def every(self) -> tuple[Proposal, ...]:
        """All of them, in their order."""
        return (*self.baseline, *self.candidates, *self.one_at_a_time)


def present_name(name: str) -> str:
    """Return an origin or a key as it is called now, given the one that an earlier version stored."""
    origin, colon, rest = name.partition(":")
    return ONE_AT_A_TIME + colon + rest if origin == _EARLIER else name


class DesignError(ConfigError):
    """A trial known beforehand that can't be run."""

    def __init__(self, path: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.path = path
        """keys and indices of the part of the study that describes the trial"""


def designed(study: Study, *, vocab_size: int) -> Designed:
    """Build the trials that are known before any sampler is asked. Raises DesignError for one that can't be run."""
    baseline = baseline_proposals(study, vocab_size=vocab_size)
    one_at_a_time = one_at_a_time_proposals(study, vocab_size=vocab_size)
    candidates = candidate_proposals(study, vocab_size=vocab_size)
    return Designed(baseline=tuple(baseline), candidates=tuple(candidates), one_at_a_time=tuple(one_at_a_time))


def baseline_params(study: Study) -> dict[str, ParamValue]:
    """Return the baseline's parameters."""
    return {
        PARAM.get(name, name): _typed(name, knob.snap(study.knob_value(name))) for name, knob in study.sampled.items()
    }


def baseline_config(study: Study, *, seed: int, vocab_size: int) -> TrainConfig:
    """Return the baseline as a trial."""
    return config_of(study, baseline_params(study), seed=seed, vocab_size=vocab_size)


def config_of(study: Study, params: Mapping[str, ParamValue], *, seed: int, vocab_size: int) -> TrainConfig:
    """Return the trial with `params`, which are all of the study's and perhaps data_fraction.

    All other settings are the baseline's. If min_lr is a knob, its parameter is a share of the trial's learning rate.
    Raises ConfigError for a trial that can't be run.
    """
    changes: dict[str, Value] = {}
    warmup_fraction = None
    for name, knob in study.knobs.items():
        if name not in study.sampled and name not in params:
            continue
        value = params[PARAM.get(name, name)]
        assert not isinstance(value, str)
        if name == "warmup_iters":
            warmup_fraction = float(value)
        elif name == "min_lr":
            changes[name] = _min_lr(
                study, float(value), rate=float(params.get("learning_rate", study.control["learning_rate"]))
            )
        elif name == "n_embd" and isinstance(knob, RangeKnob) and knob.round:
            changes[name] = study.head_unit * max(1, round(value / study.head_unit))
        else:
            changes[name] = _typed(name, value)
    return at_horizon(study, changes, seed=seed, vocab_size=vocab_size, warmup_fraction=warmup_fraction)


def _min_lr(study: Study, share: float, *, rate: float) -> float:
    """Return min_lr, given as a share of the trial's rate, and in a branch of the control's rate.

    So a branch with another rate, all else unchanged, still decays to the control's min_lr.
    """
    if study.origin is None:
        return min(tidy(share * rate), rate) if share <= 1 else tidy(share * rate)  # tidy may round up
    return min(float(f"{share * float(study.control['learning_rate']):.12g}"), rate)  # the share is rounded, too


def _typed(name: str, value: float) -> int | float:
    return int(value) if name in WHOLE and name not in PARAM else float(value)


def baseline_proposals(study: Study, *, vocab_size: int) -> list[Proposal]:
    """Propose the baseline on each of its seeds, the search's seed first. Raises DesignError."""
    try:
        config = baseline_config(study, seed=study.seed, vocab_size=vocab_size)
    except ConfigError as error:
        raise DesignError(("baseline",), str(error)) from error
    return [
        Proposal(
            key=f"baseline:{index}",
            phase="baseline",
            origin="baseline",
            label=f"baseline, seed {study.seed + index}",
            knob=None,
            seed=study.seed + index,
            params=baseline_params(study),
            config=config.replace(seed=study.seed + index),
        )
        for index in range(study.baseline_seeds)
    ]


def candidate_proposals(study: Study, *, vocab_size: int) -> list[Proposal]:
    """Propose every candidate as written. Raises DesignError."""
    proposals = []
    for index in range(len(study.candidates)):
        try:
            proposals.append(candidate_proposal(study, index, vocab_size=vocab_size))
        except ConfigError as error:
            raise DesignError(("candidates", index), str(error)) from error
    return proposals


def candidate_proposal(study: Study, index: int, *, vocab_size: int) -> Proposal:
    """Propose one candidate. Raises ConfigError if it can't be run."""
    changes = study.candidates[index]
    config = at_horizon(study, changes, seed=study.seed, vocab_size=vocab_size)
    params = _params_of(study, changes)
    if params is not None:
        expressed = config_of(study, params, seed=study.seed, vocab_size=vocab_size)
        if _alike(expressed, config):
            config = expressed  # equals the stored parameters to the last digit
        else:
            params = None
    return Proposal(
        key=f"candidate:{index}",
        phase="search",
        origin="candidate",
        label="candidate: " + ", ".join(f"{name} {short(value)}" for name, value in changes.items()),
        knob=None,
        seed=study.seed,
        params=params,
        config=config,
    )


def _params_of(study: Study, changes: Mapping[str, Value]) -> dict[str, ParamValue] | None:
    """Return the parameters nearest to `changes`, or None if a knob doesn't contain its value."""
    settings = {**study.control, **in_trial(study, changes)}
    if float(settings["min_lr"]) > float(settings["learning_rate"]):
        settings["min_lr"] = float(settings["learning_rate"]) * study.knob_value("min_lr")
    params: dict[str, ParamValue] = {}
    for name, knob in study.sampled.items():
        value = knob_value(settings, name)
        if name == "min_lr" and study.origin is not None:
            value = tidy(float(settings["min_lr"]) / float(study.control["learning_rate"]))
        if not knob.contains(value):
            return None
        params[PARAM.get(name, name)] = _typed(name, knob.snap(value))
    return params


def _alike(config: TrainConfig, other: TrainConfig) -> bool:
    """Whether two configs are the same up to the rounding of ratios."""
    others = other.as_dict()
    return all(
        math.isclose(value, others[name], rel_tol=1e-9)  # type: ignore[arg-type]
        if isinstance(value, float)
        else value == others[name]
        for name, value in config.as_dict().items()
    )


def one_at_a_time_proposals(study: Study, *, vocab_size: int) -> list[Proposal]:
    """Propose the one-at-a-time trials: each knob at its ends or choices, the baseline itself left out.

    data_fraction is tried on all of the baseline's seeds, because its effect is seldom visible in one run and no later
    phase repeats it. Raises DesignError.
    """
    baseline = baseline_config(study, seed=study.seed, vocab_size=vocab_size)
    proposals = []
    for name, knob in study.knobs.items():
        if name in study.grown:
            continue
        seeds = range(study.seed, study.seed + (study.baseline_seeds if name == DATA else 1))
        for end in knob.ends():
            try:
                proposals += [_one_at_a_time(study, name, end, seed=seed, vocab_size=vocab_size) for seed in seeds]
            except ConfigError as error:
                key = end if isinstance(knob, RangeKnob) else "choices"
                raise DesignError(("knobs", name, key), str(error)) from error
    proposals += _growth(study, vocab_size=vocab_size)
    return [proposal for proposal in proposals if proposal.config != baseline.replace(seed=proposal.seed)]


def _growth(study: Study, *, vocab_size: int) -> Iterator[Proposal]:
    """Yield the branches that grow in width or depth, all with dropout off, and the control with dropout off.

    Copied channels have dropout masks of their own, whose average alone lowers the loss. So a grown branch is compared
    only where nothing drops out. Raises DesignError.
    """
    if not study.grown:
        return
    params = baseline_params(study)
    control = config_of(study, params, seed=study.seed, vocab_size=vocab_size).replace(dropout=0.0)
    arms: list[tuple[str, str, str | None, TrainConfig]] = [(DROPOUT_OFF, "control without dropout", None, control)]
    for name, knob in study.grown.items():
        values = knob.wholes() if isinstance(knob, RangeKnob) else [int(value) for value in knob.choices]
        for value in values:
            changes: dict[str, Value] = {name: value}
            if name == "n_embd":
                changes["n_head"] = control.n_head * value // control.n_embd
            try:
                config = control.replace(**changes)
            except ConfigError as error:
                raise DesignError(("knobs", name), str(error)) from error
            if value != getattr(control, name):
                arms.append((f"{name}:{value}", f"{name} grown to {value}, without dropout", name, config))
    for seed in range(study.seed, study.seed + study.baseline_seeds):
        for key, label, knob_name, config in arms:
            yield Proposal(
                key=f"{ONE_AT_A_TIME}:{key}:{seed}",
                phase="search",
                origin=ONE_AT_A_TIME,
                label=f"{label}, seed {seed}",
                knob=knob_name,
                seed=seed,
                params=None,
                config=config.replace(seed=seed),
            )


def _one_at_a_time(study: Study, name: str, end: str, *, seed: int, vocab_size: int) -> Proposal:
    """Propose the baseline with knob `name` at its `end`. Raises ConfigError if it can't be run."""
    knob = study.knobs[name]
    value = knob.ends()[end]
    params = {**baseline_params(study), PARAM.get(name, name): _typed(name, value)}
    place = short(value) if isinstance(knob, ChoicesKnob) else f"at its {end}, {short(value)}"
    share = {"min_lr": " of learning_rate", "warmup_iters": " of max_iters"}.get(name, "")
    of_data = name == DATA
    return Proposal(
        key=f"{ONE_AT_A_TIME}:{name}:{end}" + (f":{seed}" if of_data else ""),
        phase="search",
        origin=ONE_AT_A_TIME,
        label=f"{name} {place}{share}" + (f", seed {seed}" if of_data else ""),
        knob=name,
        seed=seed,
        params=None if of_data else params,
        config=config_of(study, params, seed=seed, vocab_size=vocab_size),
    )
