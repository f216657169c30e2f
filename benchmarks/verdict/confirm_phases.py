"""What does a whole confirm phase claim, errors counted? Simulated searches, the real planner and the real verdict.

    python -m benchmarks.verdict.confirm_phases [--studies 200] [--seed 0] [--json]

Unlike `benchmarks.verdict.intervals`, which looks at fixed numbers of seeds, here the planner chooses each run by
those before
it, adds seeds where the verdict is open, and stops when it is settled: an error that such looking again and again adds
is in these figures. A study has six knobs, two candidates, three seeds of the baseline, 24 random trials, and at most
60 confirming runs. A final loss is what the config truly gives (known here), a seed's luck (sd .06 nats, shared by all
configs of one width and length), and an own part:

- even: sd .03 for every run;
- uneven: an sd for each config, between .004 and .05 (log-uniform);
- bimodal: uneven, and stuck .3 nats above in half of the runs;
- loud: sd .06.

Nothing does anything, so that every claim (broken, a knob alone, necessary, joint or hurting, advice right or wrong) is
false; or the learning rate alone gains .17 nats over the baseline's (planted: uneven noise). Printed are the share of
studies with a false claim, by kind and in all, with its 95 % interval (Wilson's), the confirming runs made, and of
planted studies how often the plateau was said to be broken and the rate to do it alone. 3 seconds a study on a core.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.progress import watched
from sweeps.analysis.arms import PHASE
from sweeps.analysis.attribution import AdviceWord, Attribution, BestWord, KnobWord
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.engine import confirm
from sweeps.store.records import DataFacts, Results, Run
from sweeps.study import space
from sweeps.study.proposals import Proposal, baseline_proposals, candidate_proposals, config_of, star_proposals
from sweeps.study.study import Study
from trainer.config import TrainConfig

Loss = Callable[[TrainConfig], float]

LUCK, SD, OWN, STUCK = 0.06, 0.03, (0.004, 0.05), 0.3
EARLY = 0.3
"""nats that a run of half the length ends above a whole one"""
VOCABULARY = 2048
TRIALS = 24
PLANTED = "learning_rate"
SETTINGS: dict[str, Any] = {
    "name": "plateau",
    "tokenizer": {"type": "bpe", "vocab_size": VOCABULARY},
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


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of noise, with a fault planted or not."""

    name: str
    sd: float | None = None
    """of every run's own part; None: one for each config"""
    bimodal: bool = False
    planted: bool = False


SCENARIOS = (
    Scenario(name="even", sd=SD),
    Scenario(name="uneven"),
    Scenario(name="loud", sd=2 * SD),
    Scenario(name="bimodal", bimodal=True),
    Scenario(name="planted", planted=True),
)


def true_loss(scenario: Scenario, config: TrainConfig) -> float:
    """The mean final loss of a config: a parabola in the logarithm of the rate, or flat."""
    return 3.4 + (0.14 * math.log(config.learning_rate / 3e-3) ** 2 if scenario.planted else 0.0)


def losses(scenario: Scenario, *, key: tuple[int, ...]) -> Loss:
    """Final losses of one study, the same for the same config."""

    def loss(config: TrainConfig) -> float:
        settings = {name: value for name, value in config.as_dict().items() if name not in ("seed", "max_iters")}
        arm = _hash(sorted(settings.items()))
        shared = np.random.default_rng([*key, 0, config.seed, config.n_embd, config.max_iters])
        own = np.random.default_rng([*key, 1, arm, config.seed, config.max_iters])
        sd = scenario.sd
        if sd is None:
            sd = float(np.exp(np.random.default_rng([*key, 2, arm]).uniform(*np.log(OWN))))
        stuck = STUCK * float(own.random() < 0.5) if scenario.bimodal else 0.0
        early = EARLY if config.max_iters < 600 else 0.0
        return true_loss(scenario, config) + stuck + early + LUCK * float(shared.normal()) + sd * float(own.normal())

    return loss


def _hash(value: object) -> int:
    return zlib.crc32(repr(value).encode())


def searched(study: Study, loss: Loss, *, trials: int, vocab_size: int = VOCABULARY, key: int = 0) -> Results:
    """The study before its confirm phase: the baseline's seeds, candidates, the star and random trials."""
    rng = np.random.default_rng([study.seed, key])
    proposals = [
        *baseline_proposals(study, vocab_size=vocab_size),
        *candidate_proposals(study, vocab_size=vocab_size),
        *star_proposals(study, vocab_size=vocab_size),
        *(_trial(study, rng, number, vocab_size=vocab_size) for number in range(trials)),
    ]
    facts = DataFacts(
        path="simulated",
        fingerprint="",
        vocab_size=vocab_size,
        train_tokens=10**7,
        val_tokens=10**6,
        bytes_per_token=None,
    )
    runs = tuple(run_of(number, proposal, loss, study=study) for number, proposal in enumerate(proposals))
    return Results(study=study, data=facts, runs=runs, provenance={}, seconds=0.0)


