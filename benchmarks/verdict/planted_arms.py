"""The arms of direct runs on planted faults: what is trained on fresh seeds to see whether a verdict is true.

In a study of branches they go on from the sweep's own origin. Races are repeated from scratch, under the origin's
schedule, up to the step at which the verdict reads the gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.verdict.planted_scores import (
    ADVICE,
    NO_VERDICT,
    RACE,
    UNCHANGED,
    Arm,
    Claim,
    arms_of,
    changed_knobs,
    claims_of,
    text_of,
)
from benchmarks.verdict.train_directly import Task, Trained
from sweeps.store.records import Results
from sweeps.study import origin_runs
from sweeps.study.horizon import at_horizon
from sweeps.study.knobs import PARAM
from sweeps.study.proposals import baseline_params, config_of
from trainer import strict_yaml
from trainer.config import TrainConfig

MENDED = Arm(["mended"])
"""the baseline, or the control, with its fault mended"""


def direct_tasks(
    planted: Sequence[str],
    results: Results,
    output: Mapping[str, Any],
    *,
    mends: Mapping[str, Any],
    seeds: Sequence[int],
    race_seeds: Sequence[int],
) -> dict[Arm, list[Task]]:
    """Return the runs of every arm that the claims ask for, of the mended baseline, and of the best of a null case.

    `mends` are the settings that mend the fault; empty: nothing does.
    """
    verdict = output["verdict"] or NO_VERDICT
    claims, changed = claims_of(output), changed_knobs(verdict)
    arms = dict.fromkeys(
        [Arm(), *(arm for claim in claims if claim.verdict != RACE for arm in arms_of(claim, changed))]
    )
    if not planted and changed:
        arms[changed] = None
    origin = None if results.study.origin is None else Path(results.study.origin.checkpoint)
    tasks = {
        arm: [Task(config=config_of_arm(results, arm, verdict, seed), origin=origin) for seed in seeds] for arm in arms
    }
    if mends:
        vocab_size = results.data.vocab_size
        configs = [at_horizon(results.study, mends, seed=seed, vocab_size=vocab_size) for seed in seeds]
        tasks[MENDED] = [Task(config=config, origin=origin) for config in configs]
    return tasks | race_tasks(results, [claim for claim in claims if claim.verdict == RACE], seeds=race_seeds)


def race_tasks(results: Results, claims: Sequence[Claim], *, seeds: Sequence[int]) -> dict[Arm, list[Task]]:
    """Return the races of the claims, each as long as its claim; the origin's own run as long as the longest."""
    longest = max((claim.step or 0 for claim in claims), default=0)
    tasks = {}
    for claim in claims:
        for arm in arms_of(claim, Arm()):
            change = change_of(arm)
            configs = [
                origin_runs.race_config(results.study, change, seed=seed, vocab_size=results.data.vocab_size)
                for seed in seeds
            ]
            until = longest if change is None else claim.step
            tasks[arm] = [Task(config=config, until=until) for config in configs]
    return tasks


def loss_of(arm: Arm, run: Trained) -> float:
    """Return the loss of an arm's run: the final one, or that of a race at the claim's step."""
    (name,) = arm if len(arm) == 1 else ("",)
    return run.curve[int(name.rpartition(" at ")[2])] if name.startswith("race ") else run.loss


def change_of(arm: Arm) -> tuple[str, Any] | None:
    """Return what is changed in the arm of a race, as nanoGPT's name and value. None: nothing."""
    (name,) = arm
    what = name.rpartition(" at ")[0]
    if what == UNCHANGED:
        return None
    knob, _, value = what.removeprefix("race ").partition("=")
    return knob, strict_yaml.load(value, name=what).value


def config_of_arm(results: Results, arm: Arm, verdict: Mapping[str, Any], seed: int) -> TrainConfig:
    """Return the baseline, or the control, with the arm's knobs at the best trial's values, or with an advice."""
    study, best = results.study, results.best
    params = baseline_params(study)
    advice = next((name.removeprefix(f"{ADVICE} ") for name in arm if name.startswith(f"{ADVICE} ")), None)
    for param in (PARAM.get(knob, knob) for knob in arm if advice is None):
        assert best is not None
        params[param] = best.params[param]
    config = config_of(study, params, seed=seed, vocab_size=results.data.vocab_size)
    if advice is None:
        return config
    return config.replace(**next(each["config"] for each in verdict["candidates"] if text_of(each["config"]) == advice))
