"""A whole study of a known loss surface, its confirm phase too, in memory: no trainer, no store."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from sweeps import confirm, space
from sweeps.arms import PHASE
from sweeps.evidence import Evidence
from sweeps.proposals import Proposal
from sweeps.results import Results, Run
from sweeps.study import Study
from tests import synthetic
from trainer.config import TrainConfig

Surface = Callable[[TrainConfig], float]
VOCABULARY = 2048


def flat(config: TrainConfig) -> float:  # a surface
    """No knob does anything."""
    return 3.5


def slow(config: TrainConfig) -> float:
    """The rate is all: 3e-3 is best, the baseline's 1e-3 loses .17 nats."""
    return 3.4 + 0.14 * math.log(config.learning_rate / 3e-3) ** 2


def both(config: TrainConfig) -> float:
    """Less weight decay and more width gain .4 together and nothing alone: the baseline has .1 and 384."""
    return 3.5 - (0.4 if config.weight_decay < 0.05 and config.n_embd > 400 else 0.0)


def noisy(config: TrainConfig, surface: Surface, *, luck: float, noise: float) -> float:
    """A final loss: the surface, what a seed does to all configs of a width, and what it does to this one."""
    shared = np.random.default_rng([config.seed, config.n_embd, config.max_iters])
    own = np.random.default_rng(zlib.crc32(repr(sorted(config.as_dict().items())).encode()))
    early = 0.3 if config.max_iters < 600 else 0.0
    return surface(config) + early + luck * float(shared.normal()) + noise * float(own.normal())


def searched(surface: Surface, *, luck: float = 0.03, noise: float = 0.01, trials: int = 24, **changes: Any) -> Results:
    """The study before its confirm phase: 3 seeds of the baseline, candidates, the star and random trials."""
    candidates = [{"learning_rate": 5e-4, "min_lr": 5e-5}, {"dropout": 0.2}]
    study = synthetic.study(**{"baseline_seeds": 3, "trials": 60, "candidates": candidates, **changes})
    rng = np.random.default_rng(study.seed)
    proposals = [
        *space.baseline_proposals(study, vocab_size=VOCABULARY),
        *space.candidate_proposals(study, vocab_size=VOCABULARY),
        *space.star_proposals(study, vocab_size=VOCABULARY),
        *(_trial(study, rng, number) for number in range(trials)),
    ]
    runs = [_run(i, proposal, surface, luck=luck, noise=noise, study=study) for i, proposal in enumerate(proposals)]
    return synthetic.results(runs, study=study)


def confirmed(results: Results, surface: Surface, *, luck: float = 0.03, noise: float = 0.01) -> Results:
    """The study with every run that its confirm phase asks for, one after another."""
    runs = list(results.runs)
    while sum(run.phase == PHASE for run in runs) < results.study.confirm.max_trials:
        evidence = Evidence(synthetic.results(runs, study=results.study))
        wish = confirm.next_wish(evidence)
        if wish is None:
            break
        made = _run(len(runs), evidence.arms.proposal(*wish), surface, luck=luck, noise=noise, study=results.study)
        runs.append(made)
    return synthetic.results(runs, study=results.study)


def _trial(study: Study, rng: np.random.Generator, number: int) -> Proposal:
    params: dict[str, Any] = {}
    for name, distribution in space.distributions(study).items():
        low, high = float(distribution.low), float(distribution.high)  # type: ignore[attr-defined]  # all are ranges
        log = distribution.log  # type: ignore[attr-defined]
        value = math.exp(rng.uniform(math.log(low), math.log(high))) if log else float(rng.uniform(low, high))
        params[name] = round(value / 64) * 64 if name == "n_embd" else value
    config = space.config_of(study, params, seed=study.seed, vocab_size=VOCABULARY)
    label = f"trial {number}"
    return Proposal(
        key=label,
        phase="search",
        origin="sampler",
        label=label,
        knob=None,
        seed=study.seed,
        params=params,
        config=config,
    )


def _run(number: int, proposal: Proposal, surface: Surface, *, luck: float, noise: float, study: Study) -> Run:
    return synthetic.run(
        number,
        proposal.origin,
        phase=proposal.phase,
        optuna_study=study.name if proposal.seed == study.seed and proposal.params else f"{study.name}-confirm",
        seed=proposal.seed,
        label=proposal.label,
        knob=proposal.knob,
        params=proposal.params or {},
        config=proposal.config,
        val_loss=noisy(proposal.config, surface, luck=luck, noise=noise),
        points=(),
    )
