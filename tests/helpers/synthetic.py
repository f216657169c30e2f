"""Synthetic results of a study: a known loss surface and realistic curves, the same every time.

The losses come from `surface`, so tests know the truth: the baseline's learning rate is too low, width helps, dropout
hurts, and the other knobs have no effect.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from sweeps.pruning.gaussian_process import Prediction
from sweeps.store.records import DataFacts, Pruning, Results, Run
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.points import Point

PATH = Path("somewhere")
EVALUATIONS = 30
KNOBS: dict[str, dict[str, Any]] = {
    "learning_rate": {"low": 1e-4, "high": 6e-3, "log": True},
    "min_lr": {"ratio_of": "learning_rate", "low": 0.0, "high": 0.3},
    "warmup_iters": {"fraction_of": "max_iters", "low": 0.01, "high": 0.2},
    "dropout": {"low": 0.0, "high": 0.3},
    "weight_decay": {"low": 1e-3, "high": 0.5, "log": True},
    "n_embd": {"low": 192, "high": 768, "step": 64},
}
PARAMS = {"min_lr": "min_lr_ratio", "warmup_iters": "warmup_fraction"}
BASELINE = TrainConfig(
    n_layer=6,
    n_head=12,
    n_embd=384,
    block_size=256,
    vocab_size=2048,
    learning_rate=1e-3,
    min_lr=1e-4,
    warmup_iters=15,
    max_iters=600,
    lr_decay_iters=600,
    batch_size=16,
    gradient_accumulation_steps=1,
    eval_interval=20,
    seed=1337,
)


def study(**changes: Any) -> Study:
    """Return a study over `KNOBS` whose baseline is `BASELINE`."""
    schedule = ["learning_rate", "min_lr", "warmup_iters", "max_iters", "lr_decay_iters"]
    names = ["n_layer", "n_embd", "block_size", "batch_size", *schedule]
    settings = {name: getattr(BASELINE, name) for name in names}
    fields = {
        "name": "plateau",
        "tokenizer": {"type": "bpe", "vocab_size": 2048},
        "baseline": {**settings, "head_size": 32, "gradient_accumulation_steps": 1},
        "horizon": {"iters": 600},
        "knobs": KNOBS,
    }
    return Study.model_validate({**fields, **changes})


def config_of(params: Mapping[str, float | int]) -> TrainConfig:
    """Return the baseline with Optuna's parameters applied."""
    rate = float(params.get("learning_rate", BASELINE.learning_rate))
    width = int(params.get("n_embd", BASELINE.n_embd))
    plain = {name: value for name, value in params.items() if name in ("dropout", "weight_decay")}
    return BASELINE.replace(
        learning_rate=rate,
        min_lr=rate * float(params.get("min_lr_ratio", 0.1)),
        warmup_iters=round(600 * float(params.get("warmup_fraction", 0.025))),
        n_embd=width,
        n_head=width // 32,
        **plain,
    )


def params_of(config: TrainConfig) -> dict[str, float | int]:
    """Return a config's parameters as Optuna stores them."""
    return {
        "learning_rate": config.learning_rate,
        "min_lr_ratio": config.min_lr / config.learning_rate,
        "warmup_fraction": config.warmup_iters / config.max_iters,
        "dropout": config.dropout,
        "weight_decay": config.weight_decay,
        "n_embd": config.n_embd,
    }


def surface(config: TrainConfig) -> float:
    """Return the true final loss of a config, nats per token."""
    rate = math.log(config.learning_rate / 3e-3)
    return 3.4 + 0.07 * rate**2 + 0.9 * config.dropout**2 + 0.08 * math.log(384 / config.n_embd)


def points(
    config: TrainConfig, final: float, *, evaluations: int = EVALUATIONS, noise: float = 0.004
) -> tuple[Point, ...]:
    """Return a curve from ln(vocabulary) that falls as a power of the tokens and ends near `final`."""
    rng = np.random.default_rng(abs(hash((final, evaluations))) % 2**32)
    start, curve = math.log(config.vocab_size), []
    for index in range(evaluations + 1):
        step = index * config.eval_interval
        progress = step / config.max_iters
        remaining = ((1 + 60 * progress) ** -0.9 - 61**-0.9) / (1 - 61**-0.9)
        loss = final + (start - final) * remaining + float(rng.normal(0, noise)) * (index > 0)
        curve.append(
            Point(
                step=step,
                tokens=step * config.tokens_per_iter,
                train_loss=loss - 0.05 * progress,
                train_se=0.004,
                val_loss=loss,
                val_se=0.004,
                lr=config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_iters)),
                grad_norm=0.8 if index else None,
                tokens_per_s=40_000.0 if index else None,
                seconds=3.0 * index,
            )
        )
    return tuple(curve)


