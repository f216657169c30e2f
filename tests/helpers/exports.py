"""Small configs, data and runs to export, and nanoGPT's own reading of an exported config."""

from __future__ import annotations

import dataclasses
from ast import literal_eval
from pathlib import Path
from typing import Any

from sweeps.export.nanogpt_config import NanogptConfig, length_of, nanogpt_config
from sweeps.store.records import DataFacts, Results, Run
from sweeps.study.horizon import stretched
from sweeps.study.start import Origin
from tests.helpers import synthetic
from trainer import config_file, nanogpt
from trainer.config import TrainConfig

SMALL = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 8,
    "batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "max_iters": 600,
    "lr_decay_iters": 600,
    "warmup_iters": 15,
    "eval_interval": 20,
}


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**SMALL, **changes})


def data(path: str | Path = "/data/prepared", **changes: Any) -> DataFacts:
    facts = {
        "path": str(path),
        "fingerprint": "c0ffee",
        "vocab_size": 50304,
        "train_tokens": 1_000_000,
        "val_tokens": 50_000,
        "bytes_per_token": 4.2,
    }
    return DataFacts(**{**facts, **changes})


def as_config(tested: TrainConfig, *, iters: int | None = None, **options: Any) -> NanogptConfig:
    """Return a trial's settings as nanoGPT's config, at another length perhaps."""
    longer = tested if length_of(iters) is None else stretched(tested, iters=iters or 0)
    return nanogpt_config(longer, tested=tested, **options)


def run(number: int = 7, **changes: Any) -> Run:
    facts = {
        "id": number,
        "optuna_study": "plateau",
        "trial": number,
        "seed": 1337,
        "phase": "search",
        "origin": "sampler",
        "label": "a trial",
        "knob": None,
        "params": {},
        "config": config(),
        "device": "cuda:0",
        "outcome": "complete",
        "reason": "",
        "val_loss": 3.25,
        "val_se": 0.0125,
        "seconds": 1.0,
        "points": (),
    }
    return Run(**{**facts, **changes})


def results(*runs: Run, **provenance: str) -> Results:
    return Results(study=synthetic.study(), data=data(), runs=runs, provenance=provenance, seconds=1.0)


def branch_results(
    *runs: Run,
    folder: str = "/data/prepared",
    checkpoint: str | Path = "/origin/ckpt.pt",
    sha256: str = "a" * 64,
    own: dict[str, Any] | None = None,
) -> Results:
    """Return the results of a study that starts from a checkpoint after 4000 of 6000 iterations."""
    knobs = {name: synthetic.KNOBS[name] for name in ("learning_rate", "min_lr", "dropout", "weight_decay")}
    schedule = {"learning_rate": 1e-3, "min_lr": 1e-4, "warmup_iters": 150, "lr_decay_iters": 6000, "max_iters": 6000}
    shape = {name: SMALL[name] for name in ("n_layer", "n_embd", "block_size", "batch_size")}
    study = synthetic.study(
        start={"checkpoint": str(checkpoint)}, knobs=knobs, baseline={**shape, **schedule, "head_size": 8}
    )
    origin = Origin(
        checkpoint=str(checkpoint),
        sha256=sha256,
        step=4000,
        learning_rate=3e-4,
        val_loss=3.6,
        plateau="plateau",
        since=2500,
        settings=config().as_dict(),
        own=own or {},
        going_on=0.02,
    )
    found = study.model_copy(update={"origin": origin})
    return dataclasses.replace(results(*runs), study=found, data=data(folder))


def nanogpt_configurator(text: str, *arguments: str) -> dict[str, Any]:
    """Return nanoGPT's globals after its configurator.py has read a config file and --key=value arguments."""
    namespace: dict[str, Any] = dict(nanogpt.DEFAULTS)
    exec(text, namespace)  # noqa: S102  # it is what nanoGPT does, and the text is ours
    del namespace["__builtins__"]
    for argument in arguments:
        assert argument.startswith("--")
        key, value = argument.split("=")
        key = key[2:]
        if key not in namespace:
            raise ValueError(f"Unknown config key: {key}")
        try:
            attempt = literal_eval(value)
        except (SyntaxError, ValueError):
            attempt = value
        assert type(attempt) is type(namespace[key])
        namespace[key] = attempt
    return namespace


def comments(text: str) -> str:
    """Return the comments of a config, unwrapped: one space between words."""
    return " ".join(" ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#")).split())


def read(text: str, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "config.py"
    path.write_bytes(text.encode("ascii"))
    return config_file.read_config(path)
