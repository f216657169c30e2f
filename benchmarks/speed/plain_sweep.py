"""A sweep as people write it today: Optuna over SQLite, and a training script started anew for each trial.

    python -m benchmarks.speed.plain_sweep STUDY DATA OUT --pruner median --seed 0 --began SECONDS --budget 150

TPESampler() and the pruner as they come, two trials at a time by n_jobs. The script's lines are read, reported and
pruned on; a trial that is pruned, or running when the budget is over, is killed. OUT/trials.json says how each ended.
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

from sweeps.study import proposals, space
from sweeps.study.load import load
from sweeps.study.study import Study
from trainer.data.dataset import open_dataset

LINE = re.compile(r"step (\d+): train loss \S+, val loss (\S+)")
PRUNERS: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
}
TRIALS = "trials.json"


class OverError(Exception):
    """The budget is."""


def suggested(trial: optuna.Trial, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The trial's parameters of a space of numbers."""
    params: dict[str, Any] = {}
    for name, each in distributions.items():
        if isinstance(each, IntDistribution):
            params[name] = trial.suggest_int(name, each.low, each.high, step=each.step, log=each.log)
        else:
            assert isinstance(each, FloatDistribution)
            params[name] = trial.suggest_float(name, each.low, each.high, step=each.step, log=each.log)
    return params


def trained(trial: optuna.Trial, study: Study, data: Path, out: Path, *, vocab_size: int, deadline: float) -> float:
    """Train the trial's config; its last validation loss. Raises TrialPruned, OverError, RuntimeError."""
    params = suggested(trial, space.distributions(study))
    config = proposals.config_of(study, params, seed=study.seed, vocab_size=vocab_size)
    folder = out / str(trial.number)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.as_dict()), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.speed.plain_train", str(folder), str(data)]
    loss = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:  # noqa: S603  # our own
        assert training.stdout is not None
        try:
            for line in training.stdout:
                if (found := LINE.match(line)) is None:
                    continue
                step, loss = int(found[1]), float(found[2])
                if time.time() > deadline:
                    raise OverError
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
        raise OverError
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pruner", choices=tuple(PRUNERS), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--began", type=float, required=True, help="when the budget began, by time.time()")
    parser.add_argument("--budget", type=float, required=True, help="seconds")
    options = parser.parse_args()
    study = load(options.study, devices_have_cuda=False).model_copy(update={"seed": options.seed})
    deadline = options.began + options.budget
    vocab_size = open_dataset(options.data).vocab_size
    options.out.mkdir(parents=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would tell of each trial that is cut off
    search = optuna.create_study(
        storage=f"sqlite:///{options.out / 'optuna.db'}",
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=PRUNERS[options.pruner](),
    )
    search.optimize(
        lambda trial: trained(trial, study, options.data, options.out, vocab_size=vocab_size, deadline=deadline),
        n_jobs=2,
        timeout=deadline - time.time(),
        catch=(OverError,),
    )
    told = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "loss": trial.value,
            "seconds": trial.datetime_complete.timestamp() - options.began if trial.datetime_complete else None,
        }
        for trial in search.get_trials()
    ]
    (options.out / TRIALS).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
