"""Sources of a diagnosis: logs, standard input, a config, a checkpoint and the size of the data."""

from __future__ import annotations

import dataclasses
import math
import os
import selectors
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeps.diagnose.content import LARGEST, text_of
from sweeps.diagnose.log import EXPECTED, read_log, read_log_file
from sweeps.diagnose.measured import Given
from sweeps.diagnose.run import LoggedPoint, LoggedRun
from sweeps.errors import LogError
from trainer import config_file
from trainer.errors import ConfigError

STDIN = "-"
_NAME = "standard input"
_PAUSE = 0.5
"""seconds without a line after which a live log is diagnosed"""
_CHUNK = 2**20


def read_given(
    *,
    config: Path | None = None,
    checkpoint: Path | None = None,
    data: Path | None = None,
    tokens: int | None = None,
    card: str | None = None,
) -> Given:
    """Read what the user adds to a log.

    Raises LogError, ConfigError, CheckpointError or DataError for a file that can't be read, and ConfigError if the
    data's size is given twice.
    """
    if data is not None and tokens is not None:
        raise ConfigError(f"--tokens {tokens}: --data {data} says how many there are; leave one out")
    given = Given(card=card, data_tokens=tokens)
    notes: list[str] = []
    if checkpoint is not None:
        from trainer.run.origin import read_origin  # torch takes seconds to import

        origin = read_origin(checkpoint.expanduser())
        loss = origin.best_val_loss if math.isfinite(origin.best_val_loss) else None
        given = dataclasses.replace(
            given,
            settings=origin.settings,
            vocab_size=origin.vocab_size,
            checkpoint_step=origin.iter_num,
            checkpoint_loss=loss,
        )
        notes += [f"{checkpoint}: {note}." for note in origin.notes]
    if config is not None:
        reading = config_file.read_file(config)
        if not reading.settings:
            raise ConfigError(f"--config {config}: has no line such as 'learning_rate = 6e-4' that nanoGPT knows")
        notes += [f"{config}:{line}: {remark}; passed over." for line, remark in reading.remarks.items()]
        given = dataclasses.replace(given, settings={**given.settings, **reading.settings})
    if data is not None:
        from trainer.data.dataset import open_dataset

        dataset = open_dataset(data)
        given = dataclasses.replace(
            given,
            data_tokens=dataset.train.tokens,
            bytes_per_token=dataset.bytes_per_token,
            vocab_size=given.vocab_size or dataset.vocab_size,
        )
    return dataclasses.replace(given, notes=tuple(notes))


def checked(names: Sequence[str], *, checkpoint: Path | None) -> tuple[str, ...]:
    """Return the logs' names. Raises LogError without a log or checkpoint, or if - stands beside other logs."""
    if not names and checkpoint is None:
        raise LogError("there is nothing to diagnose; give a log, - for standard input, or --ckpt out/ckpt.pt")
    if STDIN in names and len(names) > 1:
        raise LogError("- reads standard input and can't stand beside other logs; give it alone")
    return tuple(names)


def readings(names: Sequence[str], given: Given, *, checkpoint: Path | None) -> Iterator[list[LoggedRun]]:
    """Yield the runs of the logs, in order: once, or again and again for a live log. Raises LogError."""
    if not names and checkpoint is not None:
        yield [checkpoint_run(checkpoint, given)]
    elif names[0] == STDIN:
        if sys.stdin is None:  # closed (`<&-`); by now its number may be that of another file
            raise LogError(f"{_NAME} is closed; name a log, or pipe one in: tail -f LOG | sweep diagnose -")
        yield from live_runs(0)
    else:
        yield read_logs(names)


def read_logs(names: Sequence[str]) -> list[LoggedRun]:
    """Read the runs of all logs, in order. Raises LogError that names every log that can't be read."""
    found: list[LoggedRun] = []
    wrong: list[str] = []
    for name in names:
        try:
            found += read_log_file(Path(name).expanduser())
        except LogError as error:
            wrong.append(str(error))
    if wrong:
        raise LogError("\n".join(wrong))
    return found


def checkpoint_run(path: Path, given: Given) -> LoggedRun:
    """Return the run that a checkpoint alone tells of: one evaluation, its best."""
    step = given.checkpoint_step or 0
    loss = LoggedPoint(step=step, train_loss=None, val_loss=given.checkpoint_loss, lr=None, line=0)
    return LoggedRun(
        name=str(path),
        trainer="nanoGPT",
        points=(loss,),
        iters=(),
        bits=(),
        settings={},
        parameters=None,
        tokens_per_iter=None,
        vocab_size=None,
        resumed_at=(),
        lines=(0, 0),
        notes=("A checkpoint has no curve: its best validation loss is all that is known of the losses.",),
    )


def live_runs(stream: int) -> Iterator[list[LoggedRun]]:
    """Yield the runs of a log that is being written to a file descriptor.

    They are read when the writer pauses after a new evaluation, and at the end. Raises LogError at the end if there is
    no loss, and at once for more than `LARGEST` bytes.
    """
    data = bytearray()
    shown = -1
    with selectors.DefaultSelector() as selector:
        live = _selectable(selector, stream)
        while True:
            if live and not selector.select(_PAUSE):
                text = bytes(data[: data.rfind(b"\n") + 1])
                try:
                    found = read_log(text_of(text, name=_NAME, expected=EXPECTED), name=_NAME)
                except LogError:
                    found = ()  # not yet
                losses = sum(len(run.points) + len(run.bits) for run in found)
                if found and losses > shown:
                    yield list(found)
                    shown = losses
                selector.select()
            try:
                chunk = os.read(stream, _CHUNK)
            except OSError as error:
                raise LogError(f"{_NAME}: cannot be read: {error.strerror or error}") from error
            if not chunk:
                break
            data += chunk
            if len(data) > LARGEST:
                text_of(bytes(data), name=_NAME, expected=EXPECTED)
    found = read_log(text_of(bytes(data), name=_NAME, expected=EXPECTED), name=_NAME)
    if sum(len(run.points) + len(run.bits) for run in found) > shown or shown < 0:
        yield list(found)


def _selectable(selector: selectors.BaseSelector, stream: int) -> bool:
    """Register a stream. Returns False for a file, which never keeps one waiting."""
    try:
        selector.register(stream, selectors.EVENT_READ)
    except (PermissionError, ValueError):
        return False
    return True
