"""Simulated studies: a search and its confirm phase on a known loss, in memory, without a trainer or a store."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sweeps.analysis.arms import PHASE
from sweeps.analysis.evidence import Evidence
from sweeps.engine import confirm
from sweeps.store.records import DataFacts, Outcome, Results, Run
from sweeps.study import space
from sweeps.study.proposals import Proposal, config_of, designed
from sweeps.study.study import Study
from trainer.config import TrainConfig

Loss = Callable[[TrainConfig], float]
"""final loss of a config, nats per token"""

VOCAB_SIZE = 2048


def searched(study: Study, loss: Loss, *, trials: int, vocab_size: int = VOCAB_SIZE, key: int = 0) -> Results:
    """Return the study before its confirm phase: baseline seeds, candidates, single-knob trials, random trials.

    `trials` counts the random ones. Studies of the same seed with different keys draw different random trials.
    """
    rng = np.random.default_rng([study.seed, key])
    proposals = [
        *designed(study, vocab_size=vocab_size).every,
        *(_random_trial(study, rng, number, vocab_size=vocab_size) for number in range(trials)),
    ]
    facts = DataFacts(
        path="simulated",
        fingerprint="",
        vocab_size=vocab_size,
        train_tokens=10**7,
        val_tokens=10**6,
        bytes_per_token=None,
    )
    runs = tuple(complete_run(number, proposal, loss, study=study) for number, proposal in enumerate(proposals))
    return Results(study=study, data=facts, runs=runs, provenance={}, seconds=0.0)


def confirmed(results: Results, loss: Loss) -> Results:
    """Return the study with every run that its confirm phase asks for, one after another."""
    study, runs = results.study, list(results.runs)
    arms = Evidence(results).arms  # they depend on the best run, which stays the same
    while sum(run.phase == PHASE for run in runs) < study.confirm.max_trials:
        evidence = Evidence(dataclasses.replace(results, runs=tuple(runs)), arms)
        next_run = confirm.next_run(evidence)
        if next_run is None:
            break
        runs.append(complete_run(len(runs), evidence.arms.proposal(*next_run), loss, study=study))
    return dataclasses.replace(results, runs=tuple(runs))


def complete_run(number: int, proposal: Proposal, loss: Loss, *, study: Study) -> Run:
    """Return the complete run of a proposal."""
    in_search = proposal.seed == study.seed and proposal.params
    return Run(
        id=number,
        optuna_study=study.name if in_search else f"{study.name}-confirm",
        trial=number,
        seed=proposal.seed,
        phase=proposal.phase,
        origin=proposal.origin,
        label=proposal.label,
        knob=proposal.knob,
        params=proposal.params or {},
        config=proposal.config,
        device="cpu",
        outcome=Outcome.COMPLETE,
        reason="",
        val_loss=loss(proposal.config),
        val_se=0.002,
        seconds=90.0,
        points=(),
    )


def _random_trial(study: Study, rng: np.random.Generator, number: int, *, vocab_size: int) -> Proposal:
    params: dict[str, Any] = {}
    for name, distribution in space.distributions(study).items():
        low, high = float(distribution.low), float(distribution.high)  # type: ignore[attr-defined]  # all are ranges
        log = distribution.log  # type: ignore[attr-defined]
        value = math.exp(rng.uniform(math.log(low), math.log(high))) if log else float(rng.uniform(low, high))
        params[name] = round(value / 64) * 64 if name == "n_embd" else value
    return Proposal(
        key=f"trial {number}",
        phase="search",
        origin="sampler",
        label=f"trial {number}",
        knob=None,
        seed=study.seed,
        params=params,
        config=config_of(study, params, seed=study.seed, vocab_size=vocab_size),
    )
