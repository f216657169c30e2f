"""A sweep as people write it today: Optuna over SQLite, and a training script started for each trial.

    python -m benchmarks.speed.plain_sweep STUDY DATA OUT --pruner median --seed 0 --began SECONDS --budget 150

TPESampler() and the pruner run at their defaults, two trials at a time by n_jobs. The sweep reads the script's lines,
reports them to Optuna and prunes. A pruned trial is killed, and so is one that is running when the budget is over.
OUT/trials.json says how each trial ended.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.commands import argument_errors, at_least, existing_file, parser_of, positive
from benchmarks.speed.plain_trial import write_config
from sweeps.study import proposals, space
from sweeps.study.load import load
from sweeps.study.study import Study
from trainer.data.dataset import open_dataset

LINE = re.compile(r"step (\d+): train loss \S+, val loss (\S+)")
PEER_PRUNERS: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
}
TRIALS_FILE = "trials.json"
TRIALS_AT_ONCE = 2


class BudgetOverError(Exception):
    """The budget is over."""


def suggested(trial: optuna.Trial, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the trial's parameters in a numeric space."""
    params: dict[str, Any] = {}
    for name, distribution in distributions.items():
        steps: dict[str, Any] = {"step": distribution.step, "log": distribution.log}  # type: ignore[attr-defined]
        if isinstance(distribution, IntDistribution):
            params[name] = trial.suggest_int(name, distribution.low, distribution.high, **steps)
        else:
            assert isinstance(distribution, FloatDistribution)
            params[name] = trial.suggest_float(name, distribution.low, distribution.high, **steps)
    return params


def train_trial(trial: optuna.Trial, study: Study, data: Path, out: Path, *, vocab_size: int, deadline: float) -> float:
    """Train the trial's config; return its last validation loss.

    Raises TrialPruned, BudgetOverError, or RuntimeError if the script fails.
    """
    params = suggested(trial, space.distributions(study))
    config = proposals.config_of(study, params, seed=study.seed, vocab_size=vocab_size)
    folder = out / str(trial.number)
    write_config(config, folder)
    command = [sys.executable, "-m", "benchmarks.speed.plain_train", str(folder), str(data)]
    loss = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:  # noqa: S603  # our own
        assert training.stdout is not None
        try:
            for line in training.stdout:
                match = LINE.match(line)
                if match is None:
                    continue
                step, loss = int(match[1]), float(match[2])
                if time.time() > deadline:
                    raise BudgetOverError
                if 0 < step < config.max_iters:
                    trial.report(loss, step // config.eval_interval)
                    if trial.should_prune():
                        raise optuna.TrialPruned
        except BaseException:
            training.kill()
            raise
    if training.returncode or loss is None:
        raise RuntimeError(f"{' '.join(command)} ended with {training.returncode}")
    if time.time() > deadline:
        raise BudgetOverError
    return loss


def add_peer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every peer's sweep takes."""
    parser.add_argument("study", type=existing_file, help="study file whose space is searched")
    parser.add_argument("data", type=Path, help="folder of the tokens")
    parser.add_argument("out", type=Path, help="folder to make for the trials")
    parser.add_argument("--seed", type=at_least(0), required=True, help="seed of the sampler and of training")
    parser.add_argument("--began", type=positive, required=True, help="start of the budget, by time.time()")
    parser.add_argument("--budget", type=positive, required=True, help="seconds")


def main() -> None:
    """Search until the budget is over, and write how the trials ended."""
    parser = parser_of(__doc__)
    add_peer_arguments(parser)
    parser.add_argument("--pruner", choices=tuple(PEER_PRUNERS), required=True, help="Optuna's pruner")
    options = parser.parse_args()
    with argument_errors(parser):
        study = load(options.study, devices_have_cuda=False).model_copy(update={"seed": options.seed})
        vocab_size = open_dataset(options.data).vocab_size
    deadline = options.began + options.budget
    options.out.mkdir(parents=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a warning per interrupted trial says nothing
    search = optuna.create_study(
        storage=f"sqlite:///{options.out / 'optuna.db'}",
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=PEER_PRUNERS[options.pruner](),
    )
    search.optimize(
        lambda trial: train_trial(trial, study, options.data, options.out, vocab_size=vocab_size, deadline=deadline),
        n_jobs=TRIALS_AT_ONCE,
        timeout=deadline - time.time(),
        catch=(BudgetOverError,),
    )
    endings = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "loss": trial.value,
            "seconds": trial.datetime_complete.timestamp() - options.began if trial.datetime_complete else None,
        }
        for trial in search.get_trials()
    ]
    (options.out / TRIALS_FILE).write_text(json.dumps(endings), encoding="utf-8")


if __name__ == "__main__":
    main()