def stuck(curve: tuple[Point, ...], *, since: int) -> tuple[Point, ...]:
    """Return the curve, which from evaluation `since` on stays at that evaluation's loss, with noise."""
    fallen = [point.val_loss - curve[since].val_loss for point in curve]
    return tuple(
        dataclasses.replace(point, val_loss=curve[since].val_loss + math.remainder(1e3 * fall, 0.01))
        if index > since
        else point
        for index, (point, fall) in enumerate(zip(curve, fallen, strict=True))
    )


def run(number: int, origin: str = "sampler", **changes: Any) -> Run:
    """Return a complete run with the baseline's config and loss 3.5. `changes` replace Run's fields."""
    config = changes.get("config", BASELINE)
    loss = changes.get("val_loss", 3.5)
    fields: dict[str, Any] = {
        "id": number,
        "optuna_study": "plateau",
        "trial": number,
        "seed": 1337,
        "phase": "baseline" if origin == "baseline" else "search",
        "origin": origin,
        "label": f"trial {number}",
        "knob": None,
        "params": params_of(config),
        "config": config,
        "device": "cpu",
        "outcome": "complete",
        "reason": "",
        "val_loss": loss,
        "val_se": 0.002,
        "seconds": 93.0,
    }
    if "points" not in changes:
        fields["points"] = points(config, 3.5 if loss is None else loss)
    return Run(**{**fields, **changes})


def pruning(
    seen: Point, config: TrainConfig, *, predicted: float | None, best: float, margin: float = 0.03, **changes: Any
) -> Pruning:
    """Return the plateau rule's record at the evaluation `seen`, with a scale that makes the chance 1 %."""
    fields: dict[str, Any] = {
        "rule": "plateau",
        "reason": "dominated",
        "evaluation": math.ceil(seen.step / config.eval_interval),
        "step": seen.step,
        "val_loss": seen.val_loss,
        "sentinel": False,
        "completed": 20,
        "best": best,
        "epsilon": 0.02,
    }
    if predicted is not None:
        scale = (predicted - best - margin) / student.isf(0.01, 14)
        prediction = Prediction(mean=predicted, scale=scale, degrees=14.0)
        fields |= {"predicted": predicted, "scale": scale, "degrees": 14.0, "chance": 0.01}
        fields |= {"low": prediction.bound(0.02), "high": prediction.bound(0.98)}
    return Pruning(**{**fields, **changes})


def results(runs: Sequence[Run], **changes: Any) -> Results:
    """Return results with these runs. `changes` replace Results' fields."""
    fields: dict[str, Any] = {
        "study": study(),
        "data": DataFacts(
            path="/data/stdlib-bpe2048",
            fingerprint="5f0c1d2e" * 8,
            vocab_size=2048,
            train_tokens=6_900_000,
            val_tokens=380_000,
            bytes_per_token=3.1,
        ),
        "provenance": {
            "python": "3.11.2",
            "plateau-sweep": "0.1.0",
            "torch": "2.10.0",
            "commit": "3adf61e",
            "command": "sweep run studies/plateau.yaml --profile cpu",
        },
        "seconds": 4210.0,
    }
    return Results(runs=tuple(runs), **{**fields, **changes})


def family(
    baseline: Sequence[float], single_knob: Sequence[float], *, knob: str = "dropout", **changes: Any
) -> Results:
    """Return baseline seeds and single-knob runs with these final losses, without curves."""
    seeds = [
        run(i, "baseline", seed=1337 + i, val_loss=loss, points=(), optuna_study="plateau-confirm" if i else "plateau")
        for i, loss in enumerate(baseline)
    ]
    changed = BASELINE.replace(**{knob: 0.3})
    stars = [
        run(100 + i, "one-at-a-time", knob=knob, val_loss=loss, points=(), config=changed, label=f"{knob} at its high")
        for i, loss in enumerate(single_knob)
    ]
    return results([*seeds, *stars], **changes)


