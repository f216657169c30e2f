"""A store filled with a study of many ended trials, whose losses follow a law: no training, and the same every time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.progress import watched
from benchmarks.speed.driver_load import unread_dataset
from benchmarks.speed.simulated_pool import simulated_decision, simulated_point
from sweeps.engine.ledger import new_run
from sweeps.store.records import DataFacts, Outcome, Run
from sweeps.store.store import Store
from sweeps.study import proposals, space
from sweeps.study.load import load
from sweeps.study.study import CONFIRM, Study
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[2]
EVALUATIONS = 20
PRUNED_AT, PRUNED_SHARE = 0.5, 0.3
"""share of the run at which a trial is pruned, and share of the sampled trials that are"""


def study_of(name: str, *, trials: int, url: str | None) -> Study:
    """Return the study on squeezed trials from scratch, with 20 evaluations per trial and no confirm phase."""
    settings = [f"trials={trials}", "horizon.iters=1000", f"evaluations={EVALUATIONS}", "confirm.max_trials=0"]
    study = load(
        ROOT / "studies" / "scratch.yaml",
        profile="cpu",
        overrides=[*settings, "knobs.batch_size=null"],
        devices_have_cuda=False,
    )
    return study.model_copy(update={"name": name, "store": url})


def losses(config: TrainConfig) -> list[float]:
    """Return the losses of a config's run at each evaluation: a power law that ends on a smooth surface."""
    rate = math.log(config.learning_rate / 3e-3)
    luck = 0.01 * math.sin(1e5 * config.learning_rate + 100 * config.weight_decay + config.seed)
    end = 3.4 + 0.07 * rate**2 + 0.9 * config.dropout**2 + 0.08 * math.log(128 / config.n_embd) + luck
    return [end + 3 * ((1 + 3 * i) ** -0.9 - (1 + 3 * EVALUATIONS) ** -0.9) for i in range(EVALUATIONS + 1)]


def fill(store: Store, study: Study) -> None:
    """Write a new study with all its trials: the baseline's seeds, the single-knob trials, and random ones."""
    dataset, facts = unread_dataset(), DataFacts.of(unread_dataset())
    store.add_study(study, data=facts, provenance={})
    optuna_studies = {
        name: optuna.create_study(storage=store.storage, study_name=name) for name in (study.name, study.name + CONFIRM)
    }
    designed = proposals.designed(study, vocab_size=dataset.vocab_size)
    first = [*designed.baseline, *designed.one_at_a_time]
    numbers = dict.fromkeys(optuna_studies, 0)
    for run in watched(_runs(study, first, vocab_size=dataset.vocab_size), len(first) + study.trials, noun="trials"):
        numbered = dataclasses.replace(run, trial=numbers[run.optuna_study])
        numbers[run.optuna_study] += 1
        stored = store.add_run(study.name, numbered, fingerprint=dataset.fingerprint, versions={}, commit=None)
        store.add_points([(stored.id, point) for point in run.points], name=study.name, seconds=0.0)
        store.ended(
            stored.id,
            outcome=run.outcome,
            reason="",
            step=run.points[-1].step,
            seconds=run.seconds,
            val_loss=run.val_loss,
            val_se=run.val_se,
            pruning=run.pruning,
        )
        optuna_studies[run.optuna_study].add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if run.val_loss is not None else TrialState.PRUNED,
                value=run.val_loss,
                params=dict(run.params),
                distributions={name: of for name, of in space.distributions(study).items() if name in run.params},
                intermediate_values={index: point.val_loss for index, point in enumerate(run.points)},
            )
        )


def _runs(study: Study, first: Sequence[proposals.Proposal], *, vocab_size: int) -> Iterator[Run]:
    for proposal in first:
        in_search = proposal.params is not None and proposal.seed == study.seed
        yield _ended(
            new_run(
                optuna_study=study.name if in_search else study.name + CONFIRM,
                trial=0,
                params=proposal.params or {},
                config=proposal.config,
                proposal=proposal,
            )
        )
    random, rng = optuna.samplers.RandomSampler(seed=study.seed), np.random.default_rng(study.seed)
    empty = optuna.create_study(sampler=random)
    blank = optuna.trial.create_trial(value=0.0)
    for number in range(len(first), len(first) + study.trials):
        params = {
            name: random.sample_independent(empty, blank, name, of) for name, of in space.distributions(study).items()
        }
        config = proposals.config_of(study, params, seed=study.seed, vocab_size=vocab_size)
        run = new_run(optuna_study=study.name, trial=number, params=params, config=config, proposal=None)
        yield _ended(run, pruned=bool(rng.random() < PRUNED_SHARE))


def _ended(run: Run, *, pruned: bool = False) -> Run:
    curve = losses(run.config)
    seen = curve[: round(PRUNED_AT * len(curve))] if pruned else curve
    points = tuple(
        simulated_point(run.config, at * run.config.eval_interval, loss, seconds=at + 1.0)
        for at, loss in enumerate(seen)
    )
    return dataclasses.replace(
        run,
        outcome=Outcome.PRUNED if pruned else Outcome.COMPLETE,
        points=points,
        seconds=points[-1].seconds,
        val_loss=None if pruned else curve[-1],
        val_se=None if pruned else 0.01,
        pruning=simulated_decision(points[-1], evaluation=len(points) - 1, predicted=curve[-1]) if pruned else None,
    )
