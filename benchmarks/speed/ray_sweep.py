"""The same sweep by Ray Tune: ASHA as it comes on random search, two trials at a time, each in a process of Ray's.

    python -m benchmarks.speed.ray_sweep STUDY DATA OUT --seed 0 --began SECONDS --budget 150

Needs `ray[tune]`. OUT/trials.json says how each trial ended, as benchmarks.speed.plain_sweep has it; Ray does not
tell trials that it stopped from those that were running when the budget was over, so both are `pruned`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from benchmarks.speed import plain_sweep, plain_train
from sweeps.study import proposals, space
from sweeps.study.load import load
from trainer.data.dataset import open_dataset

WORKERS = 2
DONE = "done.json"


def domains(distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """A space of numbers in Ray's words."""
    made: dict[str, Any] = {}
    for name, each in distributions.items():
        if isinstance(each, IntDistribution):
            made[name] = tune.qrandint(each.low, each.high, each.step)
        else:
            assert isinstance(each, FloatDistribution)
            made[name] = tune.loguniform(each.low, each.high) if each.log else tune.uniform(each.low, each.high)
    return made


def train(params: dict[str, Any], *, study_file: Path, seed: int, data: Path, out: Path) -> None:
    """Train one trial, reporting each evaluation."""
    torch.set_num_threads(1)
    study = load(study_file, devices_have_cuda=False).model_copy(update={"seed": seed})
    vocab_size = open_dataset(data).vocab_size
    config = proposals.config_of(study, params, seed=seed, vocab_size=vocab_size)
    folder = out / tune.get_context().get_trial_id()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.as_dict()), encoding="utf-8")
    model = plain_train.initial(config)
    for step, _, loss in plain_train.training(model, config, data):
        if step == config.max_iters:
            torch.save(model.state_dict(), folder / plain_train.CHECKPOINT)
            (folder / DONE).write_text(json.dumps({"loss": loss, "at": time.time()}), encoding="utf-8")
        if step:
            tune.report({"val_loss": loss, "evaluation": step // config.eval_interval})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--began", type=float, required=True, help="when the budget began, by time.time()")
    parser.add_argument("--budget", type=float, required=True, help="seconds")
    options = parser.parse_args()
    study = load(options.study, devices_have_cuda=False)
    deadline = options.began + options.budget
    out = options.out.absolute()
    out.mkdir(parents=True)
    # Ray's processes start elsewhere
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])}
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": here})
    given = {"study_file": options.study.absolute(), "seed": options.seed, "data": options.data.absolute(), "out": out}
    tune.Tuner(
        tune.with_parameters(train, **given),
        param_space=domains(space.distributions(study)),
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            scheduler=ASHAScheduler(time_attr="evaluation", max_t=study.evaluations, grace_period=1),
            search_alg=BasicVariantGenerator(max_concurrent=WORKERS, random_state=options.seed),
            num_samples=-1,
            time_budget_s=deadline - time.time(),
        ),
        run_config=tune.RunConfig(storage_path=str(out / "ray"), name="asha", verbose=0),
    ).fit()
    ray.shutdown()
    told = [ended(file.parent, began=options.began, deadline=deadline) for file in sorted(out.glob("*/config.json"))]
    (out / plain_sweep.TRIALS).write_text(json.dumps(told), encoding="utf-8")


def ended(folder: Path, *, began: float, deadline: float) -> dict[str, Any]:
    """How the trial of a folder ended."""
    file = folder / DONE
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if found is None or found["at"] > deadline:
        return {"number": folder.name, "state": "pruned", "loss": None, "seconds": None}
    return {"number": folder.name, "state": "complete", "loss": found["loss"], "seconds": found["at"] - began}


if __name__ == "__main__":
    main()