@functools.cache
def full(*, seeds: int = 3, trials: int = 30, noise: float = 0.006) -> Results:
    """Return a whole study: baseline seeds, three candidates, single-knob trials, and sampled trials of every outcome.

    Among the later trials of the sampler, hopeless trials are stopped, and merely bad trials are sentinels.
    """
    rng, doubt = np.random.default_rng(7), np.random.default_rng(11)
    runs: list[Run] = []

    def add(origin: str, label: str, config: TrainConfig, **changes: Any) -> None:
        loss = surface(config) + float(rng.normal(0, noise))
        number = len(runs)
        ended = changes.get("outcome", "complete") != "complete"
        fields = {"config": config, "label": label, "val_loss": None if ended else loss, "points": points(config, loss)}
        runs.append(run(number, origin, **{**fields, **changes}))

    for seed in range(seeds):
        home = "plateau-confirm" if seed else "plateau"
        add("baseline", f"baseline, seed {1337 + seed}", BASELINE, seed=1337 + seed, optuna_study=home)
    add("candidate", "candidate: learning_rate 0.0005, min_lr 5e-05", BASELINE.replace(learning_rate=5e-4, min_lr=5e-5))
    add("candidate", "candidate: warmup_iters 60", BASELINE.replace(warmup_iters=60))
    add("candidate", "candidate: dropout 0.2, weight_decay 0.2", BASELINE.replace(dropout=0.2, weight_decay=0.2))
    for knob, spec in KNOBS.items():
        param = PARAMS.get(knob, knob)
        for end in ("low", "high"):
            params = {**params_of(BASELINE), param: spec[end]}
            if params == params_of(BASELINE):
                continue
            label = f"{knob} at its {end}, {spec[end]:g}"
            add("one-at-a-time", label, config_of(params), params=params, knob=knob)
    for index in range(trials):
        params = {
            "learning_rate": float(math.exp(rng.uniform(math.log(1e-4), math.log(6e-3)))),
            "min_lr_ratio": float(rng.uniform(0, 0.3)),
            "warmup_fraction": float(rng.uniform(0.01, 0.2)),
            "dropout": float(rng.uniform(0, 0.3)),
            "weight_decay": float(math.exp(rng.uniform(math.log(1e-3), math.log(0.5)))),
            "n_embd": int(rng.integers(3, 13)) * 64,
        }
        config, label = config_of(params), f"trial {index + 16}"
        best = min(run.val_loss for run in runs if run.val_loss is not None)
        if index == 4:
            healthy = points(config, 4.0)[:9]
            burst = tuple(dataclasses.replace(p, val_loss=p.val_loss + 0.3 * i) for i, p in enumerate(healthy))
            reason = "loss 6.9 at iteration 160"
            add("sampler", label, config, params=params, outcome="diverged", reason=reason, points=burst)
        elif index == 9:
            reason = "needs 13.1 GB, and the device has 11.6 GB"
            add("sampler", label, config, params=params, outcome="infeasible", reason=reason, points=())
        elif index > 5 and surface(config) > 3.65:
            whole, end, word = points(config, surface(config)), surface(config), "dominated"
            cut = whole[: 8 + index % 5]
            if index % 3 == 0:
                cut, end, word = stuck(whole, since=6)[:21], whole[6].val_loss, "plateau-and-dominated"
            predicted = end + float(doubt.normal(0, 0.05))
            pruned = pruning(cut[-1], config, predicted=predicted, best=best, reason=word)
            reason = pruned.why
            add("sampler", label, config, params=params, outcome="pruned", reason=reason, points=cut, pruning=pruned)
        elif index > 5 and surface(config) > 3.55:
            seen = points(config, surface(config))[8 + index % 5]
            spared = pruning(
                seen, config, predicted=surface(config) + float(doubt.normal(0, 0.03)), best=best, sentinel=True
            )
            add("sampler", label, config, params=params, pruning=spared)
        else:
            add("sampler", label, config, params=params)
    return results(runs, study=study(trials=trials + 14))
