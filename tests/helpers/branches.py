"""Synthetic results of a study of branches: an origin that goes flat at iteration 1,800 of 2,400, and what forks there.

Losses come from `fall`, so tests know the truth: going on and the control bring almost nothing, dropout off brings
0.06 nats, with a third of the weight decay 0.08. The origin, going on and the branches are each evaluated on windows
that differ by a constant.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from sweeps.analysis.arms import Arm, Arms
from sweeps.store.records import Outcome, Results, Run
from sweeps.study import origin_runs
from sweeps.study.proposals import (
    Proposal,
    baseline_params,
    baseline_proposals,
    candidate_proposals,
    config_of,
    one_at_a_time_proposals,
)
from sweeps.study.start import Origin
from sweeps.study.study import Study
from sweeps.study.widening import containing_the_control
from tests.helpers import synthetic
from trainer.config import TrainConfig
from trainer.points import Point

SEED = 1337
STEP, SINCE = 2400, 1800
"""iterations of the origin at the fork, and where its plateau begins"""
ITERS = 400
"""iterations of a branch"""
STEPS = range(0, ITERS + 1, 20)
"""steps of its evaluations"""
LEVEL = 3.9
"""the origin's loss on its plateau, nats per token"""
GOING_ON_SHIFT, BRANCH_SHIFT = -0.07, 0.04
"""nats by which the windows of going on and of the branches are easier than the origin's"""
BEST = {"dropout": 0.0, "weight_decay": 0.03}
"""parameters of the best trial that differ from the control's"""
_BASELINE = synthetic.BASELINE.as_dict()


def study(**changes: Any) -> Study:
    """Return a study whose origin is trained first and not known yet; `changes` replace its top-level fields."""
    schedule = ["learning_rate", "min_lr", "warmup_iters", "max_iters", "lr_decay_iters"]
    names = ["n_layer", "n_embd", "block_size", "batch_size", *schedule]
    knobs = {name: knob for name, knob in synthetic.KNOBS.items() if name != "n_embd"}
    fields: dict[str, Any] = {
        "name": "forked",
        "baseline": {**{name: _BASELINE[name] for name in names}, "head_size": 32, "gradient_accumulation_steps": 1}
        | {"dropout": 0.1, "weight_decay": 0.1},
        "start": {"train": {"max_iters": 3000}},
        "race": {"iters": 600, "n_embd": [768], "n_layer": [12]},
        "horizon": {"iters": ITERS},
        "knobs": knobs,
        "candidates": [{"dropout": 0.2}],
        "trials": 12,
    }
    return Study.model_validate({**fields, **changes})


def forked_study(spec: Study | None = None, **changes: Any) -> Study:
    """Return the study with all that is known of its origin before the first trial; `changes` replace that."""
    spec = spec or study()
    settings = origin_runs.origin_config(spec, seed=SEED, vocab_size=2048).as_dict()
    fields: dict[str, Any] = {
        "checkpoint": "/runs/forked/origin/ckpt.pt",
        "sha256": "ab12" * 16,
        "step": STEP,
        "seed": SEED,
        "learning_rate": 3e-4,
        "val_loss": LEVEL,
        "plateau": "plateau",
        "since": SINCE,
        "settings": settings,
        "going_on": 0.008,
        "min_effect": 0.002,
    }
    return containing_the_control(spec.model_copy(update={"origin": Origin.model_validate({**fields, **changes})}))


def points(config: TrainConfig, losses: Mapping[int, float], *, begin: int = 0) -> tuple[Point, ...]:
    """Return evaluations with these losses by step. `begin`: the step at which the run starts."""
    return tuple(
        Point(
            step=step,
            tokens=step * config.tokens_per_iter,
            train_loss=loss,
            train_se=0.004,
            val_loss=loss,
            val_se=0.004,
            lr=config.learning_rate,
            grad_norm=0.8 if step > begin else None,
            tokens_per_s=40_000.0 if step > begin else None,
            seconds=(step - begin) * 0.15,
        )
        for step, loss in losses.items()
    )


def run_of(proposal: Proposal, number: int, losses: Mapping[int, float], **changes: Any) -> Run:
    """Return the run of a proposal, complete 0.01 below its last evaluation; `changes` replace Run's fields."""
    config = proposal.config
    searched = proposal.params is not None and proposal.seed == SEED
    fields: dict[str, Any] = {
        "optuna_study": "forked" if searched else "forked-confirm",
        "phase": proposal.phase,
        "label": proposal.label,
        "knob": proposal.knob,
        "seed": proposal.seed,
        "params": proposal.params or {},
        "config": config,
        "key": proposal.key,
        "val_loss": [*losses.values()][-1] - 0.01,
        "points": points(config, losses, begin=min(losses)),
    }
    return synthetic.run(number, proposal.origin, **{**fields, **changes})


def before_trials(spec: Study) -> Mapping[str, Proposal]:
    """Return the proposals of the origin, going on and the races, by key."""
    return {proposal.key: proposal for proposal in origin_runs.designed(spec, vocab_size=2048)}


