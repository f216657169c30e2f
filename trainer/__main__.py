"""One run without a sweep: `python -m trainer CONFIG --data DIR --out DIR`.

Prints nanoGPT's log lines. Run the same command again to go on where it stopped. Exit codes: 0 complete,
1 our fault, 2 the user's mistake, 3 diverged or out of memory, 130 interrupted.
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

from trainer import strict_yaml
from trainer.config import TrainConfig
from trainer.errors import ConfigError, UserError
from trainer.machine import cpu
from trainer.points import Answer, Point, Result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command to go on from the last checkpoint", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a nanoGPT config (.py, read as data) or YAML")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with train.bin and val.bin")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for checkpoints")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting (--set sampling=nanogpt)"
    )
    parser.add_argument("--points", type=Path, metavar="FILE", help="write losses and evaluations there, as JSON lines")
    return parser


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """A TrainConfig from a nanoGPT .py or a YAML mapping, with `key=value` overrides on top; ConfigError."""
    changes = dict(_override(text) for text in overrides)
    if path.suffix == ".py":
        return TrainConfig.from_nanogpt(path, **changes)
    settings = strict_yaml.read(path).value
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: a config is a mapping of settings, like 'n_layer: 6'")
    try:
        return TrainConfig.from_mapping({**settings, **changes})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: write --set key=value, like --set learning_rate=3e-4")
    if value in ("True", "False"):  # as nanoGPT's own command line takes them
        return key, value == "True"
    return key, strict_yaml.load(value, name=f"--set {key}").value


def _run(options: argparse.Namespace) -> int:
    config = read_config(options.config, options.set)
    from trainer.data.dataset import open_dataset  # the imports below take seconds: mistakes above are told at once
    from trainer.run.loop import train

    data = open_dataset(options.data)
    lines = _Lines(config, options.points)
    print(f"tokens per iteration will be: {config.tokens_per_iter:,}")
    try:
        result = train(config, data, lines.evaluation, out=options.out, on_iter=lines.iteration)
        lines.end(result)
    finally:
        lines.close()
    if result.outcome == "complete":
        return 0
    print(f"{result.outcome}: {result.reason}", file=sys.stderr)
    return 3


class _Lines:
    """nanoGPT's log lines on the terminal, JSON lines in the points file.

    The loop repeats a resumed run's history, so the file always holds the whole run, whatever was killed before.
    """

    def __init__(self, config: TrainConfig, path: Path | None) -> None:
        self._config = config
        self._file: TextIO | None = None
        self._held: dict[str, Any] | None = None
        self._clock = time.perf_counter()
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--points {path}: cannot be written: {error.strerror or error}") from error

    def iteration(self, step: int, loss: float) -> None:
        self._release()
        now = time.perf_counter()
        print(f"iter {step}: loss {loss:.4f}, time {(now - self._clock) * 1e3:.2f}ms", flush=True)
        self._clock = now
        self._write({"iter": step, "loss": loss})

    def evaluation(self, point: Point) -> Answer:
        print(f"step {point.step}: train loss {point.train_loss:.4f}, val loss {point.val_loss:.4f}", flush=True)
        self._held = {
            "step": point.step,
            "train_loss": point.train_loss,
            "val_loss": point.val_loss,
            "val_se": point.val_se,
        }
        if point.step < self._config.max_iters:  # the last one waits for the final loss
            self._release()
        return Answer.GO

    def end(self, result: Result) -> None:
        """The last evaluation's line carries the final loss, on the large window set."""
        if self._held is not None and result.val_loss is not None:
            self._held.update(val_loss=result.val_loss, val_se=result.val_se)
        if result.val_loss is not None:
            print(f"final: val loss {result.val_loss:.4f} ± {result.val_se:.4f} in {result.seconds:.1f} s")

    def close(self) -> None:
        self._release()
        if self._file is not None:
            self._file.close()

    def _release(self) -> None:
        if self._held is not None:
            self._write(self._held)
        self._held = None

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            finite = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in record.items()}
            print(json.dumps(finite), file=self._file, flush=True)


if __name__ == "__main__":
    cpu.restart_with_settings()
    sys.exit(main())
