"""False claims of whole confirm phases: simulated searches, the real planner and the real verdict.

    python -m benchmarks.verdict.confirm_phases [--studies 200] [--seed 0] [--json]

`benchmarks.verdict.intervals` looks at fixed numbers of seeds. Here the planner chooses each run from the runs before
it, adds seeds where the verdict is open, and stops when the verdict is settled. The shares therefore include the error
that comes from looking again after each run.

A study has six knobs, two candidates, three seeds of the baseline, 24 random trials and at most 60 confirming runs. A
final loss is the sum of the config's true loss, which is known here, a seed's luck (standard deviation 0.06 nats,
shared by all configs of one width and length) and the run's own noise:

- even: standard deviation 0.03 for every run;
- uneven: a standard deviation per config, log-uniform between 0.004 and 0.05;
- bimodal: uneven, and half of the runs are stuck 0.3 nats higher;
- loud: standard deviation 0.06.

In these scenarios no knob has an effect, so every claim is false: broken, a gain of the best or of a knob (shown to
last or not), a knob necessary, joint or hurting, advice right or wrong. In a fifth scenario, planted, the noise is
uneven and the learning rate alone can gain 0.17 nats over the baseline.

The output is the share of studies with a false claim, in all (with Wilson's 95 % interval) and by kind, and the mean
number of confirming runs. For planted studies it is also how often the plateau was said to be broken, how often the
learning rate was said to break it alone, and how often the headline credited it first. 3 core-seconds per study.
"""

from __future__ import annotations

import json
import math
import statistics
import zlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.commands import simulation_arguments
from benchmarks.progress import watched
from benchmarks.verdict.intervals import LUCK_SD, OWN_SD_RANGE, STUCK_GAP
from sweeps.analysis.arms import PHASE
from sweeps.analysis.attribution import Attribution, BestWord, CandidateWord, KnobWord, Why
from sweeps.analysis.findings import Findings
from sweeps.study.study import Study
from tests.helpers.simulated_study import VOCAB_SIZE, Loss, confirmed, searched
from trainer.config import TrainConfig

EVEN_SD = 0.03
EARLY = 0.3
"""nats by which a run of half the length ends above a whole one"""
RANDOM_TRIALS = 24
PLANTED_KNOB = "learning_rate"
SETTINGS: dict[str, Any] = {
    "name": "plateau",
    "tokenizer": {"type": "bpe", "vocab_size": VOCAB_SIZE},
    "baseline": {
        "n_layer": 6,
        "n_embd": 384,
        "head_size": 32,
        "block_size": 256,
        "batch_size": 16,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-3,
        "min_lr": 1e-4,
        "warmup_iters": 15,
        "max_iters": 600,
        "lr_decay_iters": 600,
    },
    "horizon": {"iters": 600},
    "knobs": {
        "learning_rate": {"low": 1e-4, "high": 6e-3, "log": True},
        "min_lr": {"ratio_of": "learning_rate", "low": 0.0, "high": 0.3},
        "warmup_iters": {"fraction_of": "max_iters", "low": 0.01, "high": 0.2},
        "dropout": {"low": 0.0, "high": 0.3},
        "weight_decay": {"low": 1e-3, "high": 0.5, "log": True},
        "n_embd": {"low": 192, "high": 768, "step": 64},
    },
    "baseline_seeds": 3,
    "trials": 60,
    "candidates": [{"learning_rate": 5e-4, "min_lr": 5e-5}, {"dropout": 0.2}],
}

ClaimKey = tuple[str, str]
"""the kind of a claim, and the knob or candidate that it is about"""


@dataclass(frozen=True, kw_only=True)
class PhaseScenario:
    """One kind of noise, with a fault planted or not."""

    name: str
    sd: float | None = None
    """of every run's own noise; None: one per config"""
    bimodal: bool = False
    planted: bool = False


PHASE_SCENARIOS = (
    PhaseScenario(name="even", sd=EVEN_SD),
    PhaseScenario(name="uneven"),
    PhaseScenario(name="loud", sd=2 * EVEN_SD),
    PhaseScenario(name="bimodal", bimodal=True),
    PhaseScenario(name="planted", planted=True),
)


def true_loss(scenario: PhaseScenario, config: TrainConfig) -> float:
    """Return the mean final loss of a config: a parabola in the logarithm of the learning rate, or flat."""
    return 3.4 + (0.14 * math.log(config.learning_rate / 3e-3) ** 2 if scenario.planted else 0.0)


def loss_function(scenario: PhaseScenario, *, key: tuple[int, ...]) -> Loss:
    """Return the final losses of one study; a config has the same loss at every call."""

    def loss(config: TrainConfig) -> float:
        settings = {name: value for name, value in config.as_dict().items() if name not in ("seed", "max_iters")}
        arm = _hash(sorted(settings.items()))
        shared_rng = np.random.default_rng([*key, 0, config.seed, config.n_embd, config.max_iters])
        own_rng = np.random.default_rng([*key, 1, arm, config.seed, config.max_iters])
        sd = scenario.sd
        if sd is None:
            sd = float(np.exp(np.random.default_rng([*key, 2, arm]).uniform(*np.log(OWN_SD_RANGE))))
        stuck = STUCK_GAP * float(own_rng.random() < 0.5) if scenario.bimodal else 0.0
        early = EARLY if config.max_iters < 600 else 0.0
        luck, noise = LUCK_SD * float(shared_rng.normal()), sd * float(own_rng.normal())
        return true_loss(scenario, config) + stuck + early + luck + noise

    return loss


