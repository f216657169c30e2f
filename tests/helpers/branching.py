"""A synthetic study of branches whose curves are straight lines, so that every number of the findings is a closed form.

The control falls by 0.01 nats per 100 iterations from the origin's 3.9 and by 0.02 over its 200 iterations. Without
dropout a branch falls 2.5 times as fast. Weight decay changes nothing. A seed tilts every line of an arm a little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweeps.analysis.arms import Arm, Arms
from sweeps.store.records import Results, Run
from sweeps.study.origin_runs import designed
from sweeps.study.proposals import Proposal, baseline_params, baseline_proposals, config_of
from sweeps.study.start import Origin
from sweeps.study.study import Study
from tests.helpers import synthetic
from trainer.config import TrainConfig
from trainer.points import Point

START = 3.9
"""the origin's loss on a branch's windows, nats per token"""
CONTROL, WITHOUT_DROPOUT = 0.01, 0.025
"""nats per 100 iterations by which branches fall"""
TILTS = {1337: 0.0, 1338: 0.0004, 1339: -0.0002, 1340: 0.0002}
"""nats per 100 iterations by which a seed tilts the branches of a knob"""
SIZE = {"vocab_size": 2048}
SPEED = 40_000.0
ORIGIN = Origin(
    checkpoint="/runs/plateau/origin/ckpt.pt",
    sha256="ab" * 32,
    step=600,
    seed=1337,
    learning_rate=1e-4,
    val_loss=START,
    plateau="plateau",
    since=400,
    settings=synthetic.BASELINE.replace(dropout=0.1).as_dict(),
    going_on=0.015,
    min_effect=0.002,
)
KNOBS = {
    "learning_rate": {"low": 5e-5, "high": 6e-3, "log": True},
    "dropout": {"low": 0.0, "high": 0.3},
    "weight_decay": {"low": 1e-3, "high": 0.5, "log": True},
}
RACE = {"iters": 200, "seeds": 2, "n_embd": [768], "dropout": [0.2]}


def study(*, origin: Mapping[str, Any] | None = None, **changes: Any) -> Study:
    """Return a study of branches of 200 iterations with a known origin. `origin` replaces fields of ORIGIN."""
    fields: dict[str, Any] = {
        "start": {"train": {"max_iters": 600}},
        "baseline": {**synthetic.study().baseline, "dropout": 0.1},
        "race": RACE,
        "horizon": {"iters": 200},
        "evaluations": 20,
        "knobs": KNOBS,
        "confirm": {"seeds": 3},
    }
    unknown = synthetic.study(**{**fields, **changes})
    return unknown.model_copy(update={"origin": ORIGIN.model_copy(update=dict(origin or {}))})


def line(
    config: TrainConfig, loss: Callable[[float], float], *, until: int | None = None, speed: float = SPEED
) -> tuple[Point, ...]:
    """Return a curve with these losses by iteration, up to the end of the run or `until`."""
    end = until or config.max_iters
    steps = dict.fromkeys((*range(0, end, config.eval_interval), end))
    return tuple(
        Point(
            step=step,
            tokens=step * config.tokens_per_iter,
            train_loss=loss(step),
            train_se=0.004,
            val_loss=loss(step),
            val_se=0.004,
            lr=config.learning_rate,
            grad_norm=0.8,
            tokens_per_s=speed if step else None,
            seconds=step / 10,
        )
        for step in steps
    )


def run_of(number: int, proposal: Proposal, points: Sequence[Point], **changes: Any) -> Run:
    """Return the run of a proposal, whose final loss is its curve's last one."""
    fields: dict[str, Any] = {
        "phase": proposal.phase,
        "key": proposal.key,
        "label": proposal.label,
        "knob": proposal.knob,
        "seed": proposal.seed,
        "params": proposal.params or {},
        "config": proposal.config,
        "val_loss": points[-1].val_loss,
        "points": tuple(points),
    }
    return synthetic.run(number, proposal.origin, **{**fields, **changes})


def falling(config: TrainConfig, per_100: float, *, speed: float = SPEED) -> tuple[Point, ...]:
    """Return a branch that falls from START by `per_100` nats per 100 iterations."""
    return line(config, lambda step: START - per_100 * step / 100, speed=speed)


def branch_runs(of: Study, *, fall: float = WITHOUT_DROPOUT, speed: float = SPEED) -> list[Run]:
    """Return control runs, the search's best and the confirm phase on three fresh seeds.

    `fall`: of branches without dropout, in nats per 100 iterations; `speed`: theirs, in tokens/s.
    """
    runs: list[Run] = []

    def add(proposal: Proposal) -> Run:
        config = proposal.config
        changed = config.dropout == 0 or config.weight_decay != of.baseline["weight_decay"]
        per_100 = (fall if config.dropout == 0 else CONTROL) + (TILTS[config.seed] if changed else 0.0)
        searched = proposal.phase != "confirm" and proposal.seed == of.seed
        home = "plateau" if searched else "plateau-confirm"
        points = falling(config, per_100, speed=speed if config.dropout == 0 else SPEED)
        trial = sum(run.optuna_study == home for run in runs)
        runs.append(run_of(len(runs), proposal, points, trial=trial, optuna_study=home))
        return runs[-1]

    for proposal in baseline_proposals(of, **SIZE):
        add(proposal)
    params = {**baseline_params(of), "dropout": 0.0, "weight_decay": 0.2}
    config = config_of(of, params, seed=of.seed, **SIZE)
    best = Proposal(
        key="trial:1",
        phase="search",
        origin="sampler",
        label="trial 1",
        knob=None,
        seed=of.seed,
        params=params,
        config=config,
    )
    arms = Arms(of, add(best), **SIZE)
    known = {run.config for run in runs}
    knobs = [frozenset(names) for names in ((), ("dropout",), ("weight_decay",), ("dropout", "weight_decay"))]
    for seed in (1338, 1339, 1340):
        for arm in (Arm(names, half=half) for names in knobs for half in (False, True)):
            proposal = arms.proposal(arm, seed)
            if proposal.config not in known:
                add(proposal)
    return runs


def race_runs(of: Study, losses: Mapping[str, Callable[[float], float]], **speeds: float) -> list[Run]:
    """Return the origin's run, which is complete, and its races, halted at 200 iterations.

    `losses`: by what the keys say (`origin`, `n_embd=768`, `dropout=0.2`), the loss by iteration. Seed 1338 ends 0.01
    higher. `speeds`: tokens/s by knob.
    """
    runs = []
    for proposal in designed(of, **SIZE):
        if proposal.origin == "going on":
            continue
        what = proposal.key.split(":")[1] if proposal.phase == "race" else "origin"
        loss, luck = losses[what], 0.01 * (proposal.seed - of.seed)
        until = 200 if proposal.phase == "race" else None
        points = line(
            proposal.config,
            lambda step, loss=loss, luck=luck: loss(step) + luck,
            until=until,
            speed=speeds.get(proposal.knob or "origin", SPEED),
        )
        outcome: dict[str, Any] = {"optuna_study": "plateau-confirm"}
        outcome |= {"outcome": "halted", "val_loss": None} if until else {}
        runs.append(run_of(1000 + len(runs), proposal, points, **outcome))
    return runs


def results(
    of: Study | None = None, *, races: Mapping[str, Callable[[float], float]] | None = None, **changes: Any
) -> Results:
    """Return a confirmed study of branches, with races where their losses are given."""
    of = of or study()
    runs = branch_runs(of, **changes)
    if races is not None:
        runs = [*race_runs(of, races), *runs]
    return dataclasses.replace(synthetic.results(runs, study=of))
