"""Trials as Optuna parameters and as configs, and those that are known before any sampler is asked.

Optuna's parameters are the knobs, with shares where a knob is one (PARAM); configs hold absolute
nanoGPT values. The baseline, each candidate as it stands, and the star: each knob alone at its ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.study.baseline import WHOLE, Value
from sweeps.study.horizon import at_horizon
from sweeps.study.knobs import DATA, PARAM, ChoicesKnob, RangeKnob
from sweeps.study.model import as_yaml
from sweeps.study.study import Study, knob_value, tidy
from trainer.config import TrainConfig

ParamValue = float | int | str


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial to run."""

    key: str
    """unique in its study and stable: baseline:0, candidate:2, star:dropout:high"""
    phase: str
    """baseline, search or confirm"""
    origin: str
    """baseline, candidate, star, combined or confirm"""
    label: str
    """what it is, in a few words"""
    knob: str | None
    """star: the one knob that differs from the baseline"""
    seed: int
    params: dict[str, ParamValue] | None
    """Optuna's parameters; None where the knobs can't express it"""
    config: TrainConfig


def baseline_params(study: Study) -> dict[str, ParamValue]:
    """The baseline's parameters."""
    return {
        PARAM.get(name, name): _typed(name, knob.snap(study.knob_value(name))) for name, knob in study.sampled.items()
    }


def baseline_config(study: Study, *, seed: int, vocab_size: int) -> TrainConfig:
    """The baseline as a trial."""
    return config_of(study, baseline_params(study), seed=seed, vocab_size=vocab_size)


def config_of(study: Study, params: Mapping[str, ParamValue], *, seed: int, vocab_size: int) -> TrainConfig:
    """The trial that `params` (all of the study's, perhaps data_fraction) describe; the rest is the baseline's.

    With a knob for min_lr, min_lr is its share of the trial's learning rate. Raises ConfigError.
    """
    changes: dict[str, Value] = {}
    warmup_fraction = None
    for name, knob in study.knobs.items():
        if name == DATA and name not in params:
            continue
        value = params[PARAM.get(name, name)]
        assert not isinstance(value, str)
        if name == "warmup_iters":
            warmup_fraction = float(value)
        elif name == "min_lr":
            rate = params.get("learning_rate", study.baseline["learning_rate"])
            changes[name] = tidy(value * float(rate))
        elif name == "n_embd" and isinstance(knob, RangeKnob) and knob.round:
            changes[name] = study.head_unit * max(1, round(value / study.head_unit))
        else:
            changes[name] = _typed(name, value)
    return at_horizon(study, changes, seed=seed, vocab_size=vocab_size, warmup_fraction=warmup_fraction)


def _typed(name: str, value: float) -> int | float:
    return int(value) if name in WHOLE and name not in PARAM else float(value)


def baseline_proposals(study: Study, *, vocab_size: int) -> list[Proposal]:
    """The baseline with each of its seeds, the search's own first."""
    return [
        Proposal(
            key=f"baseline:{index}",
            phase="baseline",
            origin="baseline",
            label=f"baseline, seed {study.seed + index}",
            knob=None,
            seed=study.seed + index,
            params=baseline_params(study),
            config=baseline_config(study, seed=study.seed + index, vocab_size=vocab_size),
        )
        for index in range(study.baseline_seeds)
    ]


def candidate_proposals(study: Study, *, vocab_size: int) -> list[Proposal]:
    """Each candidate as it stands."""
    return [candidate_proposal(study, index, vocab_size=vocab_size) for index in range(len(study.candidates))]


def candidate_proposal(study: Study, index: int, *, vocab_size: int) -> Proposal:
    """One candidate. Raises ConfigError if it can't be run."""
    changes = study.candidates[index]
    config = at_horizon(study, changes, seed=study.seed, vocab_size=vocab_size)
    params = _params_of(study, changes)
    if params is not None:
        same = config_of(study, params, seed=study.seed, vocab_size=vocab_size)
        if _alike(same, config):
            config = same  # to the last digit what the stored parameters say
        else:
            params = None
    return Proposal(
        key=f"candidate:{index}",
        phase="search",
        origin="candidate",
        label="candidate: " + ", ".join(f"{name} {as_yaml(value)}" for name, value in changes.items()),
        knob=None,
        seed=study.seed,
        params=params,
        config=config,
    )


def _params_of(study: Study, changes: Mapping[str, Value]) -> dict[str, ParamValue] | None:
    """The parameters nearest to `changes`, or None where a knob doesn't reach them."""
    settings = {**study.baseline, **changes}
    if float(settings["min_lr"]) > float(settings["learning_rate"]):
        settings["min_lr"] = float(settings["learning_rate"]) * study.knob_value("min_lr")
    params: dict[str, ParamValue] = {}
    for name, knob in study.sampled.items():
        value = knob_value(settings, name)
        if not knob.contains(value):
            return None
        params[PARAM.get(name, name)] = _typed(name, knob.snap(value))
    return params


def _alike(one: TrainConfig, other: TrainConfig) -> bool:
    """Whether two configs are the same up to the rounding of ratios."""
    mine, theirs = one.as_dict(), other.as_dict()
    return all(
        math.isclose(mine[name], theirs[name], rel_tol=1e-9)  # type: ignore[arg-type]
        if isinstance(mine[name], float)
        else mine[name] == theirs[name]
        for name in mine
    )


def star_proposals(study: Study, *, vocab_size: int) -> list[Proposal]:
    """Each knob alone at its ends (each choice), without those that are the baseline itself.

    The amount of data is tried with all of the baseline's seeds: whether more of it would help is seldom a matter of
    one run, and no later phase runs it again.
    """
    seeds = range(study.seed, study.seed + study.baseline_seeds)
    points = [
        star_proposal(study, name, end, seed=seed, vocab_size=vocab_size)
        for name, knob in study.knobs.items()
        for end in knob.ends()
        for seed in (seeds if name == DATA else seeds[:1])
    ]
    baseline = baseline_config(study, seed=study.seed, vocab_size=vocab_size)
    return [point for point in points if point.config != baseline.replace(seed=point.seed)]


def star_proposal(study: Study, name: str, end: str, *, seed: int, vocab_size: int) -> Proposal:
    """The baseline with knob `name` at its `end`. Raises ConfigError if it can't be run."""
    knob = study.knobs[name]
    value = knob.ends()[end]
    params = {**baseline_params(study), PARAM.get(name, name): _typed(name, value)}
    where = as_yaml(value) if isinstance(knob, ChoicesKnob) else f"at its {end}, {as_yaml(value)}"
    share = {"min_lr": " of learning_rate", "warmup_iters": " of max_iters"}.get(name, "")
    of_data = name == DATA
    return Proposal(
        key=f"star:{name}:{end}" + (f":{seed}" if of_data else ""),
        phase="search",
        origin="star",
        label=f"{name} {where}{share}" + (f", seed {seed}" if of_data else ""),
        knob=name,
        seed=seed,
        params=None if of_data else params,
        config=config_of(study, params, seed=seed, vocab_size=vocab_size),
    )
