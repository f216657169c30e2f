"""One run without a sweep: `python -m trainer CONFIG --data DIR --out DIR`.

Prints nanoGPT's log lines. An interrupted run resumes when the same command is started again. Exit codes: 0 complete,
1 a bug, 2 the user's mistake, 3 diverged or out of memory, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from trainer import config_file, strict_yaml
from trainer.config import TrainConfig
from trainer.errors import ConfigError, UserError
from trainer.machine import cpu
from trainer.points import Answer, Point, Result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to resume from the last checkpoint", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a nanoGPT config (.py, read as data) or YAML")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with train.bin and val.bin")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for checkpoints")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting (--set sampling=nanogpt)"
    )
    parser.add_argument(
        "--origin",
        type=Path,
        metavar="CKPT",
        help="checkpoint to branch from: weights and moments are its own; --set init_from=resume goes on at its step",
    )
    parser.add_argument(
        "--points", type=Path, metavar="FILE", help="write losses and evaluations to FILE as JSON lines"
    )
    return parser


def read_config(path: Path, overrides: Sequence[str] = (), *, origin: Path | None = None) -> TrainConfig:
    """Read a config from a nanoGPT .py file or a YAML mapping, then apply `key=value` overrides. Raises ConfigError.

    With `origin`, a checkpoint or its folder, the run branches from it unless an override says otherwise.
    """
    changes = {**_branching_from(origin), **dict(_override(text) for text in overrides)}
    if path.suffix == ".py":
        config = TrainConfig.from_nanogpt(path, **changes)
        for line, text in config_file.read_file(path).remarks.items():
            print(f"note: {path}:{line}: {text}", file=sys.stderr)
        return config
    settings = strict_yaml.read(path).value
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: is not a mapping of settings; write lines like 'n_layer: 6'")
    try:
        return TrainConfig.from_mapping({**settings, **changes})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _branching_from(origin: Path | None) -> dict[str, Any]:
    if origin is None:
        return {}
    from trainer.digest import sha256_of
    from trainer.run.origin import checkpoint_file  # torch takes seconds to import

    return {"init_from": "branch", "origin": sha256_of(checkpoint_file(origin))}


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: write --set key=value, like --set learning_rate=3e-4")
    if value in ("True", "False"):  # nanoGPT's command line spells booleans in Python
        return key, value == "True"
    return key, strict_yaml.load(value, name=f"--set {key}").value


def _run(options: argparse.Namespace) -> int:
    config = read_config(options.config, options.set, origin=options.origin)
    from trainer.data.dataset import (
        open_dataset,
    )  # imported late: torch takes seconds, a config's mistakes show at once
    from trainer.run.loop import train

    data = open_dataset(options.data)
    log = _Log(config, options.points)
    print(f"tokens per iteration will be: {config.tokens_per_iter:,}")
    try:
        result = train(config, data, log.evaluation, out=options.out, origin=options.origin, on_iter=log.iteration)
        log.end(result)
    finally:
        log.close()
    if result.outcome == "complete":
        return 0
    print(f"{result.outcome}: {result.reason}", file=sys.stderr)
    return 3


class _Log:
    """Writer of nanoGPT's log lines to the terminal and of JSON lines to the points file.

    The loop replays a resumed run's history, so the points file always holds the whole run.
    """

    def __init__(self, config: TrainConfig, path: Path | None) -> None:
        self._config = config
        self._file: TextIO | None = None
        self._pending: dict[str, Any] | None = None  # the last evaluation's record, not written yet
        self._clock = time.perf_counter()
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--points {path}: cannot be written: {error.strerror or error}") from error

    def iteration(self, step: int, loss: float) -> None:
        """Log one iteration's training loss."""
        self._flush()
        now = time.perf_counter()
        print(f"iter {step}: loss {loss:.4f}, time {(now - self._clock) * 1e3:.2f}ms", flush=True)
        self._clock = now
        self._write({"iter": step, "loss": loss})

    def evaluation(self, point: Point) -> Answer:
        """Log an evaluation."""
        print(f"step {point.step}: train loss {point.train_loss:.4f}, val loss {point.val_loss:.4f}", flush=True)
        self._pending = {
            "step": point.step,
            "train_loss": point.train_loss,
            "val_loss": point.val_loss,
            "val_se": point.val_se,
        }
        if point.step < self._config.max_iters:  # the last evaluation waits for the final loss
            self._flush()
        return Answer.GO

    def end(self, result: Result) -> None:
        """Put the final loss, on the large window set, into the last evaluation's record."""
        if self._pending is not None and result.val_loss is not None:
            self._pending.update(val_loss=result.val_loss, val_se=result.val_se)
        if result.val_loss is not None:
            print(f"final: val loss {result.val_loss:.4f} ± {result.val_se:.4f} in {result.seconds:.1f} s")

    def close(self) -> None:
        """Write the pending record and close the points file."""
        self._flush()
        if self._file is not None:
            self._file.close()

    def _flush(self) -> None:
        if self._pending is not None:
            self._write(self._pending)
        self._pending = None

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            finite = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in record.items()}
            print(json.dumps(finite), file=self._file, flush=True)


if __name__ == "__main__":
    cpu.restart_with_settings()
    sys.exit(main())