def _hash(value: object) -> int:
    return zlib.crc32(repr(value).encode())


def claims_of_verdict(attribution: Attribution | None) -> list[ClaimKey]:
    """List what a verdict claims."""
    if attribution is None:
        return []
    claims = [("broken", "")] if attribution.word is not BestWord.NONE else []
    if attribution.why in (Why.NO_SHORT_RUNS, Why.PERHAPS_HEAD_START):
        claims += [("gains", "")]
    claims += [
        (effect.word.name.lower(), effect.knob)
        for effect in attribution.knobs
        if effect.word not in (KnobWord.NO_EFFECT, KnobWord.UNKNOWN)
    ]
    claims += [
        (candidate.word.name.lower(), str(candidate.candidate))
        for candidate in attribution.candidates
        if candidate.word in (CandidateWord.RIGHT, CandidateWord.WRONG)
    ]
    return claims


TRUE_WHERE_PLANTED = {
    ("broken", ""),
    ("gains", ""),
    ("alone", PLANTED_KNOB),
    ("gains", PLANTED_KNOB),
    ("necessary", PLANTED_KNOB),
    ("wrong", "0"),
}
"""The learning rate gains, alone or as a necessary knob, and a rate below the baseline's is wrong."""


def is_true(scenario: PhaseScenario, claim: ClaimKey) -> bool:
    """Whether a claim holds in the scenario."""
    return scenario.planted and claim in TRUE_WHERE_PLANTED


@dataclass(frozen=True, kw_only=True)
class JudgedStudy:
    """The claims of one study's verdict."""

    claims: tuple[ClaimKey, ...]
    false_claims: tuple[ClaimKey, ...]
    runs: int
    """of the confirm phase"""
    credited: bool
    """whether the headline names the planted knob first"""


def judged_study(scenario: PhaseScenario, *, seed: int, number: int) -> JudgedStudy:
    """Simulate one study and judge it."""
    study = Study.model_validate(SETTINGS)
    loss = loss_function(scenario, key=(seed, PHASE_SCENARIOS.index(scenario), number))
    results = confirmed(searched(study, loss, trials=RANDOM_TRIALS, key=number), loss)
    attribution = Findings(results).attribution
    claims = tuple(claims_of_verdict(attribution))
    return JudgedStudy(
        claims=claims,
        false_claims=tuple(claim for claim in claims if not is_true(scenario, claim)),
        runs=sum(run.phase == PHASE for run in results.runs),
        credited=attribution is not None and attribution.headline[:1] == (PLANTED_KNOB,),
    )


def _judged_task(task: tuple[PhaseScenario, int, int]) -> JudgedStudy:
    scenario, seed, number = task
    return judged_study(scenario, seed=seed, number=number)


def measure_phases(scenarios: Iterable[PhaseScenario], *, studies: int, seed: int) -> list[dict[str, Any]]:
    """Return the shares of claims, one row per scenario."""
    tasks = [(scenario, seed, number) for scenario in scenarios for number in range(studies)]
    judged: dict[str, list[JudgedStudy]] = {}
    with ProcessPoolExecutor() as pool:
        judged_tasks = watched(pool.map(_judged_task, tasks), len(tasks), noun="studies")
        for (scenario, *_), study in zip(tasks, judged_tasks, strict=True):
            judged.setdefault(scenario.name, []).append(study)
    return [scenario_row(scenario, judged[scenario.name]) for scenario in PHASE_SCENARIOS if scenario.name in judged]


def scenario_row(scenario: PhaseScenario, studies: list[JudgedStudy]) -> dict[str, Any]:
    """Return the shares over the studies of a scenario."""
    with_false_claims = sum(bool(study.false_claims) for study in studies)
    interval = binomtest(with_false_claims, len(studies)).proportion_ci(method="wilson")
    kinds = Counter(kind for study in studies for kind in {kind for kind, _ in study.false_claims})
    row: dict[str, Any] = {
        "scenario": scenario.name,
        "studies": len(studies),
        "false_claims": with_false_claims / len(studies),
        "ci": [interval.low, interval.high],
        "kinds": {kind: count / len(studies) for kind, count in sorted(kinds.items())},
        "runs": statistics.fmean(study.runs for study in studies),
    }
    if scenario.planted:
        row["broken"] = statistics.fmean(("broken", "") in study.claims for study in studies)
        row["credited"] = statistics.fmean(study.credited for study in studies)
        row["named"] = statistics.fmean(("alone", PLANTED_KNOB) in study.claims for study in studies)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the shares as text, a line per scenario."""
    lines = []
    for row in rows:
        low, high = row["ci"]
        kinds = ", ".join(f"{kind} {share:.3f}" for kind, share in row["kinds"].items()) or "none"
        line = f"{row['scenario']:<10}false claims {row['false_claims']:.3f} [{low:.3f}, {high:.3f}]: {kinds}"
        line += f"; {row['runs']:.0f} runs"
        if "named" in row:
            line += f"; broken {row['broken']:.3f}, named {row['named']:.3f}, first {row['credited']:.3f}"
        lines.append(f"{line} (n {row['studies']})")
    return "\n".join(lines)


def main() -> None:
    """Print the shares of false claims."""
    options = simulation_arguments(__doc__, studies=200)
    rows = measure_phases(PHASE_SCENARIOS, studies=options.studies, seed=options.seed)
    print(json.dumps(rows, indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()