def confirmed(results: Results, loss: Loss) -> Results:
    """The study with every run that its confirm phase asks for, one after another."""
    study, runs = results.study, list(results.runs)
    arms = Evidence(results).arms  # of the best, which stays
    while sum(run.phase == PHASE for run in runs) < study.confirm.max_trials:
        evidence = Evidence(dataclasses.replace(results, runs=tuple(runs)), arms)
        wish = confirm.next_run(evidence)
        if wish is None:
            break
        runs.append(run_of(len(runs), evidence.arms.proposal(*wish), loss, study=study))
    return dataclasses.replace(results, runs=tuple(runs))


def run_of(number: int, proposal: Proposal, loss: Loss, *, study: Study) -> Run:
    """A complete run of a proposal."""
    at_home = proposal.seed == study.seed and proposal.params
    return Run(
        id=number,
        optuna_study=study.name if at_home else f"{study.name}-confirm",
        trial=number,
        seed=proposal.seed,
        phase=proposal.phase,
        origin=proposal.origin,
        label=proposal.label,
        knob=proposal.knob,
        params=proposal.params or {},
        config=proposal.config,
        device="cpu",
        outcome="complete",
        reason="",
        val_loss=loss(proposal.config),
        val_se=0.002,
        seconds=90.0,
        points=(),
    )


def _trial(study: Study, rng: np.random.Generator, number: int, *, vocab_size: int) -> Proposal:
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


def claims(found: Attribution | None) -> list[tuple[str, str]]:
    """What a verdict claims: the kind, and of whom."""
    if found is None:
        return []
    silent = (KnobWord.NO_EFFECT, KnobWord.UNKNOWN)
    said = [("broken", "")] if found.word is not BestWord.NONE else []
    said += [(each.word.name.lower(), each.knob) for each in found.knobs if each.word not in silent]
    advice = (AdviceWord.RIGHT, AdviceWord.WRONG)
    return said + [(each.word.name.lower(), str(each.candidate)) for each in found.advice if each.word in advice]


def is_true(scenario: Scenario, claim: tuple[str, str]) -> bool:
    """Of a planted study: that the rate gains, alone or needed, and that a lower one than the baseline's is wrong."""
    return scenario.planted and claim in {
        ("broken", ""),
        ("alone", PLANTED),
        ("necessary", PLANTED),
        ("wrong", "0"),
    }


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What became of one study."""

    said: tuple[tuple[str, str], ...]
    false: tuple[tuple[str, str], ...]
    runs: int
    """of the confirm phase"""


def judged(scenario: Scenario, *, seed: int, number: int) -> Judged:
    """One study to its verdict."""
    study = Study.model_validate(SETTINGS)
    loss = losses(scenario, key=(seed, SCENARIOS.index(scenario), number))
    results = confirmed(searched(study, loss, trials=TRIALS, key=number), loss)
    said = tuple(claims(Findings(results).attribution))
    return Judged(
        said=said,
        false=tuple(claim for claim in said if not is_true(scenario, claim)),
        runs=sum(run.phase == PHASE for run in results.runs),
    )


def _judged(task: tuple[Scenario, int, int]) -> Judged:
    scenario, seed, number = task
    return judged(scenario, seed=seed, number=number)


def measure(scenarios: Iterable[Scenario], *, studies: int, seed: int) -> list[dict[str, Any]]:
    """Shares of claims by scenario."""
    tasks = [(scenario, seed, number) for scenario in scenarios for number in range(studies)]
    found: dict[str, list[Judged]] = {}
    with ProcessPoolExecutor() as pool:
        for (scenario, *_), each in zip(
            tasks, watched(pool.map(_judged, tasks), len(tasks), noun="studies"), strict=True
        ):
            found.setdefault(scenario.name, []).append(each)
    return [summary(scenario, found[scenario.name]) for scenario in SCENARIOS if scenario.name in found]


def summary(scenario: Scenario, found: list[Judged]) -> dict[str, Any]:
    """Of the studies of a scenario."""
    wrong = sum(bool(each.false) for each in found)
    interval = binomtest(wrong, len(found)).proportion_ci(method="wilson")
    kinds = Counter(kind for each in found for kind in {kind for kind, _ in each.false})
    made: dict[str, Any] = {
        "scenario": scenario.name,
        "studies": len(found),
        "false_claims": wrong / len(found),
        "ci": [interval.low, interval.high],
        "kinds": {kind: count / len(found) for kind, count in sorted(kinds.items())},
        "runs": statistics.fmean(each.runs for each in found),
    }
    if scenario.planted:
        made["broken"] = statistics.fmean(("broken", "") in each.said for each in found)
        made["named"] = statistics.fmean(("alone", PLANTED) in each.said for each in found)
    return made


def table(found: list[dict[str, Any]]) -> str:
    """The shares as text, a line a scenario."""
    lines = []
    for each in found:
        low, high = each["ci"]
        kinds = ", ".join(f"{kind} {share:.3f}" for kind, share in each["kinds"].items()) or "none"
        line = f"{each['scenario']:<10}false claims {each['false_claims']:.3f} [{low:.3f}, {high:.3f}]: {kinds}"
        line += f"; {each['runs']:.0f} runs"
        if "named" in each:
            line += f"; broken {each['broken']:.3f}, named {each['named']:.3f}"
        lines.append(f"{line} (n {each['studies']})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="of each scenario (default 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    found = measure(SCENARIOS, studies=arguments.studies, seed=arguments.seed)
    print(json.dumps(found, indent=1) if arguments.json else table(found))


if __name__ == "__main__":
    main()
