"""The same sweep by Ray Tune: default ASHA on random search, two trials at a time, each in a process of Ray's.

    python -m benchmarks.speed.ray_sweep STUDY DATA OUT --seed 0 --began SECONDS --budget 150

Needs `ray[tune]`. OUT/trials.json says how each trial ended, in the format of benchmarks.speed.plain_sweep. Ray doesn't
distinguish trials that it stopped from those that were running when the budget was over, so both are `pruned`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.commands import ROOT, argument_errors, parser_of
from benchmarks.speed import plain_train
from benchmarks.speed.plain_sweep import TRIALS_AT_ONCE, TRIALS_FILE, add_peer_arguments
from benchmarks.speed.plain_trial import CHECKPOINT, CONFIG, write_config
from sweeps.study import proposals, space
from sweeps.study.load import load
from trainer.data.dataset import open_dataset
from trainer.errors import UserError

DONE = "done.json"


def domains(distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Convert a numeric space to Ray's."""
    from ray import tune

    space_of_ray: dict[str, Any] = {}
    for name, distribution in distributions.items():
        low, high = distribution.low, distribution.high  # type: ignore[attr-defined]  # all are numeric
        if isinstance(distribution, IntDistribution):
            space_of_ray[name] = tune.qrandint(low, high, distribution.step)
        else:
            assert isinstance(distribution, FloatDistribution)
            space_of_ray[name] = tune.loguniform(low, high) if distribution.log else tune.uniform(low, high)
    return space_of_ray


def train_and_report(params: dict[str, Any], *, study_file: Path, seed: int, data: Path, out: Path) -> None:
    """Train one trial in a process of Ray's, and report each evaluation."""
    from ray import tune

    torch.set_num_threads(1)
    study = load(study_file, devices_have_cuda=False).model_copy(update={"seed": seed})
    vocab_size = open_dataset(data).vocab_size
    config = proposals.config_of(study, params, seed=seed, vocab_size=vocab_size)
    folder = out / tune.get_context().get_trial_id()
    write_config(config, folder)
    model = plain_train.initial(config)
    for step, _, loss in plain_train.training(model, config, data):
        if step == config.max_iters:
            torch.save(model.state_dict(), folder / CHECKPOINT)
            (folder / DONE).write_text(json.dumps({"loss": loss, "at": time.time()}), encoding="utf-8")
        if step:
            tune.report({"val_loss": loss, "evaluation": step // config.eval_interval})


def main() -> None:
    """Search until the budget is over, and write how the trials ended."""
    parser = parser_of(__doc__)
    add_peer_arguments(parser)
    options = parser.parse_args()
    with argument_errors(parser):
        if why := missing_ray():
            raise UserError(why)
        study = load(options.study, devices_have_cuda=False)
        open_dataset(options.data)
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    deadline = options.began + options.budget
    out = options.out.absolute()
    out.mkdir(parents=True)
    # Ray starts its processes in another folder
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ray.init(
        num_cpus=TRIALS_AT_ONCE, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment}
    )
    arguments = {"study_file": options.study.absolute(), "data": options.data.absolute()}
    tune.Tuner(
        tune.with_parameters(train_and_report, **arguments, seed=options.seed, out=out),
        param_space=domains(space.distributions(study)),
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            scheduler=ASHAScheduler(time_attr="evaluation", max_t=study.evaluations, grace_period=1),
            search_alg=BasicVariantGenerator(max_concurrent=TRIALS_AT_ONCE, random_state=options.seed),
            num_samples=-1,
            time_budget_s=deadline - time.time(),
        ),
        run_config=tune.RunConfig(storage_path=str(out / "ray"), name="asha", verbose=0),
    ).fit()
    ray.shutdown()
    folders = [file.parent for file in sorted(out.glob(f"*/{CONFIG}"))]
    endings = [ending(folder, began=options.began, deadline=deadline) for folder in folders]
    (out / TRIALS_FILE).write_text(json.dumps(endings), encoding="utf-8")


def missing_ray() -> str:
    """Return why Ray can't be used here, or "" if it can."""
    return "" if importlib.util.find_spec("ray") else "Ray is not installed (pip install 'ray[tune]')"


def ending(folder: Path, *, began: float, deadline: float) -> dict[str, Any]:
    """Return how the trial of a folder ended."""
    file = folder / DONE
    done = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if done is None or done["at"] > deadline:
        return {"number": folder.name, "state": "pruned", "loss": None, "seconds": None}
    return {"number": folder.name, "state": "complete", "loss": done["loss"], "seconds": done["at"] - began}


if __name__ == "__main__":
    main()
