"""The cost of PlateauPruner's decisions in a study of Optuna's own, by the number of finished trials.

    python -m benchmarks.pruning.pruner_cost [--finished 1000] [--evaluations 20] [--gap 500000000] [--storage URL]

The study has `--finished` trials, half of them complete and half of them stopped by the pruner, of `--evaluations` + 1
reports, `--gap` steps apart. Then four trials more report their losses, and the processor time of each call of
`should_prune` is taken. The first one in a process builds the curves of all finished trials. Memory is how much the
process has grown since the study was made. A storage other than Optuna's in memory adds its own time. A run takes a few
seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time

import optuna
import psutil
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from benchmarks.commands import at_least, parser_of
from sweeps.pruner import PlateauPruner
from sweeps.pruning.pruner import PREFIX

SPACE = {"learning_rate": FloatDistribution(1e-5, 1e-1, log=True), "dropout": FloatDistribution(0, 0.5)}
TIMED = 4
"""trials whose decisions are timed"""


def main() -> None:
    """Time decisions and print them."""
    parser = parser_of(__doc__)
    parser.add_argument("--finished", type=at_least(1), default=1000, help="finished trials (default 1000)")
    parser.add_argument("--evaluations", type=at_least(1), default=20, help="evaluations of a trial (default 20)")
    parser.add_argument("--gap", type=at_least(1), default=500_000_000, help="steps between them (default 5e8)")
    parser.add_argument("--storage", metavar="URL", help="Optuna's storage, such as sqlite:///new.db (default: memory)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = measured(options)
    text = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
    print(json.dumps(found) if options.json else text)


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Return the milliseconds of the decisions, and the MiB that the process grew by while they were taken."""
    draw = random.Random(1)
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(storage=options.storage, pruner=PlateauPruner(), sampler=sampler)
    trials = [finished(draw, options, stopped=number % 2 == 1) for number in range(options.finished)]
    study.add_trials(trials)
    for number in range(1, options.finished, 2):
        study.set_user_attr(f"{PREFIX}{number}", decision(trials[number]))
    before, times = psutil.Process().memory_info().rss, []
    for _ in range(TIMED):
        trial = study.ask(SPACE)
        for k, loss in enumerate(losses(draw, trial.params["learning_rate"], options.evaluations)):
            trial.report(loss, step=k * options.gap)
            began = time.process_time()
            stops = trial.should_prune()
            times.append(1000 * (time.process_time() - began))
            if stops:
                break
        study.tell(trial, loss if not stops else None, state=TrialState.PRUNED if stops else TrialState.COMPLETE)
    first, *others = times
    grown = (psutil.Process().memory_info().rss - before) / 2**20
    return {"first_ms": first, "median_ms": statistics.median(others), "slowest_ms": max(others), "grown_MiB": grown}


def finished(draw: random.Random, options: argparse.Namespace, *, stopped: bool) -> FrozenTrial:
    """Return a trial that ended, or was stopped at a third of its horizon."""
    params = {"learning_rate": 10 ** draw.uniform(-5, -1), "dropout": draw.uniform(0, 0.5)}
    curve = losses(draw, params["learning_rate"], options.evaluations)
    seen = curve[: options.evaluations // 3 + 1] if stopped else curve
    return optuna.trial.create_trial(
        state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
        value=None if stopped else curve[-1],
        params=params,
        distributions=SPACE,
        intermediate_values={k * options.gap: loss for k, loss in enumerate(seen)},
    )


def decision(trial: FrozenTrial) -> dict[str, object]:
    """Return the numbers of a decision against a trial, as the pruner writes them."""
    step = trial.last_step or 0
    predicted = {"mean": trial.intermediate_values[step] - 0.2, "scale": 0.1, "degrees": 9.0}
    numbers = dict.fromkeys(("low", "high", "chance", "epsilon", "best", "evaluation", "completed"), 0.5)
    return {"stopped": True, "reason": "dominated", "step": step, "predicted": predicted, **numbers}


def losses(draw: random.Random, rate: float, evaluations: int) -> list[float]:
    """Return the losses of a trial, which ends lowest at a rate of 0.001."""
    final = 3 + abs(math.log10(rate) + 3)
    return [final + 4 * math.exp(-5 * k / evaluations) + draw.gauss(0, 0.01) for k in range(evaluations + 1)]


if __name__ == "__main__":
    main()