def origin_losses(*, until: int = STEP, seed: int = SEED) -> dict[int, float]:
    """Return the origin's curve: a power law down to LEVEL at iteration 1,800, and flat from there on."""

    def loss(step: int) -> float:
        remaining = (1 + min(step, SINCE) / 30) ** -0.8 - (1 + SINCE / 30) ** -0.8
        return LEVEL + 3.72 * remaining / (1 - (1 + SINCE / 30) ** -0.8)

    return {step: loss(step) + _wobble(step, seed) for step in range(0, until + 1, 100)}


def fall(
    brings: float, *, shift: float = 0.0, begin: int = 0, seed: int = SEED, steps: range = STEPS
) -> dict[int, float]:
    """Return a branch's curve, which starts at LEVEL - `shift` and has fallen by `brings` at the last of `steps`."""
    end = 1 - math.exp(-2)
    return {
        begin + step: LEVEL - shift - brings * (1 - math.exp(-2 * step / steps[-1])) / end + _wobble(step, seed) / 2
        for step in steps
    }


def _wobble(step: int, seed: int) -> float:
    """Noise of an evaluation, within 0.003 nats; none at the start and at the fork."""
    return 0.003 * math.sin(step * (1 + seed % 7) / 37) * (step != STEP)


def brings(config: TrainConfig) -> float:
    """Return the nats by which a branch of `config` falls."""
    rate = math.log(config.learning_rate / 3e-4)
    decay = 0.02 * (config.weight_decay < 0.05) - 0.03 * (config.weight_decay > 0.3)
    return 0.01 - 0.01 * rate**2 + 0.6 * (0.1 - config.dropout) + decay


@functools.cache
def forked(*, seeds: int = 3, races: bool = True, searched: bool = True) -> Results:
    """Return the whole study. `seeds`: fresh seeds of the confirm phase; 0: before it. `searched`: has trials."""
    spec = forked_study(study() if races else study(race=None))
    runs: list[Run] = []

    def add(proposal: Proposal, losses: Mapping[int, float], **changes: Any) -> Run:
        runs.append(run_of(proposal, len(runs), losses, trial=len(runs), **changes))
        return runs[-1]

    halted: dict[str, Any] = {"outcome": Outcome.HALTED, "val_loss": None}
    for proposal in before_trials(spec).values():
        match proposal.origin:
            case origin_runs.ORIGIN:
                add(proposal, origin_losses(), reason="its curve is a plateau", **halted)
            case origin_runs.GOING_ON:
                add(proposal, fall(0.008, shift=GOING_ON_SHIFT, begin=STEP))
            case _:
                losses = race_losses(proposal)
                add(proposal, losses, reason=f"a race of {max(losses):,} iterations", **halted)
    if searched:
        _add_trials(spec, add, seeds=seeds)
    return synthetic.results(runs, study=spec)


def race_losses(proposal: Proposal) -> dict[int, float]:
    """Return a race's curve: twice as wide it leads by 0.2 nats at its end, twice as deep it trails by 0.05."""
    until = 1200 if proposal.knob != "n_layer" else 600
    gain = {"n_embd": 0.2, "n_layer": -0.05, None: 0.0}[proposal.knob]
    losses = origin_losses(until=until, seed=proposal.seed)
    spread = 1 + 0.1 * (proposal.seed - SEED)
    return {step: loss - gain * spread * step / until for step, loss in losses.items()}


def _add_trials(spec: Study, add: Callable[..., Run], *, seeds: int) -> None:
    size = {"vocab_size": 2048}

    def branch(proposal: Proposal, *, luck: float = 0.0) -> Run:
        config = proposal.config
        every = config.eval_interval
        fallen = brings(config) * (config.max_iters / ITERS) ** 0.5 + luck + 0.001 * (config.seed % 3 - 1)
        steps = range(0, config.max_iters + 1, every)
        return add(proposal, fall(fallen, shift=BRANCH_SHIFT, seed=config.seed, steps=steps))

    for proposal in (
        *baseline_proposals(spec, **size),
        *candidate_proposals(spec, **size),
        *one_at_a_time_proposals(spec, **size),
    ):
        branch(proposal)
    params = {**baseline_params(spec), **BEST}
    config = config_of(spec, params, seed=SEED, **size)
    key, label = "trial:11", "trial 11"
    sampled = Proposal(
        key=key, phase="search", origin="sampler", label=label, knob=None, seed=SEED, params=params, config=config
    )
    arms = Arms(spec, branch(sampled, luck=0.003), **size)
    known = {SEED, SEED + 1, SEED + 2}
    full = [arms.winner, *(Arm(frozenset([name])) for name in arms.changed), *map(arms.without, arms.changed)]
    for seed in range(SEED + 1, SEED + 1 + seeds):
        wanted = [*full, *(Arm(arm.knobs, half=True) for arm in (Arm(), *full))]
        for arm in dict.fromkeys([*([] if seed in known else [Arm()]), *wanted]):
            branch(arms.proposal(arm, seed))
